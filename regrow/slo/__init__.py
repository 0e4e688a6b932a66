"""Service level objectives: where a check's time went, what was promised, and what is left of the budget.

``ledger``, ``budget``, ``burn``, ``backtest``, ``times``, ``requests`` and ``objectives`` are the arithmetic.
"""
