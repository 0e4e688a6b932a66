"""A report in a real browser: light and dark, by keyboard, for screen readers, and without the network."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route

from regrow.reports.render_html import content_security_policy, html
from tests.conftest import lacking
from tests.reports.scene import shown
from tests.web.browsing import chromium, faults

ADDRESS = "http://report.test/"
LIGHT, DARK = "rgb(255, 255, 255)", "rgb(20, 25, 30)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        with chromium() as browser:
            yield browser
    except LookupError as reason:
        lacking("chromium", str(reason))


class Shown:
    """A report, served with its policy to a page that nothing else answers."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.complaints: list[str] = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.route("**/*", self._answer)
        page.goto(ADDRESS)

    def _answer(self, route: Route) -> None:
        self.asked.append(route.request.url)
        if route.request.url != ADDRESS:
            route.abort()
            return
        text = html(shown(), "0" * 64)
        headers = {"Content-Security-Policy": content_security_policy(text)}
        route.fulfill(body=text, content_type="text/html; charset=utf-8", headers=headers)


@pytest.mark.parametrize(("scheme", "background"), [("light", LIGHT), ("dark", DARK)])
def test_a_report_shows_under_its_own_policy_and_asks_for_nothing(
    browser: Browser, scheme: str, background: str
) -> None:
    with browser.new_context(color_scheme=scheme) as context:
        shown_ = Shown(context.new_page())
        assert shown_.asked == [ADDRESS]
        assert shown_.complaints == []
        found = shown_.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert found == background
        cell = "getComputedStyle(document.querySelector('td')).paddingTop"
        assert shown_.page.evaluate(cell) == "6px", "the policy lets the elements' own styles through"


@pytest.mark.parametrize(("scheme", "rules"), [("light", ()), ("dark", ("color-contrast",))])
def test_a_report_has_no_fault_that_axe_finds(browser: Browser, scheme: str, rules: tuple[str, ...]) -> None:
    with browser.new_context(color_scheme=scheme, bypass_csp=True) as context:
        assert faults(Shown(context.new_page()).page, *rules) == []


def test_a_report_is_read_by_keyboard_and_by_its_names(browser: Browser) -> None:
    with browser.new_context(viewport={"width": 360, "height": 700}) as context:
        page = Shown(context.new_page()).page
        assert page.get_by_role("img", name="Error budgets").count() == 1
        assert page.get_by_role("img", name="16 min up, 12 min down, 32 min up").count() == 1
        table = page.get_by_role("region", name="Uptime, table")
        assert table.get_by_role("rowheader", name="payments").count() == 1
        assert table.get_by_role("columnheader", name="coverage").count() == 1
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.ariaLabel") == "Uptime, table"
        wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(wide), "on a phone tables scroll, the page does not"
