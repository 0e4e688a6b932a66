"""What to run, read from settings and environment: values only, nothing is started here."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from regrow.settings import Settings, load_settings
from regrow.settings.sources import Layers, gather
from worker.stack import leftovers, ports
from worker.stack.home import Home
from worker.stack.processes import Child
from worker.stack.rules import RUNNING, TESTING, RestartPolicy
from worker.stack.valkey import NOISE, Server, binary

PROFILE = "development"

STOP_ORDER = ("beat", "worker", "web", "valkey")
"""No new work, then the work in hand, then those who look on; the store that all need goes last."""

_AFTER_DRAIN = 15.0
"""Seconds beyond the drain's own limit: the worker ends itself before we have to."""
_ENVIRONMENT = "environment variable"
_ROOTS = "REGROW_TEMP_FILES__ROOTS"


@dataclass(frozen=True)
class Wish:
    """What was asked for, before anything of it has been found or started."""

    environ: Mapping[str, str]
    layers: Layers

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Wish:
        """Read settings files and ``environ``.

        Without ``REGROW_PROFILE`` the profile is ``development``, whatever a settings file says: that one
        may be shared with production.
        """
        environ = {key: value for key, value in environ.items() if key != leftovers.TOKEN}
        environ["REGROW_PROFILE"] = environ.get("REGROW_PROFILE") or PROFILE
        return cls(environ, gather(None, None, environ))

    @property
    def home(self) -> Path:
        return Path(str(self.layers.get(("home",)) or "var"))

    @property
    def redis_given(self) -> bool:
        """Whether somebody named a Redis, by itself or as the broker, which then serves for both."""
        broker = self.layers.get(("celery", "broker_url"))
        return bool(self.layers.get(("redis", "url"))) or str(broker).startswith(("redis://", "rediss://"))

    def port(self) -> int:
        """A port that the page can have: the one the environment names, else near that of the settings."""
        origin = self.layers.origin(("web", "port"))
        text = str(self.layers.get(("web", "port")))
        if not text.isdecimal() or not 1 <= int(text) <= 65535:
            # Wrong values are told by the settings themselves, in their own words.
            load_settings(environ=self.environ)
        return ports.choose(int(text), given_by=origin if origin.startswith(_ENVIRONMENT) else None)


@dataclass(frozen=True)
class Plan:
    """Everything that is decided before the first child starts."""

    settings: Settings
    environment: Mapping[str, str]
    """For every child."""
    server: Server | None
    """Our own Valkey; None when a Redis was given."""
    port: int
    key_made_here: bool
    token: str

    @property
    def url(self) -> str:
        return f"http://{ports.LOOPBACK}:{self.port}"

    @property
    def policy(self) -> RestartPolicy:
        """What crashes mean once the stack is ready."""
        return TESTING if self.settings.profile == "testing" else RUNNING

    def valkey(self, server: Server) -> Child:
        return Child("valkey", (binary(), str(server.configuration)), self.environment, noise=NOISE)

    def children(self) -> tuple[Child, ...]:
        """Worker, beat and page; they may start together."""
        celery = (sys.executable, "-m", "celery", "--quiet", "-A", "worker")
        level = f"--loglevel={self.settings.log.level}"
        # Alone on its broker, a worker need not look for others (a second saved at every start).
        alone = ("--without-gossip", "--without-mingle")
        node = f"--hostname=regrow-{self.port}@%h"
        drain = self.settings.shutdown.timeout + _AFTER_DRAIN
        return (
            Child("worker", (*celery, "worker", node, level, *alone), self.environment, patience=drain),
            # Its schedule is in Redis, and its process id is ours to know.
            Child("beat", (*celery, "beat", level, "--pidfile="), self.environment),
            Child("web", (sys.executable, "-m", "regrow.web"), self.environment),
        )

    def joining(self, home: Home) -> dict[str, str]:
        """The variables with which other programs join this stack."""
        settings = self.settings
        key = settings.web.api_key
        return {
            "REGROW_URL": self.url,
            "REGROW_REDIS_URL": settings.redis.url.get_secret_value(),
            "REGROW_DATABASE_URL": settings.database.url.get_secret_value(),
            "CELERY_BROKER_URL": settings.celery.broker_url.get_secret_value(),
            "CELERY_RESULT_BACKEND": settings.celery.result_backend.get_secret_value(),
            "REGROW_HOME": str(home.path),
            "REGROW_PROFILE": settings.profile,
            "API_KEY": key.get_secret_value() if key else "",
        }


def make(wish: Wish, home: Home) -> Plan:
    """Find port, key and store for what was wished. StackError or SettingsError when that cannot be had."""
    port = wish.port()
    token = secrets.token_urlsafe(12)
    environment = {
        **wish.environ,
        leftovers.TOKEN: token,
        "REGROW_HOME": str(home.path),
        "REGROW_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
    }
    server = None
    if not wish.redis_given:
        server = Server(home.valkey, ports.any_free(), secrets.token_urlsafe(24))
        environment["REGROW_REDIS_URL"] = server.url
    if not wish.layers.get(("database", "url")):
        environment["REGROW_DATABASE_URL"] = f"sqlite:///{home.database}"
    if not wish.layers.get(("temp_files", "roots")):
        # Something to clean, so that the job can be seen at work: files put there go after a day.
        environment[_ROOTS] = json.dumps([{"path": str(home.temp_files), "max_age": 86_400}])
    key_made_here = not wish.layers.get(("web", "api_key"))
    if key_made_here:
        environment["API_KEY"] = home.api_key()
    return Plan(load_settings(environ=environment), environment, server, port, key_made_here, token)
