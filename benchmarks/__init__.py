"""Measurements of what Regrow promises and of what it costs: ``make bench``, ``make bench-NAME``.

One module a measurement, named for it, with a docstring of one line and a function ``measure()`` that returns
its :class:`benchmarks.reach.Reach` values. ``python -m benchmarks`` finds them.
"""
