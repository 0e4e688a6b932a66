"""Requests that apps answered: how many, how many failed, how long they took, by service and minute.

The way of a request: the middleware counts it in memory (``minutes``); every few seconds the thread of the
tallies tells Redis what each minute of this process amounts to (``telling``); a job adds the processes up and
keeps the minute, and later its hour, in the table ``request_rollups`` (``folding``, ``store``); whoever wants
to know reads windows of it (``reading``). Every step overwrites what is there with more of the same, so that
one that is done twice counts once.
"""
