"""The supervisor: starts the children in order, watches them, restarts them, stops them in order.

One thread, looking five times a second. What a crash means is decided in ``rules``; here it is done.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from worker.stack import leftovers
from worker.stack.console import Console
from worker.stack.errors import StackError, StopRequested
from worker.stack.home import Home
from worker.stack.plan import STOP_ORDER
from worker.stack.probes import Probe
from worker.stack.processes import Child, Process, describe
from worker.stack.rules import Exit, GiveUp, RestartPolicy, decide

log = structlog.get_logger(__name__)

LOOK = 0.2
_PROBE_EVERY = 0.25
_HASTE = 1.0
"""Seconds that a child has left after somebody asked a second time. Valkey has no hurry: it keeps data."""
_UNHURRIED = "valkey"


@dataclass
class Post:
    """A place that a child fills: who is in it now, and how those before it ended."""

    child: Child
    probe: Probe
    explain: Callable[[list[str]], str | None] = lambda _lines: None
    """A cause and remedy from the child's last lines, where another start would not help."""
    process: Process | None = None
    exits: list[Exit] = field(default_factory=list)
    restart_at: float | None = None
    amiss: str | None = "not started"
    """What the last probe found; None when it is up."""
    probed: float = 0.0


class GaveUpError(StackError):
    """A child does not stay up."""

    def __init__(self, headline: str, details: list[str]) -> None:
        super().__init__(headline)
        self.headline = headline
        self.details = details


class Supervisor:
    """Runs posts. Every method is called from the main thread.

    ``stop_asked`` says how often a stop was asked for: once means in order, twice means in haste.
    """

    def __init__(
        self, home: Home, console: Console, token: str, stop_asked: Callable[[], int], policy: RestartPolicy
    ) -> None:
        self.policy = policy
        self._home = home
        self._console = console
        self._token = token
        self._stop_asked = stop_asked
        self._posts: dict[str, Post] = {}

    def start(self, posts: Iterable[Post]) -> None:
        """Start these, without waiting for them."""
        for post in posts:
            self._posts[post.child.name] = post
            self._fill(post)

    def wait_until_up(self, names: Iterable[str], timeout: float) -> None:
        """Return when each probe of ``names`` has found its child up; StackError after ``timeout`` seconds.

        Crashes meanwhile are answered as ever. StopRequested when somebody asks to stop.
        """
        began = time.monotonic()
        posts = [self._posts[name] for name in names]
        while True:
            told = {post.child.name for post in posts if post.amiss is None}
            self._look_after()
            for post in posts:
                if post.amiss is None and post.child.name not in told:
                    self._console.say(f"  {post.child.name} is up ({time.monotonic() - began:.1f} s)")
            missing = {post.child.name: post.amiss for post in posts if post.amiss is not None}
            if not missing:
                return
            if time.monotonic() - began > timeout:
                found = "; ".join(f"{name}: {amiss}" for name, amiss in missing.items())
                raise StackError(
                    f"not up within {timeout:g} s: {found}. The log above may say why; "
                    "STARTUP_TIMEOUT sets this limit."
                )
            self.rest()

    def wait_while(self, condition: Callable[[], object], timeout: float) -> None:
        """Look after the children while ``condition()`` holds, for ``timeout`` seconds at most."""
        end = time.monotonic() + timeout
        while condition() and time.monotonic() < end:
            self._look_after()
            self.rest()

    def watch(self) -> NoReturn:
        """Look after the children until StopRequested, when somebody asks to stop."""
        while True:
            self._look_after()
            self.rest()

    def rest(self, seconds: float = LOOK) -> None:
        """Sleep a moment; StopRequested when somebody asked to stop."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if self._stop_asked():
                raise StopRequested
            time.sleep(min(LOOK, left))
        if self._stop_asked():
            raise StopRequested

    def stop(self) -> None:
        """End all children, one after the other in their order, each with the patience it is owed."""
        enough = min(self._stop_asked(), 1)
        for name in STOP_ORDER:
            post = self._posts.get(name)
            if post is not None and post.process is not None:
                self._end(post.process, in_haste=lambda: self._stop_asked() > enough)
                post.process = None
        self._home.leftovers.unlink(missing_ok=True)

    def _look_after(self) -> None:
        for post in self._posts.values():
            if post.process is not None and (code := post.process.exit_code()) is not None:
                self._bury(post, post.process, code)
            elif post.restart_at is not None and time.monotonic() >= post.restart_at:
                self._fill(post)
            elif post.process is not None and post.amiss is not None:
                self._probe(post, post.process)

    def _fill(self, post: Post) -> None:
        post.restart_at = None
        post.amiss = "starting"
        post.process = Process(post.child, self._console.log)
        running = (other.process for other in self._posts.values() if other.process is not None)
        leftovers.write_down(
            self._home.leftovers, self._token, [leftovers.Mark.of(process.pid) for process in running]
        )

    def _probe(self, post: Post, process: Process) -> None:
        if time.monotonic() - post.probed < _PROBE_EVERY:
            return
        post.amiss = post.probe(process)
        post.probed = time.monotonic()
        if post.amiss is None and post.exits:
            log.info("child.back", child=post.child.name, pid=process.pid)

    def _bury(self, post: Post, process: Process, code: int) -> None:
        """A child has ended that should not have: start another, now or later, or give up."""
        name = post.child.name
        last_words = process.last_words()
        post.process = None
        post.amiss = f"ended ({describe(code)})"
        post.exits.append(Exit(process.started, time.monotonic(), code))
        if reason := post.explain(last_words):
            raise GaveUpError(f"{name} cannot run", [reason])
        decision = decide(self.policy, post.exits)
        if isinstance(decision, GiveUp):
            raise GaveUpError(*_why(name, decision, last_words))
        post.restart_at = decision.at
        log.warning(
            "child.ended",
            child=name,
            pid=process.pid,
            how=describe(code),
            after=round(post.exits[-1].lasted, 1),
            restart_in=round(decision.at - time.monotonic(), 1),
            restart=f"{decision.number} of {decision.of}",
        )

    def _end(self, process: Process, in_haste: Callable[[], bool]) -> None:
        name = process.child.name
        asked = time.monotonic()
        limit = asked + process.child.patience
        process.signal(signal.SIGTERM)
        while process.exit_code() is None:
            now = time.monotonic()
            if in_haste() and name != _UNHURRIED:
                limit = min(limit, now + _HASTE)
            if now > limit:
                log.warning("child.killed", child=name, pid=process.pid, waited=round(now - asked, 1))
                process.kill()
                return
            time.sleep(0.05)
        log.info("child.stopped", child=name, seconds=round(time.monotonic() - asked, 1))


def _why(name: str, decision: GiveUp, last_words: list[str]) -> tuple[str, list[str]]:
    """Headline and details of giving up."""
    ends = ", ".join(f"{describe(exit_.code)} after {exit_.lasted:.1f} s" for exit_ in decision.exits)
    return (
        f"giving up: {name} ended {len(decision.exits)} times in a row",
        [f"its ends: {ends}", "its last lines:", *(f"    {line}" for line in last_words or ["(none)"])],
    )
