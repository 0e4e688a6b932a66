"""The page in a real browser: real data, light and dark, no script, a phone's width, a keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from regrow.engine import Engine
from regrow.web.app import create_app
from tests.conftest import lacking
from tests.servers import Missing, RedisServer
from tests.web import scene
from tests.web.browsing import faults
from tests.web.conftest import KEY, MakeEngine
from tests.web.picture import on_stage
from tests.web.serving import serving


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The scene at the moment it was painted, for all who only look."""
    try:
        with on_stage() as engine:
            painted_at = engine.clock()
            engine.clock = lambda: painted_at
            with serving(create_app(engine)) as address:
                yield address
    except Missing as reason:
        lacking("redis", str(reason))


@pytest.fixture
def empty_address(make_engine: MakeEngine, redis_url: str, sqlite_url: str) -> Iterator[str]:
    engine = make_engine(redis_url, sqlite_url)
    engine.database.upgrade()
    with serving(create_app(engine)) as address:
        yield address


class Watched:
    """A page whose complaints (console, policy violations, failed requests) are kept."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def goto(self, url: str) -> Page:
        answer = self.page.goto(url)
        assert answer is not None
        assert answer.status == 200, answer.status
        return self.page


def luminance(colour: str) -> float:
    """WCAG relative luminance of ``rgb(r, g, b)``."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def style(page: Page, selector: str, name: str, part: str = "") -> str:
    look = f"element => getComputedStyle(element, '{part}')['{name}']"
    return str(page.eval_on_selector(selector, look))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_overview_shows_the_scene_readably_and_without_a_complaint(
    browser: Browser, address: str, scheme: str
) -> None:
    watched = Watched(browser.new_context(color_scheme=scheme, viewport={"width": 1180, "height": 900}))
    page = watched.goto(address)
    assert page.title() == "Degraded · Regrow"
    assert page.inner_text("h1") == "It holds, but not everything is well."
    assert page.locator(".notices li").count() == 7
    assert page.locator(".jobs > .card").count() == 6
    assert page.locator(".checks tbody tr").count() == len(scene.SEEN)
    assert "Removed 243 files, freed 187.4 MB" in page.inner_text(".jobs")
    assert "in 4 d" in page.inner_text("[aria-labelledby=capacity] tbody"), "when the disk is full"
    assert "Payments is down" in page.inner_text(".incidents tbody")
    assert "Letter too old: letters" in page.inner_text("[aria-labelledby=incidents]")
    paper = style(page, "body", "backgroundColor")
    assert (luminance(paper) < 0.1) == (scheme == "dark")
    assert contrast(style(page, "body", "color"), paper) > 12
    for status in ("healthy", "degraded", "unhealthy", "unknown"):
        badge = f".checks .badge.{status}"
        ratio = contrast(style(page, badge, "color"), style(page, badge, "backgroundColor"))
        assert ratio >= 4.5, (status, ratio)
    for selector in ("td.saw", "footer", ".card dt", "caption"):
        assert contrast(style(page, selector, "color"), paper) >= 4.5, selector
    assert watched.complaints == []
    assert all(url.startswith(address) for url in watched.asked)


def test_status_is_told_by_shape_and_word_besides_colour(browser: Browser, address: str) -> None:
    page = Watched(browser.new_context()).goto(address)
    drawn = {
        status: page.locator(f".checks .badge.{status} svg").first.inner_html()
        for status in ("healthy", "degraded", "unhealthy", "unknown")
    }
    assert len(set(drawn.values())) == 4
    for status in drawn:
        assert page.locator(f".checks .badge.{status}").first.inner_text() == status
    assert "repeating-linear-gradient" in style(page, ".checks .badge.unknown", "backgroundImage", "::before")
    assert style(page, ".checks .badge.healthy", "backgroundImage", "::before") == "none"


