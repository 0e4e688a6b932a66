"""Children of the proof: one that is forked for a piece of work and may be killed, one that lives on."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.proof.cases import Fate
from tests.proof.steps import Steps

if TYPE_CHECKING:
    from tests.proof.house import House


@dataclass
class Child:
    pid: int
    _pipe: int
    _steps: Steps
    _status: int | None = None

    def stopped(self) -> bool:
        """Wait until it has stopped itself (True) or ended (False)."""
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self._status = status
        return False

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> Fate:
        with os.fdopen(self._pipe) as pipe:
            told = [json.loads(line) for line in pipe]
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        said = [line["said"] for line in told if "said" in line]
        steps, last = self._steps.passed, self._steps.last
        if os.WIFSIGNALED(self._status) and os.WTERMSIG(self._status) == signal.SIGKILL:
            return Fate(True, steps, last, said)
        end = told[-1] if told else {}
        if "value" not in end:
            raise AssertionError(f"the child failed after {steps} steps ({last}):\n{end.get('error')}")
        return Fate(False, steps, last, said, end["value"])


class Steward:
    """A child that lives on and does the work that nobody hurts: one method of the house at a time."""

    def __init__(self, house: House) -> None:
        self._ours, theirs = multiprocessing.Pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._ours.close()
            try:
                house.settle_in()
                _serve(house, theirs)
            finally:
                os._exit(0)
        theirs.close()

    def __call__(self, name: str, *arguments: Any, **options: Any) -> Any:
        self._ours.send((name, arguments, options))
        value, error = self._ours.recv()
        if error is not None:
            raise AssertionError(f"{name}: {error}")
        return value

    def close(self) -> None:
        self._ours.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _serve(house: House, requests: Any) -> None:
    while True:
        try:
            name, arguments, options = requests.recv()
        except EOFError:
            return
        try:
            requests.send((getattr(house, name)(*arguments, **options), None))
        except Exception:
            requests.send((None, traceback.format_exc()[-6000:]))
