"""Recorded outcomes under proposed settings, and how they are read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.breakers.recorded import calls_of_file
from regrow.breakers.replay import Call, replay, would_trip
from regrow.breakers.rules import BreakerConfig, State
from regrow.errors import RegrowError

START = 1_767_225_600_000  # 2026-01-01


def calls(pattern, every=1.0):
    """``.`` a success, ``x`` a failure, ``every`` seconds apart."""
    return [Call(START + round(at * every * 1000), letter == "x") for at, letter in enumerate(pattern)]


def test_an_outage_is_refused_until_a_probe_finds_the_service_well():
    config = BreakerConfig(failure_threshold=3, recovery_timeout=5, success_threshold=1)
    found = replay(config, calls("..xxxxxxxx...."))
    # Open from 4 to 9 (5, 6, 7, 8 are refused), the probe at 9 fails, open to 14: 10 to 13 are refused.
    assert [(told.at - START) // 1000 for told in found.transitions] == [4, 9, 9]
    assert (found.refused_failures, found.refused_successes) == (4, 4)
    assert (found.calls, found.failures, len(found.openings)) == (14, 8, 1)
    assert (found.not_closed_ms, found.state) == (9000, State.OPEN)


def test_probes_that_succeed_close_it():
    config = BreakerConfig(failure_threshold=3, recovery_timeout=2, success_threshold=2)
    found = replay(config, calls("xxx....."))
    assert [told.to_state for told in found.transitions] == [State.OPEN, State.HALF_OPEN, State.CLOSED]
    assert (found.refused_successes, found.not_closed_ms, found.state) == (1, 3000, State.CLOSED)


def test_a_higher_threshold_would_have_let_it_pass():
    outage = calls("....xxx....")
    assert replay(BreakerConfig(failure_threshold=3), outage).openings
    assert not replay(BreakerConfig(failure_threshold=4), outage).transitions


def test_times_make_calls_late_or_slow_where_the_settings_say_so():
    lazy = [Call(START + at * 1000, failed=False, seconds=4.0) for at in range(20)]
    assert replay(BreakerConfig(timeout=None), lazy).failures == 0
    assert replay(BreakerConfig(timeout=3), lazy).failures == 20
    slow = replay(BreakerConfig(slow_call_duration=3), lazy)
    assert (slow.failures, slow.openings[0].reason) == (0, "10 of 10 calls slow")


def test_calls_are_replayed_by_their_times_not_by_their_order():
    outage = calls("..xxx...")
    assert replay(BreakerConfig(), reversed(outage)) == replay(BreakerConfig(), outage)


def test_nothing_recorded_is_nothing_found():
    assert replay(BreakerConfig(), []).calls == 0


@given(st.lists(st.tuples(st.integers(0, 30_000), st.booleans()), max_size=120), st.integers(1, 5))
def test_every_call_is_made_or_refused_and_never_trips_more_often_than_it_fails(steps, threshold):
    at, made = START, []
    for pause, failed in steps:
        at += pause
        made.append(Call(at, failed))
    found = replay(BreakerConfig(failure_threshold=threshold, recovery_timeout=10), made)
    assert found.failures == sum(call.failed for call in made)
    assert 0 <= found.refused_failures <= found.failures
    assert found.refused_failures + found.refused_successes <= found.calls
    assert len(found.openings) <= found.failures - found.refused_failures
    assert 0 <= found.not_closed_ms <= (made[-1].at - made[0].at if made else 0)


def test_after_closing_the_ramp_lets_its_share_through():
    config = BreakerConfig(failure_threshold=3, recovery_timeout=1, success_threshold=1, ramp_seconds=100)
    found = replay(config, calls("xxx" + "." * 2000, every=0.1))
    closed = next(told for told in found.transitions if told.to_state is State.CLOSED)
    assert closed.at - START == 1_200
    # Evenly from a tenth to all within 100 s: of 1000 calls on the ramp 550 are made, of the later ones all.
    assert found.turned_away == pytest.approx(450, abs=10)
    assert found.refused_successes == found.turned_away + 9
    assert replay(replace(config, ramp_seconds=0), calls("xxx" + "." * 2000, every=0.1)).turned_away == 0


def test_one_bad_host_is_opened_for_itself_and_the_others_go_on():
    config = BreakerConfig(recovery_timeout=1_000, failure_threshold=5)
    good = [Call(START + at * 1000, failed=False, host=f"web-{at % 3}") for at in range(60)]
    bad = [Call(START + 500 + at * 1000, failed=True, host="web-bad") for at in range(30)]
    found = replay(config, good + bad)
    assert (found.openings, found.state, found.refused_successes) == ([], State.CLOSED, 0)
    assert [told.reporter for told in found.openings_alone] == ["web-bad"]
    assert (found.refused_failures, found.not_closed_ms) == (25, 0)
    unnamed = [replace(call, host="") for call in good + bad]
    assert replay(replace(config, failure_rate=0.3), unnamed).openings, "all in one they are a bad service"


def test_hosts_that_fail_together_open_it_for_all_also_when_they_call_rarely():
    rare = [Call(START + at * 30_000, failed=True, host=f"web-{at % 2}") for at in range(6)]
    found = replay(BreakerConfig(failure_threshold=5, window_seconds=300), rare)
    assert [told.reason for told in found.openings] == ["5 failures in a row"]
    assert not found.openings_alone


def test_the_figures_of_a_window_say_whether_other_settings_trip():
    figures = {"successes": 10, "failures": 6, "run": 4}
    assert would_trip(BreakerConfig(failure_threshold=4), **figures) == "4 failures in a row"
    assert would_trip(BreakerConfig(failure_rate=0.3), **figures) == "6 of 16 calls failed"
    assert would_trip(BreakerConfig(slow_call_duration=1, slow_call_rate=0.5), **figures, slow=8)
    assert would_trip(BreakerConfig(), **figures) is None


class TestFiles:
    def test_json_lines_and_csv_say_the_same(self, tmp_path: Path):
        lines = tmp_path / "calls.jsonl"
        lines.write_text(
            '{"at": "2026-01-01T00:00:00Z", "ok": true, "seconds": 0.25, "path": "/x"}\n'
            "\n"
            '{"at": 1767225601.5, "ok": false}\n'
        )
        table = tmp_path / "calls.csv"
        table.write_text("at,ok,seconds\n2026-01-01 00:00:00,yes,0.25\n1767225601.5,false,\n")
        expected = [Call(START, failed=False, seconds=0.25), Call(START + 1500, failed=True)]
        assert calls_of_file(lines) == expected
        told = tmp_path / "hosts.csv"
        told.write_text("at,ok,host\n1767225600,yes,web 7\n1767225601.5,false,\n")
        assert [call.host for call in calls_of_file(told)] == ["web-7", ""]
        assert calls_of_file(table) == expected
        assert calls_of_file(table, datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)) == expected[1:]

    @pytest.mark.parametrize(
        ("name", "text", "told"),
        [
            ("a.jsonl", '{"at": 1, "ok": true}\n{"at": 2}\n', "a.jsonl:2: ok is None"),
            ("a.jsonl", '{"at": "noon", "ok": true}', "a.jsonl:1: at is 'noon'"),
            ("a.jsonl", '{"at": 1, "ok": true, "seconds": -1}', "seconds is -1"),
            ("a.jsonl", '{"at": NaN, "ok": true}', "at is nan"),
            ("a.jsonl", "at,ok\n", "line 1 is no JSON object"),
            ("a.csv", "at,ok\n1,maybe\n", "a.csv:2: ok is 'maybe'"),
            ("a.csv", "when,ok\n1,true\n", "a.csv:2: at is None"),
        ],
    )
    def test_a_line_that_cannot_be_understood_is_named(self, tmp_path: Path, name, text, told):
        (tmp_path / name).write_text(text)
        with pytest.raises(RegrowError, match=told):
            calls_of_file(tmp_path / name)

    def test_a_file_that_is_not_there_is_named(self, tmp_path: Path):
        with pytest.raises(RegrowError, match=r"none\.csv cannot be read: No such file"):
            calls_of_file(tmp_path / "none.csv")
