"""Results become spans and sums: the same ones in whatever order and however often they come."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from regrow.database.tables import check_results, rollups_day, rollups_hour, rollups_minute, state_spans
from regrow.health import maintenance
from regrow.health.rules import Result
from regrow.health.windows import Scope
from regrow.latency_buckets import merged
from regrow.slo import ledger, store
from regrow.slo.ledger import Ledger, Sample, State
from regrow.slo.reading import reading
from regrow.slo.rolled import DAY, HOUR, MINUTE, Marks, plan, rolled
from regrow.slo.rolling import prune, roll_up
from tests.slo.conftest import START, Past

TABLES = (rollups_minute, rollups_hour, rollups_day, state_spans)


def dump(past: Past) -> dict[str, list[Any]]:
    """All rows, but for when they were amended."""
    found = {}
    with past.engine.database.snapshot() as connection:
        for table in TABLES:
            columns = [column for column in table.c if column.name != "amended_at"]
            found[table.name] = [
                tuple(row) for row in connection.execute(sa.select(*columns).order_by(*table.primary_key))
            ]
    return found


def account(past: Past, check: str, start: datetime, end: datetime) -> Ledger:
    with past.engine.database.snapshot() as connection:
        return reading(past.engine, connection, past.now).accounts([check], start, end)[check]


def truth(results: list[Result], start: datetime, end: datetime) -> Ledger:
    """The ledger's own answer, from the results alone."""
    samples = [Sample(r.at, r.status, r.interval, r.latency) for r in results]
    first = min(s.at for s in samples)
    return ledger.ledger(samples, start, end, [ledger.Mask(first - 400 * DAY, first, State.PAUSED)])


def day_with_an_outage(past: Past) -> list[Result]:
    """From 06:00 on for 30 hours: down for an hour and a bit, silent for another."""
    minutes = [n for n in range(30 * 60) if not 600 <= n < 660]
    down = [n for n in minutes if 90 <= n < 155]
    return past.results("shop", set(minutes) - set(down)) + past.results("shop", down, "unhealthy")


def test_a_run_makes_minutes_hours_days_and_spans(each_past: Past) -> None:
    past, results = each_past, day_with_an_outage(each_past)
    past.write(results)
    past.now = START + timedelta(hours=30, minutes=6)
    done = roll_up(past.engine)
    assert (done.hours, done.finished, done.behind) == (30, True, 0.0)
    rows = dump(past)
    assert [len(rows[table.name]) for table in (rollups_hour, rollups_day)] == [30, 1]
    assert len(rows["rollups_minute"]) == 30 * 60 + 6
    states = [row[3] for row in rows["state_spans"]]
    # Both days begin with a span of their own; the second is not over.
    assert states == ["up", "down", "up", "unknown", "up", "up"]
    first_day = START.replace(hour=0)
    assert account(past, "shop", first_day, first_day + DAY) == truth(results, first_day, first_day + DAY)
    assert account(past, "shop", first_day, first_day + DAY).down == timedelta(minutes=65)
    assert account(past, "shop", first_day, first_day + DAY).paused == timedelta(hours=6)


def test_every_window_is_what_the_ledger_says_whatever_it_is_read_from(past: Past) -> None:
    results = day_with_an_outage(past)
    past.write(results)
    past.now = START + timedelta(hours=30, minutes=3, seconds=20)
    roll_up(past.engine)
    dice = random.Random(4)
    for _ in range(25):
        seconds = sorted(dice.choices(range(-7200, 30 * 3600 + 200), k=2))
        start, end = (START + timedelta(seconds=s + 0.25) for s in seconds)
        assert account(past, "shop", start, end) == truth(results, start, end), (start, end)
        with past.engine.database.snapshot() as connection:
            cut = reading(past.engine, connection, past.now).spans(["shop"], start, end)["shop"]
        made = ledger.account(cut, (), start, end)
        assert (made.up, made.down, made.unknown) == (
            (found := truth(results, start, end)).up,
            found.down,
            found.unknown,
        )


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5 * 3600),
            st.sampled_from(["healthy", "degraded", "unhealthy", "unknown"]),
            st.sampled_from([30.0, 60.0, 1800.0]),
        ),
        min_size=1,
        max_size=25,
        unique_by=lambda told: told[0],
    ),
    st.randoms(use_true_random=False),
    st.integers(1, 5),
)
@example(told=[(1, "healthy", 1800.0), (2, "healthy", 30.0)], dice=random.Random(1), parts=2)
def test_late_duplicate_and_disordered_results_make_the_same_rows(
    past: Past, told: list[tuple[int, str, float]], dice: random.Random, parts: int
) -> None:
    results = [
        past.results("shop", [second / 60], status, interval=interval)[0] for second, status, interval in told
    ]
    past.now = START + timedelta(hours=7)
    _empty(past)
    past.write(results)
    roll_up(past.engine)
    once = dump(past)

    _empty(past)
    # The first of all comes first: what was before it is paused, and that is known only then.
    first = min(results, key=lambda r: r.at)
    mixed = [r for r in results if r is not first] + results[::2]
    dice.shuffle(mixed)
    past.write([first])
    for part in range(parts):
        past.now = START + timedelta(hours=5 * part / parts, minutes=7)
        roll_up(past.engine)
        past.write(mixed[part::parts])
    past.now = START + timedelta(hours=7)
    roll_up(past.engine)
    assert dump(past) == once


