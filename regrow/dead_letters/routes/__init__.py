"""The ways home, one file each; see :mod:`regrow.dead_letters.route` for what they have in common."""

from __future__ import annotations

from typing import Literal

from regrow.dead_letters.home import Home
from regrow.dead_letters.route import Route
from regrow.dead_letters.routes import amqp
from regrow.dead_letters.routes.brokers import BROKER, declared_broker
from regrow.dead_letters.routes.celery_task import CeleryTask
from regrow.dead_letters.routes.handler import HandlerCall, unloadable
from regrow.dead_letters.routes.webhook import Webhook
from regrow.dead_letters.store import Addressed
from regrow.engine import Engine
from regrow.errors import RouteError
from regrow.settings.routes import AmqpRoute, CeleryRoute, HandlerRoute, WebhookRoute

__all__ = ["BROKER", "find", "unloadable"]


def find(engine: Engine, letter: Addressed) -> Route:
    """The way home of a letter: what is declared for its message type, else where it came from.

    RouteError, with how to declare one, when there is none.
    """
    match engine.settings.dead_letters.routes.get(letter.message_type):
        case HandlerRoute() as declared:
            return HandlerCall(engine, declared, letter.service)
        case WebhookRoute() as declared:
            return Webhook(engine, declared, letter.service)
        case AmqpRoute() as declared:
            return amqp.as_declared(engine, declared, letter)
        case CeleryRoute() as declared:
            return _declared_task(engine, declared, letter)
    return _where_it_came_from(engine, letter)


def _declared_task(engine: Engine, declared: CeleryRoute, letter: Addressed) -> CeleryTask:
    # On another broker nobody may tell the outcome; whoever knows better says confirm = "outcome".
    otherwise = "publish" if declared.broker else _said(letter)
    home = Home(declared.queue, declared.task)
    return CeleryTask(engine, home, declared.confirm or otherwise, declared.broker)


def _said(letter: Addressed) -> Literal["outcome", "publish"]:
    return "publish" if letter.confirm == "publish" else "outcome"


def _where_it_came_from(engine: Engine, letter: Addressed) -> Route:
    if letter.task:
        home = Home(letter.queue or "celery", letter.task)
        return CeleryTask(engine, home, _said(letter), declared_broker(engine, letter.broker))
    if back := amqp.back_to_its_queue(engine, letter):
        return back
    raise RouteError(
        f"no way home for message type {letter.message_type!r}: declare "
        f"[dead_letters.routes.{letter.message_type}], or capture it with task=... and queue=..."
    )
