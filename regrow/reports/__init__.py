"""Reliability reports: what the checks, jobs, breakers and dead letters of a period add up to.

``rules`` is the arithmetic, ``sources`` reads the facts, ``model`` makes the JSON of them, ``render_*``
print it, ``store`` keeps it, ``service`` is what tasks, web and command line call.
"""
