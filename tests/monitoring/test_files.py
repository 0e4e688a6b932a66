"""Rules and dashboards: the tree has what is made, they are about metrics that there are, and they fire."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from regrow.degradation import service as degradation
from regrow.health import service as health
from regrow.monitoring import grafana
from regrow.monitoring.__main__ import shipped
from regrow.monitoring.prometheus import rules_file
from regrow.monitoring.rules import Limits, groups
from regrow.settings import Settings
from regrow.slo.objectives import Objective
from tests.conftest import lacking
from tests.web.conftest import KEY, MakeEngine, make_engine

__all__ = ["make_engine"]

CONFIG = Path(__file__).parents[2] / "config"
WORDS = {
    "and", "or", "unless", "without", "status", "on", "by", "group_left", "sum", "avg", "count", "rate", "increase", "avg_over_time",
    "histogram_quantile", "time", "absent", "le", "app", "check", "instance", "breaker", "service",
}  # fmt: skip


def named(expr: str) -> set[str]:
    """The metrics that an expression is about."""
    bare = re.sub(r'"(\\.|[^"])*"', "", expr)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    return set(re.findall(r"(?<![\w:.])[a-zA-Z_][\w:]*", bare)) - WORDS


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of all rules and panels in the tree."""
    for group in yaml.safe_load((CONFIG / "prometheus/rules.yml").read_text())["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for name, text in grafana.files().items():
        for panel in json.loads(text)["panels"]:
            for target in panel["targets"]:
                yield f"{name}: {panel['title']}", target["expr"]


def test_the_tree_has_what_is_made() -> None:
    for name, text in shipped().items():
        assert (CONFIG / name).read_text("utf-8") == text, f"{name} is stale: run `make config`"


def test_every_metric_that_is_named_is_served_or_recorded(
    make_engine: MakeEngine, redis_url, sqlite_url
) -> None:
    from regrow.web.app import create_app
    from tests.web import scene

    engine = make_engine(redis_url, sqlite_url)
    engine.database.upgrade()
    scene.paint(engine)
    degradation.evaluate(engine, health.overview(engine).checks)  # while it is not known, the level is absent
    with TestClient(create_app(engine), base_url="http://127.0.0.1") as client:
        answer = client.get("/metrics", headers={"X-API-Key": KEY})
    served = set(re.findall(r"^# HELP (\S+)", answer.text, re.MULTILINE))
    served |= {f"{name}_bucket" for name in re.findall(r"^# TYPE (\S+) histogram", answer.text, re.MULTILINE)}
    recorded = set(re.findall(r"- record: (\S+)", (CONFIG / "prometheus/rules.yml").read_text()))
    unknown = {
        where: missing for where, expr in expressions() if (missing := named(expr) - served - recorded)
    }
    assert unknown == {}
    assert 'capacity_full_in_seconds{kind="disk",subject="disk"}' in answer.text


def promtool(*arguments: object) -> str:
    if shutil.which("promtool") is None:
        lacking("promtool", "it is in Debian's package prometheus: run `make services` as root")
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_rules_and_configuration(tmp_path: Path) -> None:
    assert re.search(
        r"SUCCESS: \d\d+ rules found", promtool("check", "rules", CONFIG / "prometheus/rules.yml")
    )
    told = (CONFIG / "prometheus/prometheus.yml").read_text()
    (tmp_path / "api_key").write_text("key")
    (tmp_path / "rules.yml").write_text((CONFIG / "prometheus/rules.yml").read_text())
    (tmp_path / "prometheus.yml").write_text(told.replace("/run/secrets/api_key", str(tmp_path / "api_key")))
    promtool("check", "config", tmp_path / "prometheus.yml")


def test_the_rules_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text((CONFIG / "prometheus/rules.yml").read_text())
    (tmp_path / "test.yml").write_text((Path(__file__).parent / "rules_test.yml").read_text())
    assert "SUCCESS" in promtool("test", "rules", tmp_path / "test.yml")


def test_objectives_in_force_become_rules_and_odd_names_do_no_harm(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    stricter = {"REGROW_ALERTS__RULES__REQUEST_FAILURES__THRESHOLD": "0.002"}
    text = rules_file(make_settings(**stricter))
    assert "regrow:requests_failed:ratio1h > 0.002" in text, "the limit of Regrow's own rule"
    assert 'objective: "redis"' in text
    odd = Objective('a"b.c', "availability", 0.999, timedelta(days=30), checks=('a"b.c', "x|y"))
    errors = Objective("errors", "error_rate", 0.999, timedelta(hours=1), service="shop")
    slow = Objective("slow", "latency", 0.95, timedelta(days=1), service="shop", limit=0.5)
    rules = [rule for group in groups([odd, errors, slow], Limits()) for rule in group.rules]
    burns = [rule for rule in rules if getattr(rule, "alert", "") == "ErrorBudgetBurn"]
    assert [(rule.severity, rule.labels["window"]) for rule in burns] == [
        ("medium", "1h"), ("medium", "6h"), ("medium", "1d"), ("low", "3d"),
    ]  # fmt: skip
    assert "> 0.0144 and" in burns[0].expr
    assert 'check=~"a\\"b\\\\.c|x\\\\|y"' in burns[0].expr
    by_name: dict[str, Any] = {getattr(rule, "alert", ""): rule for rule in rules}
    assert by_name["ErrorRateOverTarget"].expr.endswith("> 0.001")
    assert by_name["LatencyOverTarget"].expr.endswith("[1d]))) > 0.5")
    if shutil.which("promtool"):
        from regrow.monitoring import prometheus

        (tmp_path / "odd.yml").write_text("\n".join(prometheus._lines(groups([odd, errors, slow], Limits()))))
        promtool("check", "rules", tmp_path / "odd.yml")


@pytest.mark.parametrize("name", sorted(grafana.files()))
def test_a_dashboard_is_whole_and_fetches_nothing(name: str) -> None:
    text = grafana.files()[name]
    told = json.loads(text)
    assert "://" not in text
    assert (told["uid"], told["schemaVersion"]) == (name.removesuffix(".json"), 39)
    assert told["templating"]["list"][0]["type"] == "datasource"
    taken: set[tuple[int, int]] = set()
    for panel in told["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another panel"
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in told["panels"]}) == len(told["panels"])
    assert "vector(0)" not in text, "an absent figure is not zero"
