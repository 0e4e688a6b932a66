"""Recovery functions as an app might have them."""

from __future__ import annotations

import os
import time

from regrow.recovery import Recovery


def tell(recovery: Recovery) -> str:
    return f"{recovery.service} {recovery.attempt} {os.getpid()}"


def no(_recovery: Recovery) -> bool:
    return False


def broken(_recovery: Recovery) -> None:
    raise RuntimeError("the host is gone")


def hang(_recovery: Recovery) -> None:
    time.sleep(100)
