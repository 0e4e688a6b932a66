"""Free ports on loopback. Nothing here listens anywhere else."""

from __future__ import annotations

import socket

from worker.stack.errors import StackError

LOOPBACK = "127.0.0.1"
_SPAN = 100


def obstacle(port: int) -> str | None:
    """Why a server could not listen on ``port`` now; None when it could.

    Connections in TIME_WAIT are no obstacle: the page comes back on its port right after a crash.
    """
    with socket.socket() as probe:
        probe.settimeout(0.5)
        # A server on all addresses of this host would be reached through loopback as well.
        if probe.connect_ex((LOOPBACK, port)) == 0:
            return "is taken by another program"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except PermissionError:
            return "needs privileges that this user does not have"
        except OSError as error:
            return f"cannot be used ({error.strerror})"
    return None


def choose(port: int, *, given_by: str | None) -> int:
    """The port for the page: ``port``, or the next free one unless somebody asked for exactly this one.

    ``given_by`` names the place it was asked for in, for the error.
    """
    if given_by is not None:
        if (reason := obstacle(port)) is None:
            return port
        raise StackError(
            f"port {port} {reason}, and {given_by} asks for exactly this one. End that program, choose "
            "another port, or leave it unset: then the next free one from 8000 on is used."
        )
    for candidate in range(port, min(port + _SPAN, 65536)):
        if obstacle(candidate) is None:
            return candidate
    raise StackError(
        f"no port from {port} to {port + _SPAN - 1} is free. Name one that is: REGROW_PORT=9000 make run"
    )


def any_free() -> int:
    """A port that the kernel says is free."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
