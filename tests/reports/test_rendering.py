"""Reports as people read them: nothing from outside becomes markup, nothing is told by colour alone."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from regrow.reports import model, wording
from regrow.reports.render_html import content_security_policy, html
from regrow.reports.render_markdown import escaped, markdown
from regrow.reports.rules import Transition
from regrow.reports.sources import Check, Facts, Job, Resource, ServiceRecovery, Snapshot
from regrow.slo import ledger
from regrow.slo.ledger import Sample, State

START = datetime(2026, 3, 1, 11, tzinfo=UTC)
END = START + timedelta(hours=1)
HOSTILE = "<script>alert(1)</script>\"'&|`[x](javascript:y)\n# h\x1b[31m\u202eevil"


def report(name: str = "redis", states: str = "u") -> dict[str, Any]:
    words = {"u": "healthy", "g": "degraded", "d": "unhealthy", "x": "unknown"}
    samples = tuple(
        Sample(START + timedelta(minutes=minute), words[states[minute * len(states) // 60]], 60.0)
        for minute in range(60)
    )
    cut = ledger.spans(samples, START, END)
    facts = Facts(
        start=START,
        end=END,
        checks=(Check(name, "redis", True, ledger.account(cut, samples, START, END), cut, name),),
        resources=(Resource(name, "disk", 40.0, 60.0, name),),
        breakers={name: (Transition(name, START + timedelta(minutes=1), "closed", name),)},
        jobs=(Job(name, {"succeeded": 2, name: 1}, 1.5, START, name, name), Job("prune_history")),
        removed={name: {name: 3}},
        letters={"captured": 4, name: 1},
        levels={name: timedelta(minutes=20), "severe": timedelta(minutes=40), "critical": timedelta()},
        recoveries=(ServiceRecovery(name, {"failed": 2, "succeeded": 1, name: 1}, 1, (4.0, 9.0), 1),),
    )
    snapshot = Snapshot(END, {"pending": 2, name: 1}, START)
    return model.build("hourly", facts, snapshot, target=0.999)


class Page(HTMLParser):
    """The tags and texts of a page, and whether every tag that opens closes."""

    VOID = frozenset({"meta"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_page_is_well_formed_whatever_the_names_are() -> None:
    plain, hostile = Page(html(report(), "0" * 64)), Page(html(report(HOSTILE), "0" * 64))
    assert plain.open == hostile.open == []
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in hostile.tags]
    assert not {"script", "img", "link", "iframe", "a"} & {tag for tag, _ in hostile.tags}
    assert any(HOSTILE in text for text in hostile.texts)


def test_a_page_loads_nothing_and_has_no_attribute_that_acts() -> None:
    allowed = {
        "lang",
        "charset",
        "name",
        "content",
        "class",
        "datetime",
        "scope",
        "role",
        "aria-label",
        "title",
    }
    used = {name for _, attributes in Page(html(report(HOSTILE), "0" * 64)).tags for name in attributes}
    assert used <= allowed
    assert not re.search(r"url\(|@import|https?:", html(report(), "0" * 64))


def test_the_policy_of_a_page_names_its_style_and_nothing_else() -> None:
    page = html(report(HOSTILE), "0" * 64)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = content_security_policy(page)
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy


def test_light_and_dark_are_both_there() -> None:
    page = html(report(), "0" * 64)
    assert "prefers-color-scheme: dark" in page
    assert 'name="color-scheme" content="light dark"' in page


def test_a_strip_says_the_same_by_shape_by_class_and_by_words() -> None:
    made = report(states="ugdx")
    strip = made["checks"][0]["strip"]
    # A sample holds until the next one: the parts meet at the quarters of the hour.
    assert re.fullmatch("u+g+d+x+", strip["states"])
    page = html(made, "0" * 64)
    for state in "ugdx":
        sign, name = wording.SIGNS[state], wording.NAMES[state]
        assert re.search(f'<span class="{name}">{sign}+</span>', page)
        assert name in wording.strip_words(strip)
        assert sign in wording.LEGEND
    assert wording.strip_words(strip) in page


def test_the_signs_of_a_strip_differ_in_shape() -> None:
    assert len(set(wording.SIGNS.values())) == len(wording.SIGNS) == len(State)


def test_markdown_keeps_its_tables_whatever_the_names_are() -> None:
    plain, hostile = markdown(report(), "0" * 64), markdown(report(HOSTILE), "0" * 64)

    def shape(text: str) -> list[int]:
        return [len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines()]

    assert shape(plain) == shape(hostile)
    assert "\x1b" not in hostile
    assert "\u202e" not in hostile
    assert not re.search(r"(?<!\\)[<\[`]", hostile.replace(f"`{'0' * 64}`", ""))


@pytest.mark.parametrize("character", list("\\`*_[]<>|~&@$"))
def test_every_character_that_markdown_knows_is_escaped(character: str) -> None:
    assert escaped(character) == "\\" + character


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("health_check_monitoring at 99.9% (celery-beat)", "health_check_monitoring at 99.9% (celery-beat)"),
        ("https://evil.example", "https\\://evil.example"),
        ("WWW.evil.example", "WWW\\.evil.example"),
        ("_under_ _line", "\\_under\\_ \\_line"),
        ("a\n# b\r\n- c", "a # b - c"),
    ],
)
def test_text_becomes_neither_link_nor_emphasis_nor_a_line_of_its_own(text: str, written: str) -> None:
    assert escaped(text) == written


def test_what_is_not_known_is_null_in_json_and_a_word_on_paper() -> None:
    made = report(states="x")
    check = made["checks"][0]
    assert check["uptime"] is None
    assert check["target_met"] is None
    assert check["confidence_low"] is None
    assert "| unknown |" in markdown(made, "0" * 64)
    assert ">100%<" not in html(made, "0" * 64)
    assert "too little known of 1 check" in made["headline"]
    assert "none" not in wording.downtime_words(check)


def test_the_json_is_the_same_text_whenever_it_is_written() -> None:
    assert model.text_of(report()) == model.text_of(dict(reversed(report().items())))


def test_the_digest_of_the_facts_leaves_out_when_the_report_was_made() -> None:
    first, later = report(), report()
    later["now"] = {**later["now"], "at": "2026-03-01T12:30:00Z"}
    assert model.facts_digest(first) == model.facts_digest(later)
    later["target"] = 0.5
    assert model.facts_digest(first) != model.facts_digest(later)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, "-"), (0.25, "0.25 s"), (59, "59 s"), (60, "1 min"), (185, "3 min 5 s"), (7260, "2 h 1 min")],
)
def test_durations_are_told_in_two_units(seconds: float | None, words: str) -> None:
    assert wording.lasted(seconds) == words


def test_the_time_in_each_level_is_told_and_the_reduced_ones_lead() -> None:
    made = report("redis")
    assert made["degradation"] == {"redis": 1200.0, "severe": 2400.0, "critical": 0.0}
    assert "degraded for 40 min" in made["headline"]
    assert "| severe | 40 min | 66.6% |" in markdown(made, "d")
    assert "critical" not in markdown(made, "d")
