"""The web process: health endpoints, metrics, reports and the page, out of Redis and the database.

``python -m regrow.web`` runs it; :func:`regrow.web.app.create_app` makes the ASGI application.
"""
