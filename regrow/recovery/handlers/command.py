"""A command: argv without a shell, bounded in time and output, its whole process group ended with it.

It sees PATH, HOME, LANG and what its own ``env`` says, nothing of the worker's environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from regrow.engine import Engine
from regrow.health.rules import without_secrets
from regrow.recovery import warden
from regrow.recovery.model import Acted, Recovery
from regrow.redaction import Redactor
from regrow.settings.recovery import CommandHandler

GRACE = 2.0
"""Seconds from the polite signal to the one that is not."""
KEEP = 4000
"""Bytes of output that are kept: the last ones."""
_SHORTEST_SECRET = 4
_INHERITED = ("PATH", "HOME", "LANG", "TZ")
_FACTS = ("service", "attempt", "trigger")


def act(handler: CommandHandler, recovery: Recovery, engine: Engine) -> Acted:
    del engine
    secrets = {name: value.get_secret_value() for name, value in handler.env.items()}
    told = {f"REGROW_RECOVERY_{name.upper()}": str(getattr(recovery, name)) for name in _FACTS}
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return run(
        handler.argv,
        timeout=handler.timeout,
        cwd=handler.cwd or "/",
        env={**inherited, **told, **secrets},
        secrets=secrets.values(),
    )


def target(handler: CommandHandler) -> str:
    """The program and how many arguments it has: the arguments themselves may hold secrets."""
    program, number = handler.argv[0], len(handler.argv) - 1
    return f"run {program}" + (f" with {number} argument{'s' * (number > 1)}" if number else "")


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    cwd: str,
    env: Mapping[str, str],
    secrets: Iterable[str] = (),
) -> Acted:
    """Run a command under a warden. ``secrets`` are hidden in what is kept of its output."""
    spec = {
        "argv": list(argv),
        "cwd": cwd,
        "env": dict(env),
        "timeout": timeout,
        "grace": GRACE,
        "keep": KEEP,
    }
    answer = _ask_warden(json.dumps(spec), timeout + 2 * GRACE + 3)
    if answer is None:
        return Acted(ok=False, message=f"nobody told within {timeout:g} s what became of the command")
    output = _hidden(str(answer["output"]), secrets)
    evidence = {
        "argv": [argv[0]],
        "arguments": len(argv) - 1,
        "exit": answer["exit"],
        "end": answer["end"],
        "output": output,
    }
    ok = answer["end"] == "exited" and answer["exit"] == 0
    last = without_secrets(output.strip().splitlines()[-1]) if output.strip() else ""
    return Acted(ok, _words(answer, timeout) + (f": {last}" if last else ""), evidence)


def _words(answer: Mapping[str, Any], timeout: float) -> str:
    match answer["end"]:
        case "timed_out":
            return f"not done within {timeout:g} s, ended with all it had started"
        case "not_started":
            return "could not be started"
        case "orphaned":
            return "ended, because its worker was going down"
    code = answer["exit"]
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"


def _ask_warden(spec: str, patience: float) -> dict[str, Any] | None:
    """The warden's answer; None when there is none in time. It ends with us, and all it started with it."""
    with subprocess.Popen(  # noqa: S603 - our own program; the command is argv of the settings
        [sys.executable, "-I", str(Path(warden.__file__))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={},
    ) as process:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
        answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        stdout = process.stdout
        threading.Thread(target=lambda: answers.put(stdout.readline()), daemon=True).start()
        try:
            process.stdin.write(spec.encode() + b"\n")
            process.stdin.flush()
            line = answers.get(timeout=patience)
            return json.loads(line) if line else None
        except (queue.Empty, BrokenPipeError):
            process.kill()  # its command dies with it
            return None
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()


def _hidden(output: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if len(secret) >= _SHORTEST_SECRET:
            output = output.replace(secret, "***")
    return Redactor().text(output)
