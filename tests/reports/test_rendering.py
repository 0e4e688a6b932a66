"""Reports as people read them: nothing from outside becomes markup, nothing is told by colour alone."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from regrow.reports import model, wording
from regrow.reports.render_html import content_security_policy, html
from regrow.reports.render_markdown import escaped, markdown
from regrow.reports.sections import sections
from regrow.slo.ledger import State
from tests.reports.scene import report

HOSTILE = "<script>alert(1)</script>\"'&|`[x](javascript:y)\n# h\x1b[31m\u202eevil"


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
    page = html(report(HOSTILE), "0" * 64)
    used = {name for _, attributes in Page(page).tags for name in attributes}
    assert not {name for name in used if name.startswith("on") or name in {"href", "src", "srcset", "action"}}
    assert not re.search(r"url\((?!#)|@import|https?:", html(report(), "0" * 64))


def test_the_policy_of_a_page_names_its_style_and_nothing_else() -> None:
    page = html(report(HOSTILE), "0" * 64)
    (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = content_security_policy(page)
    assert policy.startswith("default-src 'none';")
    assert f"style-src 'sha256-{digest}' 'unsafe-hashes' 'sha256-" in policy
    assert "unsafe-inline" not in policy
    plain = content_security_policy(html(report(), "0" * 64))
    assert plain == policy, "names change no style"


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
    words = wording.strip_words(strip["states"], made["period"]["parts"])
    for state in "ugdx":
        sign, name = wording.SIGNS[state], wording.NAMES[state]
        assert re.search(f'<span class="{name}" style="[^"]+">{sign}+</span>', page)
        assert name in words
        assert sign in wording.LEGEND
    assert words in page


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
    assert ">100%<" not in html({**made, "objectives": []}, "0" * 64)
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
    [
        (None, "-"),
        (0.25, "0.25 s"),
        (59, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7260, "2 h 1 min"),
        (200_000, "2 days 7 h"),
    ],
)
def test_durations_are_told_in_two_units(seconds: float | None, words: str) -> None:
    assert wording.lasted(seconds) == words


def test_the_time_in_each_level_is_told_and_the_reduced_ones_lead() -> None:
    made = report("redis")
    assert made["degradation"] == {"redis": 1200.0, "severe": 2400.0, "critical": 0.0}
    assert "degraded for 40 min" in made["headline"]
    assert "| severe | 40 min | 66.6% |" in markdown(made, "d")
    assert "critical" not in markdown(made, "d")


def test_markdown_and_html_tell_the_same_figures() -> None:
    made = report(states="ugdx")
    page, text = Page(html(made, "0" * 64)), markdown(made, "0" * 64)
    words = " ".join(page.texts)
    for section in sections(made):
        assert section.title in words
        assert f"## {section.title}" in text
        for cell in (cell for row in section.rows for cell in row):
            shown = cell if isinstance(cell, str) else getattr(cell, "text", "")
            assert shown in words
            assert escaped(shown) in text


def test_each_picture_has_a_name_a_caption_and_a_table_below_it() -> None:
    page = html(report(states="ud"), "0" * 64)
    pictures = re.findall(
        r'<div role="img" aria-label="([^"]+)".*?</div><figcaption.*?</figcaption></figure>\n(.*)', page
    )
    assert len(pictures) == 3
    assert all(name and "<table" in after for name, after in pictures)


def test_what_is_left_out_is_said_and_is_no_section() -> None:
    made = {**report(), "left_out": {"jobs": "its rows are kept for 14 days"}}
    text = markdown(made, "0" * 64)
    assert "## Jobs" not in text
    assert "| jobs | its rows are kept for 14 days |" in text


def test_promises_incidents_and_requests_are_told_with_how_sure_they_are() -> None:
    made = report("redis")
    text = markdown(made, "0" * 64)
    assert "| redis | 99.9% up over 30 days | 99.953% | 100% | ✓ met | 53% | 33.3, 33.3 |" in text
    assert "| redis fast | p95 under 0.5 s over 24 h | 0.62 s | 98.0% | ✕ missed | - |" in text
    assert (
        "| redis is down | high | 2026-03-01T11:20:00Z | 1 min 30 s | 4 min | 18 min | redis was full |"
        in text
    )
    assert "| to resolve (MTTR) | 1 | 18 min | 18 min | 18 min | redis: mail |" in text
    assert "| redis | 21600 | 30 | 0.139% |" in text
    assert made["requests"][0]["coverage"] == 0.95
    assert "1 objective missed; 2 incidents, 1 open" in made["headline"]
