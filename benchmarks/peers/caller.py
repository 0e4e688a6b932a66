"""One process of the fleet: ``python -m benchmarks.peers.caller '{...}'`` calls the backend 100 times a second.

Says ``ready``, waits for a line with the (monotonic) second to begin at, calls until its input ends, then
tells as JSON what became of each call: ``[[second, "ok" | "failed" | "refused" | "error"], ...]``.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections import Counter

from benchmarks.peers import Policy, guarding

EVERY = 0.01  # seconds between two calls


class BackendFailed(Exception):
    """What the backend answered."""


def main() -> None:
    told = json.loads(sys.argv[1])
    stop = threading.Event()
    with (
        socket.create_connection(("127.0.0.1", told["backend"])) as backend,
        guarding(told["contender"], told["redis"], Policy(**told["policy"])) as guard,
    ):
        backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        me = bytes([told["index"]])

        def call() -> None:
            backend.sendall(me)
            if backend.recv(1) != b"+":
                raise BackendFailed

        guarded = guard.decorate(call)
        print("ready", flush=True)
        due = float(sys.stdin.readline()) + told["index"] * EVERY / told["callers"]
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        became: list[tuple[float, str]] = []
        errors: Counter[str] = Counter()
        while not stop.is_set():
            pause = due - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            due = max(due + EVERY, time.monotonic() - EVERY)  # late is late: no burst to catch up
            began = time.monotonic()
            try:
                guarded()
                what = "ok"
            except BackendFailed:
                what = "failed"
            except guard.refusals:
                what = "refused"
            except Exception as error:
                what = "error"
                errors[f"{type(error).__name__}: {error}"] += 1
            became.append((began, what))
        print(json.dumps({"calls": became, "errors": dict(errors)}), flush=True)


if __name__ == "__main__":
    main()