def _empty(past: Past) -> None:
    from regrow.database.tables import check_pauses, rolled_checks, rollup_progress

    with past.engine.database.transaction() as connection:
        for table in (*TABLES, check_results, rollup_progress, rolled_checks, check_pauses):
            connection.execute(sa.delete(table))


def test_latencies_are_those_of_all_rows_whatever_the_server_cuts_off(each_past: Past) -> None:
    past = each_past
    past.write([one for n in range(90) for one in past.results("shop", [n], latency=0.01 * 1.1**n)])
    past.write(past.results("mail", range(30), "unhealthy"))
    past.now = START + timedelta(minutes=90)
    roll_up(past.engine)
    window = (MINUTE, ["shop", "mail"], START, past.now)
    with past.engine.database.snapshot() as connection:
        rows = store.rows_of(connection, *window)
        all_of_them = {name: merged(row.latency for row in found) for name, found in rows.items()}
        assert (len(all_of_them["shop"]), all_of_them["mail"]) == (90, {})
        assert store.latencies(connection, *window) == all_of_them
        if connection.dialect.name != "sqlite":
            connection.exec_driver_sql("SET SESSION group_concat_max_len = 40")
        assert store.latencies(connection, *window) == all_of_them


def test_a_late_result_amends_its_closed_hour_visibly(each_past: Past) -> None:
    past = each_past
    past.write(past.results("shop", [n for n in range(300) if not 70 <= n < 75]))
    past.now = START + timedelta(hours=5, minutes=6)
    roll_up(past.engine)
    before = account(past, "shop", START, START + timedelta(hours=5))
    past.write(past.results("shop", [72], "unhealthy"))
    past.now += timedelta(minutes=1)
    done = roll_up(past.engine)
    assert (done.late, done.amended) == (1, 1)
    after = account(past, "shop", START, START + timedelta(hours=5))
    assert (before.down, after.down) == (timedelta(0), timedelta(minutes=2))
    with past.engine.database.snapshot() as connection:
        amended = store.amendments(connection, HOUR, ["shop"], START, START + DAY)
    assert amended == {("shop", START + HOUR): past.now}
    past.now += timedelta(minutes=5)
    roll_up(past.engine)
    assert roll_up(past.engine).late == 0


def test_workers_that_roll_up_at_once_make_the_rows_of_one(each_past: Past) -> None:
    past = each_past
    past.write(day_with_an_outage(past)[:600] + past.results("mail", range(300)))
    past.now = START + timedelta(hours=9)
    roll_up(past.engine)
    once = dump(past)
    _empty(past)
    past.write(day_with_an_outage(past)[:600] + past.results("mail", range(300)))
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(roll_up, past.engine) for _ in range(3)]
        assert all(one.result(150).finished for one in done)
    assert dump(past) == once
    roll_up(past.engine)
    assert dump(past) == once


def test_what_came_too_late_is_counted_and_changes_nothing(past: Past) -> None:
    past.write(past.results("shop", range(120)))
    past.now = START + timedelta(hours=2, minutes=6)
    roll_up(past.engine)
    kept = dump(past)
    past.now = START + timedelta(
        days=4
    )  # results are kept for three days: the others of that hour may be gone
    past.write(past.results("shop", [30.5], "unhealthy"))
    assert roll_up(past.engine).too_late == 1
    assert dump(past)["rollups_hour"][:2] == kept["rollups_hour"]


def test_a_run_that_is_out_of_time_is_gone_on_with(past: Past) -> None:
    past.write(past.results("shop", range(600)))
    past.now = START + timedelta(hours=10, minutes=6)
    assert not roll_up(past.engine, budget=0.0).finished
    assert roll_up(past.engine).finished
    assert roll_up(past.engine).hours == 0
    assert account(past, "shop", START, START + timedelta(hours=10)).up == timedelta(hours=10)


def test_an_outage_of_the_roll_up_shows_in_no_figure(past: Past) -> None:
    """Until it is caught up with, results themselves are read."""
    results = past.results("shop", range(500))
    past.write(results[:60])
    past.now = START + timedelta(hours=1)
    roll_up(past.engine)
    past.write(results[60:])
    past.now = START + timedelta(minutes=500)
    late = account(past, "shop", START, past.now)
    roll_up(past.engine)
    assert account(past, "shop", START, past.now) == late == truth(results, START, past.now)


