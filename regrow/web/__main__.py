"""``python -m regrow.web``: settings, logging, the start-up gate, then the page until somebody stops it."""

from __future__ import annotations

import os
import signal
import socket
import sys

import structlog
import uvicorn

from regrow import drain
from regrow.configuration import configure
from regrow.dependencies import wait_for_dependencies
from regrow.engine import Engine
from regrow.errors import RegrowError, SettingsError
from regrow.logs import configure_logging
from regrow.settings import Settings, load_settings
from regrow.settings.reloading import Reloader
from regrow.settings.sources import config_path
from regrow.startup import DependencyMissingError
from regrow.web.app import create_app

logger = structlog.get_logger("regrow.web")

NOT_STARTED_EXIT = 69  # EX_UNAVAILABLE, as worker and beat


def main() -> int:
    """Serve until SIGTERM or SIGINT; 0 after a clean stop.

    69 when what it needs did not come in time, 1 when it could not start for another reason.
    """
    try:
        # It looks at the file before that is read: what changes while we wait at the gate is a change.
        reloader = Reloader(_anew, config_path(None, os.environ))
        settings = load_settings()
        configure_logging(
            settings.log.level, settings.log.format, production=settings.profile == "production"
        )
        waiting = Engine(settings)
        wait_for_dependencies(waiting)
        waiting.close()
        listening = listen(settings.web.host, settings.web.port)
    except DependencyMissingError as error:
        logger.critical("startup.failed", error=str(error))
        return NOT_STARTED_EXIT
    except RegrowError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return serve(settings, listening, reloader)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; SettingsError with the remedy when the address cannot be had."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as error:
        raise SettingsError(
            f"web.port: cannot listen on {host}:{port} ({error.strerror or error}). "
            "Choose another port with REGROW_PORT, or another web.host."
        ) from None


def _anew() -> Settings:
    """The settings as this process reads them, for a regrow.toml that has changed."""
    return impatient(load_settings())


def serve(settings: Settings, listening: socket.socket, reloader: Reloader) -> int:
    """Run the server on this socket until a signal; it drains first, and goes on listening meanwhile."""
    engine = Engine(impatient(settings), reloader=reloader)
    ours = drain.this_process()
    ours.process = "web"
    told = settings.shutdown
    ours.set_times(timeout=told.timeout, notice=told.notice, linger=told.linger)
    configure(redis_url=settings.redis.url.get_secret_value())  # where the end of the drain is told
    config = uvicorn.Config(
        create_app(engine, ours, drain_on_signals=True),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=max(1, int(settings.shutdown.timeout)),
        h11_max_incomplete_event_size=32 * 1024,
    )
    server = uvicorn.Server(config)
    # Before it serves, and so before the drain listens, a signal ends it as cleanly: exit 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: setattr(server, "should_exit", True))
    logger.info("web.starting", host=settings.web.host, port=settings.web.port)
    try:
        server.run(sockets=[listening])
    finally:
        engine.close()
    logger.info("web.stopped")
    return 0 if server.started else 1


def impatient(settings: Settings) -> Settings:
    """These settings with waits that fit a page: somebody is looking at it."""
    redis, database = settings.redis, settings.database
    return settings.model_copy(
        update={
            "redis": redis.model_copy(
                update={
                    "socket_timeout": min(redis.socket_timeout, 2.0),
                    "connect_timeout": min(redis.connect_timeout, 1.0),
                }
            ),
            "database": database.model_copy(
                update={
                    "connect_timeout": min(database.connect_timeout, 2.0),
                    "statement_timeout": min(database.statement_timeout, 5.0),
                    "pool_timeout": min(database.pool_timeout, 2.0),
                }
            ),
        }
    )


if __name__ == "__main__":
    sys.exit(main())
