"""Reports stand on the same ledger: before the roll-up and after it they say the same."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from regrow.reports import service
from regrow.slo.rolling import roll_up
from tests.slo.conftest import START, Past

HOUR = timedelta(hours=1)


def shop(past: Past) -> dict[str, Any]:
    row = service.generate(past.engine, until=START + 3 * HOUR, hours=2)
    (found,) = [check for check in json.loads(row.json)["checks"] if check["name"] == "shop"]
    return dict(found)


def test_a_report_is_the_same_from_results_from_minutes_and_from_closed_hours(each_past: Past) -> None:
    past = each_past
    past.write(past.results("shop", [n for n in range(180) if n not in (100, 101) and not 70 <= n < 80]))
    past.write(past.results("shop", [100, 101], "unhealthy"))
    past.now = START + 3 * HOUR
    raw = shop(past)
    assert (raw["seconds"]["down"], raw["outages"]) == (120, 1)
    assert raw["seconds"]["unknown"] == 9 * 60
    roll_up(past.engine)
    assert shop(past) == raw
    past.now += HOUR
    roll_up(past.engine)
    assert shop(past) == raw
    assert len(service.list_reports(past.engine)) == 1  # the same facts: no further version


def test_maintenance_is_set_aside_and_told(past: Past, settings_with: Any) -> None:
    past.engine.settings = settings_with(
        "[health.checks.shop]\nkind='tcp'\nhost='s'\nport=1\n"
        "[maintenance.morning]\nrepeat='daily'\nhours='08:00-09:00'\nchecks=['shop']\n"
    )
    past.write(past.results("shop", range(120)) + past.results("shop", range(120, 180), "unhealthy"))
    past.now = START + 3 * HOUR
    found = shop(past)
    assert (found["seconds"]["maintenance"], found["seconds"]["down"]) == (3600, 0)
    assert found["words"] == "100%"
    assert found["strip"]["states"] == "u" * 15 + "m" * 15
