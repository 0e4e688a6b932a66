"""What is promised, as it is written: complete, about what is there, with defaults that hold for every check."""

from __future__ import annotations

from datetime import time, timedelta
from pathlib import Path

import pytest

from regrow.errors import SettingsError
from regrow.settings import Settings, load_settings
from regrow.slo.burn import lint
from regrow.slo.declared import objectives

EXAMPLE = Path(__file__).parents[2] / "config" / "objectives.toml"
STORES = {"REGROW_REDIS_URL": "redis://redis/0", "REGROW_DATABASE_URL": "sqlite:///x"}


def settings_of(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "regrow.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, "production", STORES)


def test_the_example_promises_each_component_what_its_table_says() -> None:
    found = objectives(load_settings(EXAMPLE, "production", STORES))
    of_components = {
        name: (one.target, one.checks) for name, one in found.items() if one.declared and one.checks
    }
    assert of_components == {
        "core-platform": (0.999, ("platform",)),
        "video-processing": (0.995, ("video",)),
        "api": (0.9995, ("api",)),
        "authentication": (0.9999, ("sign-in",)),
        "database": (0.999, ("database",)),
        "file-storage": (0.9999, ("storage",)),
    }
    assert {one.window for one in found.values() if one.checks} == {timedelta(days=30)}
    assert (found["api-latency"].limit, found["api-latency"].window) == (0.5, timedelta(days=1))
    assert (found["api-errors"].target, found["api-errors"].window) == (0.999, timedelta(hours=1))
    assert (found["api-throughput"].limit, found["api-throughput"].hours) == (1000, (time(9), time(17)))


def test_the_linter_has_nothing_against_the_example() -> None:
    found = objectives(load_settings(EXAMPLE, "production", STORES)).values()
    assert lint(one.promise for one in found if one.declared and one.kind == "availability") == []


def test_every_check_that_no_objective_is_about_has_one_of_its_own(tmp_path: Path) -> None:
    told = """
    reports.uptime_target = 0.99
    health.checks.redis = { kind = "redis", slo = 0.9995, severity = "high", interval = 15 }
    slo.objectives.stores = { checks = ["database"] }
    """
    found = objectives(settings_of(tmp_path, told))
    assert "database" not in found
    assert (found["stores"].target, found["stores"].declared) == (0.99, True)
    redis = found["redis"]
    assert (redis.target, redis.severity, redis.interval, redis.declared) == (0.9995, "high", 15, False)
    assert found["disk"].target == 0.99


def test_a_service_is_the_check_of_its_name_and_those_that_bear_its_label(tmp_path: Path) -> None:
    told = """
    [health.checks.shop]
    kind = "tcp"
    host = "shop"
    port = 80
    [health.checks.shop-mail]
    kind = "tcp"
    host = "mail"
    port = 25
    interval = 120
    labels = { service = "shop" }
    [health.checks.cpu]
    kind = "cpu"
    enabled = false
    [slo.objectives.everything-of-the-shop]
    service = "shop"
    [slo.objectives.machine]
    checks = ["cpu"]
    """
    found = objectives(settings_of(tmp_path, told))
    shop = found["everything-of-the-shop"]
    assert (shop.checks, shop.interval) == (("shop", "shop-mail"), 120)
    assert found["machine"].checks == ()  # switched off
    assert "shop" not in found


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("{ }", "it is about nothing; say checks, labels or service"),
        ('{ checks = ["databse"] }', "names 'databse', which is no check. Did you mean database?"),
        ('{ labels = { component = "x" } }', "labels: no check bears component=x"),
        ('{ service = "shop" }', "service names 'shop', which is neither a check nor any check's label"),
        ('{ kind = "latency", service = "shop" }', "kind latency needs latency"),
        ('{ kind = "throughput", service = "shop" }', "kind throughput needs rate and hours"),
        ('{ kind = "error_rate", service = "shop", rate = 5 }', "kind error_rate has no rate"),
        ('{ checks = ["redis"], target = 1.0 }', "slo.objectives.x.target"),
        ('{ checks = ["redis"], zone = "Mars" }', "no such time zone"),
        ('{ kind = "throughput", service = "s", rate = 1, hours = "9-17" }', 'write hours as "02:00-04:00"'),
    ],
)
def test_a_promise_that_cannot_be_kept_watch_of_is_refused(tmp_path: Path, told: str, said: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_of(tmp_path, f"[slo.objectives]\nx = {told}\n")
    assert said in str(refused.value)
    assert "regrow.toml" in str(refused.value)


def test_what_is_coarser_is_kept_longer(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="what is coarser is made from what is finer"):
        settings_of(tmp_path, "[slo]\nminutes_days = 100\n")
