"""Ten minutes of outage with 20,000 letters for one service, on a virtual clock: ``make proof``.

    python -m tests.proof.outage [--letters 20000]

See :mod:`tests.dead_letters.outage` for what is real and what is played. Ends with the contract's line, and
exit status 0 only when no attempt was burnt, nothing parked, nothing left, and the rate never exceeded.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from pathlib import Path

import structlog

from regrow.engine import Engine
from regrow.settings import load_settings
from tests.dead_letters import outage
from tests.dead_letters.conftest import Clock, Post

RATE, BURST = 100, 20
LIVE, CAPACITY = 60, 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--letters", type=int, default=20_000)
    letters = parser.parse_args().letters
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    logging.disable(logging.WARNING)  # there is no Redis, and each batch would say so
    clock, post, began = Clock(), Post(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rg-outage-") as folder:
        environ = {
            "REGROW_PROFILE": "production",
            "REGROW_HOME": folder,
            "REGROW_REDIS_URL": "redis://127.0.0.1:1/0",
            "REGROW_DATABASE_URL": f"sqlite:///{Path(folder) / 'regrow.sqlite3'}",
            "REGROW_DEAD_LETTERS__RATE": str(RATE),
            "REGROW_DEAD_LETTERS__BURST": str(BURST),
        }
        engine = Engine(load_settings(environ=environ), sender=post, clock=clock)
        engine.database.upgrade()
        seen = outage.play(engine, clock, post, letters, live=LIVE, capacity=CAPACITY)
        engine.close()
    kept = all(seen.most_in(seconds) <= RATE * seconds + BURST for seconds in (1, 10, 60))
    print(
        f"outage of {outage.OUTAGE:g} s, {letters} letters, live traffic {LIVE}/s of {CAPACITY}/s\n"
        f"leased while open      {seen.leased_while_open}\n"
        f"attempts burnt         {seen.burnt}\n"
        f"refused by the breaker {seen.refused}\n"
        f"parked                 {seen.parked}\n"
        f"breaker closed after   {seen.closed_at:.0f} s, all settled {seen.drained_at - seen.closed_at:.0f} s later\n"
        f"most sent in 1, 10, 60 s: {seen.most_in(1)}, {seen.most_in(10)}, {seen.most_in(60)}"
        f" (rate {RATE}/s, burst {BURST})\n"
        f"live calls waited      {seen.usual_wait():.2f} s (95%), {seen.longest_wait():.2f} s at most\n"
        f"{time.monotonic() - began:.0f} s of real time"
    )
    lost = letters - seen.resolved
    print(f"PROOF outage kills=0 accepted={letters} settled={seen.resolved} lost={lost} twice=0")
    return 0 if kept and not (lost or seen.leased_while_open or seen.burnt or seen.parked) else 1


if __name__ == "__main__":
    sys.exit(main())
