"""Debian's Chromium under playwright, without a word to the network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; LookupError when none is installed."""
    binary = shutil.which("chromium")
    if binary is None:
        raise LookupError("no chromium on the path: run `make services` as root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


STRICT = {
    "resultTypes": ["violations", "incomplete"],
    "checks": {"color-contrast": {"options": {"ignoreUnicode": False}}},  # the signs of a strip, too
}


def faults(page: Page, *rules: str) -> list[str]:
    """What axe-core finds wrong (by these rules, or all), and what it cannot decide: nobody else has.

    Where a policy forbids scripts, the page's context bypasses it.
    """
    only = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = Axe().run(page, options={**STRICT, **only}).response
    return [
        f"{kind}: {rule['id']}: {node['html'][:120]}"
        for kind in ("violations", "incomplete")
        for rule in found[kind]
        for node in rule["nodes"]
    ]
