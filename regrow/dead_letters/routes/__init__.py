"""The ways home, one file each; see :mod:`regrow.dead_letters.route` for what they have in common."""

from __future__ import annotations

from regrow.dead_letters.home import find_home
from regrow.dead_letters.route import Route
from regrow.dead_letters.routes.celery_task import BROKER, CeleryTask
from regrow.dead_letters.store import Letter
from regrow.engine import Engine

__all__ = ["BROKER", "find"]


def find(engine: Engine, letter: Letter) -> Route:
    """The way home of a letter: what is declared for its message type, else where it came from.

    RouteError, with how to declare one, when there is none.
    """
    declared = {kind: (to.task, to.queue) for kind, to in engine.settings.dead_letters.routes.items()}
    home = find_home(letter.task, letter.queue, letter.message_type, declared)
    return CeleryTask(engine, home, "publish" if letter.confirm == "publish" else "outcome")
