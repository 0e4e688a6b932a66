"""Health: probes that are run when due, results that say how old they are, and a verdict over all of them.

``rules`` decide (no I/O), ``checks`` probe (one kind a file), ``sweep`` runs probes at once, ``store`` keeps
results in Redis and in the database, ``service`` is what tasks, pages and reports call.
"""