def test_a_silent_monitor_leaves_unknown_rows_and_a_check_that_is_off_paused_ones(
    past: Past, settings_with: Any
) -> None:
    past.write(past.results("shop", range(60)) + past.results("mail", range(60)))
    past.now = START + timedelta(hours=1)
    roll_up(past.engine)
    past.engine.settings = settings_with(
        "[health.checks.shop]\nkind='tcp'\nhost='s'\nport=1\n"
        "[health.checks.mail]\nkind='tcp'\nhost='m'\nport=1\nenabled=false\n"
    )
    past.now = START + timedelta(hours=1, minutes=10)
    roll_up(past.engine)
    past.now = START + timedelta(hours=6)
    roll_up(past.engine)
    window = (START + timedelta(hours=2), START + timedelta(hours=4))
    assert account(past, "shop", *window).unknown == timedelta(hours=2)
    assert account(past, "mail", *window).paused == timedelta(hours=2)
    past.now = START + timedelta(days=5)  # no rows any more, and the same answer
    roll_up(past.engine)
    assert account(past, "mail", past.now - DAY, past.now).paused == DAY


def test_maintenance_counts_from_its_announcement_and_over_a_change_of_the_clock(
    past: Past, settings_with: Any
) -> None:
    """Two to four in Berlin in the night in which two becomes three: one hour, from one to two UTC."""
    past.engine.settings = settings_with(
        "[health.checks.shop]\nkind='tcp'\nhost='s'\nport=1\n"
        "[maintenance.night]\nrepeat='daily'\nhours='02:00-04:00'\nzone='Europe/Berlin'\neverything=true\n"
    )
    night = datetime(2026, 3, 29, tzinfo=UTC)
    offset = (night - START) / MINUTE
    past.now = night
    past.write(past.results("shop", [offset + n for n in range(360)], "unhealthy"))
    past.now = night + timedelta(hours=6, minutes=6)
    roll_up(past.engine)
    found = account(past, "shop", night, night + timedelta(hours=6))
    assert (found.maintenance, found.masked_down) == (HOUR, HOUR)
    assert found.down == timedelta(hours=5)
    past.now = night + timedelta(hours=7, minutes=30)
    past.write(past.results("shop", [offset + n for n in range(360, 540)], "unhealthy"))
    maintenance.add(
        past.engine,
        Scope(("shop",)),
        night + timedelta(hours=7),
        night + timedelta(hours=8),
        actor="ada",
        reason="a repair that was told of late",
    )
    past.now = night + timedelta(hours=9, minutes=6)
    roll_up(past.engine)
    told = account(past, "shop", night + timedelta(hours=7), night + timedelta(hours=8))
    assert told.maintenance == timedelta(minutes=30)
    assert told.down == timedelta(minutes=30)


def test_old_rows_go_and_young_ones_stay(each_past: Past) -> None:
    past = each_past
    past.write(past.results("shop", range(200)))
    past.now = START + timedelta(hours=3, minutes=20)
    roll_up(past.engine)
    past.now = START + timedelta(days=7, minutes=100)
    gone = prune(past.engine)
    assert gone == {"state_spans": 0, "rollups_minute": 100, "rollups_hour": 0, "rollups_day": 0}
    past.now = START + timedelta(days=401)
    assert prune(past.engine)["rollups_hour"] == 3
    assert dump(past)["state_spans"] == []


@given(st.integers(-4000, 4000), st.integers(0, 6000), st.integers(-3000, 3000), st.integers(0, 300))
def test_a_plan_covers_the_window_once_in_order(start: int, length: int, hours: int, more: int) -> None:
    begins = START + timedelta(minutes=start, seconds=7)
    ends = begins + timedelta(minutes=length)
    until = START + timedelta(minutes=hours)
    marks = Marks(until + timedelta(minutes=more), until, until - 3 * DAY, until - 7 * DAY, until - 90 * DAY)
    parts = plan(begins, ends, marks)
    assert [a for _, a, _ in parts] == [begins, *(b for _, _, b in parts)][: len(parts)]
    assert (parts[-1][2] if parts else begins) == ends
    assert all(b <= marks.hours for level, _, b in parts if level in {"day", "hour"})
    assert all(one[2] == other[1] for one, other in pairwise(parts))


@pytest.mark.parametrize("step", [MINUTE, HOUR])
def test_buckets_add_up_to_the_ledger_and_count_each_probe_once(step: timedelta) -> None:
    samples = [
        Sample(START + timedelta(seconds=37 * n), "unhealthy" if n % 7 == 0 else "healthy", 30.0, 0.2)
        for n in range(500)
    ]
    end = START + timedelta(hours=4)
    cut = ledger.spans(samples, START, end)
    rows = rolled(cut, samples, START, end, step)
    total = Ledger()
    for row in rows:
        total += row.account
    assert total == ledger.ledger(samples, START, end)
    assert sum(sum(row.latency.values()) for row in rows) == total.probes - total.failures
