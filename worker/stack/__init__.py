"""The one-command local stack: Valkey, database, worker, beat and page under one supervisor.

What happens, in order (``python -m worker``):

1. ``home``       the state folder is made ready, locked against a second supervisor, and swept of leftovers
2. ``plan``       the settings say what to run: a Valkey of our own or a given Redis, which port, which key
3. ``valkey``     the live store starts, is asked PING, and the database is migrated
4. ``supervisor`` starts worker, beat and page, waits until each answers (``probes``), says ``ready URL``
5. ``rules``      decide what a crash means: a restart after a pause, or giving up loudly
6. a signal stops all in the reverse of their need: beat, worker (drains), page, Valkey

``processes`` and ``tether`` keep one promise throughout: no child outlives the supervisor.
"""
