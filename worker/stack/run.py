"""One life of the local stack, from the first look at the settings to the last child's end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from types import FrameType

from regrow.engine import Engine
from regrow.errors import RegrowError
from regrow.logs import configure_logging
from worker.stack import database, leftovers, probes, valkey
from worker.stack.console import Console
from worker.stack.errors import StopRequested
from worker.stack.home import Home
from worker.stack.plan import Plan, Wish, make
from worker.stack.rules import STARTING
from worker.stack.starter import still_wanted
from worker.stack.supervisor import GaveUpError, Post, Supervisor

_SAME_REQUEST = 1.0
"""Seconds: a signal to our group and the same one passed on by make are one request."""
FIRST_LOOKS = 30.0
"""Seconds at most until the checks have been looked at; one that cannot be known holds nothing up longer."""


class Requests:
    """Counts requests to stop: Ctrl-C, SIGTERM, a closed terminal."""

    def __init__(self) -> None:
        self.count = 0
        self._last = float("-inf")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # `nohup make run` is meant to stay
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last > _SAME_REQUEST:
            self.count += 1
            self._last = now


def run(environ: Mapping[str, str], console: Console) -> int:
    """Run the stack until it is stopped (0) or a child does not stay up (1).

    RegrowError when it cannot even begin: wrong settings, a taken port, an unwritable folder.
    """
    requests, wanted = Requests(), still_wanted(environ)
    wish = Wish.of(environ)
    home = Home(wish.home)
    home.prepare()
    with home.locked():
        home.withdraw()
        for told in leftovers.sweep(home.leftovers):
            console.say(f"regrow: ended a leftover of a stack that was killed: {told}")
        plan = make(wish, home)
        settings = plan.settings
        production = settings.profile == "production"
        console.machine = settings.log.format == "json" or (settings.log.format == "auto" and production)
        configure_logging(settings.log.level, settings.log.format, production=production)
        home.note_holder(plan.url)
        return _live(plan, home, console, lambda: max(requests.count, int(not wanted())))


def _live(plan: Plan, home: Home, console: Console, stop_asked: Callable[[], int]) -> int:
    engine = Engine(plan.settings)
    supervisor = Supervisor(home, console, plan.token, stop_asked, STARTING)
    status = 1
    try:
        _bring_up(plan, home, console, supervisor, engine)
        supervisor.policy = plan.policy
        supervisor.watch()
    except StopRequested:
        status = 0
        console.say("regrow: stopping; the worker finishes what it has in hand (once more to hurry it)")
    except GaveUpError as error:
        console.alarm(error.headline, error.details)
    except RegrowError as error:
        console.alarm("the stack cannot start", [str(error)])
    finally:
        home.withdraw()
        supervisor.stop()
        engine.close()
        console.say("regrow: stopped")
    return status


def _bring_up(plan: Plan, home: Home, console: Console, supervisor: Supervisor, engine: Engine) -> None:
    began = time.monotonic()
    timeout = plan.settings.startup.timeout
    console.say(f"regrow: starting on {home.path} (profile {plan.settings.profile})")
    if plan.server is not None:
        plan.server.configure()
        supervisor.start([_valkey_post(plan, plan.server, engine)])
        supervisor.wait_until_up(["valkey"], timeout)
    database.make_ready(engine, supervisor.rest)
    console.say(f"  database is ready ({time.monotonic() - began:.1f} s)")
    children = plan.children()
    ask = {
        "worker": probes.heartbeat(engine.redis, "worker"),
        "beat": probes.heartbeat(engine.redis, "beat"),
        "web": probes.page(plan.port),
    }
    supervisor.start(Post(child, ask[child.name]) for child in children)
    supervisor.wait_until_up([child.name for child in children], timeout)
    supervisor.wait_while(lambda: probes.not_known(engine), FIRST_LOOKS)
    if missing := probes.not_known(engine):
        console.say(f"  not known yet: {', '.join(missing)}; the page says why")
    home.publish(plan.joining(home))
    _announce(plan, home, console, time.monotonic() - began)


def _valkey_post(plan: Plan, server: valkey.Server, engine: Engine) -> Post:
    child = plan.valkey(server)
    return Post(child, probes.valkey(engine.redis), lambda last_words: valkey.explain(last_words, server))


def _announce(plan: Plan, home: Home, console: Console, seconds: float) -> None:
    key = plan.joining(home)["API_KEY"] if plan.key_made_here else "the one you gave"
    console.say(f"regrow: all up after {seconds:.1f} s. Ctrl-C stops it.")
    console.say(f"  API key  {key}")
    console.say(f"  join in  set -a; . {home.stack_env}; set +a")
    console.say(f"ready {plan.url}")
