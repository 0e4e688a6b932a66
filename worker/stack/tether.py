"""Ties a program to its supervisor. ``python -I -S tether.py SUPERVISOR_PID [--watch] PROGRAM [ARGUMENT...]``

Started as a script before every child, so it imports nothing of ours and costs some 15 ms.

On Linux the kernel does the work: we ask for SIGKILL at the parent's death, and become the program.
Elsewhere (or with ``--watch``) we stay, as the program's parent: we pass signals on, look twice a second
whether the supervisor lives, and take the whole process group with us when it does not.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from types import FrameType

_PR_SET_PDEATHSIG = 1
_LOOK = 0.5
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
ORPHANED = 75
"""Exit status when the supervisor was gone before the program began."""


def main(arguments: list[str]) -> int:
    supervisor, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux" and command[0] != "--watch":
        return _become(supervisor, command)
    return _watch(supervisor, command[1:] if command[0] == "--watch" else command)


def _become(supervisor: int, command: list[str]) -> int:
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The supervisor may have died before the request: then nobody would ever send the signal.
    if os.getppid() != supervisor:
        return ORPHANED
    return _execute(command)


def _watch(supervisor: int, command: list[str]) -> int:
    child = os.fork()
    if child == 0:
        os._exit(_execute(command))

    def pass_on(number: int, _frame: FrameType | None) -> None:
        os.kill(child, number)

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return _end_like(status)
        if os.getppid() != supervisor:
            os.killpg(0, signal.SIGKILL)
        time.sleep(_LOOK)


def _execute(command: list[str]) -> int:
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming the program is the point
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        return 127


def _end_like(status: int) -> int:
    """End as the program did, so that the supervisor sees a killed child as killed."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