def test_without_javascript_everything_is_there(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = Watched(context).goto(address)
    assert page.locator(".checks tbody tr").count() == len(scene.SEEN)
    page.get_by_role("link", name="Reports", exact=True).click()
    assert page.locator(".reports tbody tr").count() == 3
    assert page.locator("script").count() == 0


PAGES = ("/", "/slos", "/incidents", "/incidents/incident-1", "/incidents/incident-1/acknowledge", "/alerts",
         "/alerts/why?name=alert-1", "/reports")  # fmt: skip


@pytest.mark.parametrize(
    ("scheme", "width", "rules"),
    [
        ("light", 1180, ()),
        ("dark", 1180, ("color-contrast",)),
        ("light", 390, ("scrollable-region-focusable",)),
    ],
)
def test_no_page_has_a_fault_that_axe_finds(
    browser: Browser, address: str, scheme: str, width: int, rules: tuple[str, ...]
) -> None:
    size = {"width": width, "height": 900}
    with browser.new_context(color_scheme=scheme, bypass_csp=True, viewport=size) as context:
        page = context.new_page()
        for path in PAGES:
            page.goto(address + path)
            assert faults(page, *rules) == [], path


@pytest.mark.parametrize("path", ["/slos", "/incidents/incident-1", "/alerts"])
def test_the_other_pages_are_used_by_keyboard_and_ask_nobody_else(
    browser: Browser, address: str, path: str
) -> None:
    with browser.new_context() as context:
        watched = Watched(context)
        page = watched.goto(address + path)
        wanted = set(page.eval_on_selector_all("a, button, summary", "all => all.map(one => one.outerHTML)"))
        reached = set()
        for _ in range(page.locator("a, button, summary, [tabindex]").count()):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.outerHTML"))
        assert wanted <= reached
        assert watched.complaints == []
        assert all(url.startswith(address) for url in watched.asked)


@pytest.mark.parametrize("path", ["/", "/reports", "/sign-in", "/slos", "/incidents/incident-1", "/alerts"])
def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser, address: str, path: str) -> None:
    page = Watched(browser.new_context(viewport={"width": 390, "height": 844})).goto(address + path)
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width == 390
    page.set_viewport_size({"width": 320, "height": 600})
    assert page.evaluate("document.documentElement.scrollWidth") == 320


def test_the_structure_makes_sense_to_a_screen_reader(browser: Browser, address: str) -> None:
    page = Watched(browser.new_context()).goto(address)
    levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(one => Number(one.tagName[1]))")
    assert levels.count(1) == 1
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    for role in ("banner", "navigation", "main", "contentinfo"):
        assert page.get_by_role(role).count() == 1, role
    assert page.locator("table").count() == page.locator("table > caption").count() == 7
    assert page.locator("th:not([scope])").count() == 0
    assert page.locator("time:not([datetime])").count() == 0
    assert page.locator("svg:not([aria-hidden])").count() == 0
    assert page.eval_on_selector_all(
        "section[aria-labelledby]",
        "all => all.every(one => document.getElementById(one.getAttribute('aria-labelledby')))",
    )
    assert page.eval_on_selector_all("[id]", "all => all.length === new Set(all.map(one => one.id)).size")


def test_the_keyboard_reaches_everything_and_sees_where_it_is(browser: Browser, address: str) -> None:
    page = Watched(browser.new_context()).goto(address)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    reached = set()
    for _ in range(page.locator("a, button, input, [tabindex]").count()):
        reached.add(page.evaluate("document.activeElement.outerHTML"))
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
        page.keyboard.press("Tab")
    wanted = set(
        page.eval_on_selector_all("a, button, input, [tabindex]", "all => all.map(one => one.outerHTML)")
    )
    assert wanted <= reached


def test_a_notice_leads_to_the_place_that_tells_more(browser: Browser, address: str) -> None:
    page = Watched(browser.new_context()).goto(address)
    anchors = page.eval_on_selector_all(".notices a", "all => all.map(one => one.getAttribute('href'))")
    assert anchors
    for anchor in anchors:
        assert page.locator(f"h2{anchor}").count() == 1


