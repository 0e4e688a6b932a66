"""How often a message came back from workers that did not end it, counted in Redis for a day.

A message is named by its task's id and number of retries.
"""

from __future__ import annotations

from typing import Any

COUNTED_FOR = 86_400


def message_name(task_id: str, retries: int | None) -> str:
    return f"{task_id}:{retries or 0}"


def count(client: Any, message: str) -> int:
    """One more redelivery; how many there were within a day of the last."""
    return _add(client, message, 1)


def forgive(client: Any, message: str) -> None:
    """It is handed back on purpose: that says nothing of the message, however often it happens."""
    _add(client, message, -1)


def _add(client: Any, message: str, number: int) -> int:
    key = f"regrow:{{deliveries}}:{message}"
    with client.pipeline(transaction=True) as pipe:
        pipe.incrby(key, number)
        pipe.expire(key, COUNTED_FOR)
        return int(pipe.execute()[0])