def test_the_page_can_keep_itself_fresh_and_stop(browser: Browser, address: str) -> None:
    page = Watched(browser.new_context()).goto(address)
    assert page.locator("meta[http-equiv=refresh]").count() == 0
    page.get_by_role("link", name="Refresh every 15 s").click()
    assert page.get_attribute("meta[http-equiv=refresh]", "content") == "15"
    page.get_by_role("link", name="Stop refreshing").click()
    assert page.locator("meta[http-equiv=refresh]").count() == 0


def test_reports_open_with_their_styles_and_without_a_complaint(browser: Browser, address: str) -> None:
    watched = Watched(browser.new_context())
    page = watched.goto(address)
    page.locator(".reports tbody th a").first.click()
    assert "report" in page.inner_text("h1").lower()
    assert style(page, "body", "maxWidth") not in {"none", ""}
    assert watched.complaints == []


def test_empty_stores_greet_kindly_and_call_nothing_healthy(browser: Browser, empty_address: str) -> None:
    watched = Watched(browser.new_context())
    page = watched.goto(empty_address)
    assert page.inner_text("h1") == "Not everything is known."
    text = page.inner_text("main")
    for kind in ("Nothing is known about any check", "never ran yet", "No app has used a circuit breaker yet",
                 "No message has failed for good", "No report yet", "No incident is open", "No alert is firing"):  # fmt: skip
        assert kind in text
    assert page.locator(".healthy").count() == 0
    assert watched.complaints == []


def test_when_everything_went_silent_the_page_turns_grey(browser: Browser, painted: Engine) -> None:
    now = painted.clock
    painted.clock = lambda: now() + timedelta(days=2)
    with serving(create_app(painted)) as address:
        page = Watched(browser.new_context()).goto(address)
        assert page.inner_text("h1") == "Not everything is known."
        assert page.locator(".checks .badge:not(.unknown)").count() == 0
        assert page.locator(".jobs .badge:not(.unknown)").count() == 0
        assert "overdue" in page.inner_text(".jobs")


def test_a_store_that_is_away_is_hatched_not_green(
    browser: Browser, make_engine: MakeEngine, own_redis: RedisServer, sqlite_url: str
) -> None:
    engine = make_engine(own_redis.url, sqlite_url)
    engine.database.upgrade()
    scene.paint(engine)
    with serving(create_app(engine)) as address:
        own_redis.kill()
        watched = Watched(browser.new_context())
        page = watched.goto(address)
        assert "The circuit breakers cannot be read just now" in page.inner_text("main")
        assert "repeating-linear-gradient" in style(page, ".away", "backgroundImage", "::before")
        assert watched.complaints == []


def test_signing_in_with_a_real_browser(browser: Browser, make_engine: MakeEngine, painted: Engine) -> None:
    secrets = painted.settings
    engine = make_engine(
        secrets.redis.url.get_secret_value(),
        secrets.database.url.get_secret_value(),
        REGROW_PROFILE="production",
        CELERY_BROKER_URL=secrets.redis.url.get_secret_value(),
    )
    with serving(create_app(engine)) as address:
        context = browser.new_context()
        watched = Watched(context)
        page = watched.goto(f"{address}/reports")
        assert page.url == f"{address}/sign-in?then=/reports"
        assert page.locator("nav").count() == 0

        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        assert "That is not the key" in page.inner_text("[role=alert]")

        page.get_by_label("API key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        assert page.url == f"{address}/reports"
        assert page.evaluate("document.cookie") == ""
        assert [cookie["sameSite"] for cookie in context.cookies()] == ["Strict"]

        page.get_by_role("button", name="Sign out").click()
        assert page.url == f"{address}/sign-in"
        watched.page.goto(address)
        assert "/sign-in" in watched.page.url
