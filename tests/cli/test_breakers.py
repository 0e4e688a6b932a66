"""``regrow breakers watch`` and ``simulate``."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from regrow.breakers import BreakerConfig, history
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import Order, OrderKind, Report
from regrow.cli.watch import Lines, watch
from regrow.database.tables import check_results
from regrow.engine import Engine
from tests.cli.conftest import Cli
from tests.waiting import eventually


def trip(engine: Engine, name: str) -> None:
    RedisStore(engine.redis).apply(name, BreakerConfig(), Report(epoch=0, successes=2, failures=5, run=5))


def use(engine: Engine, name: str) -> None:
    RedisStore(engine.redis).apply(name, BreakerConfig(), Report(epoch=0, successes=5, failures=2, run=1))


class TestWatch:
    def test_once_shows_a_table_and_ends(self, cli: Cli, on_engine: Engine) -> None:
        use(on_engine, "payments")
        shown = cli("breakers", "watch", "--once")
        assert shown.code == 0
        assert "payments" in shown.out
        assert "2 of 7" in shown.out
        assert all(len(line) <= 80 for line in shown.out.splitlines())

    def test_lines_tell_each_change_once(self, on_engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
        from regrow.breakers import list_breakers

        lines, store = Lines(on_engine), RedisStore(on_engine.redis)

        def told() -> list[str]:
            lines.show(list_breakers(on_engine.redis))
            return [line.partition("Z ")[2] for line in capsys.readouterr().out.splitlines()]

        assert told() == ["No breaker is known: no application has used one lately."]
        store.apply("mail", BreakerConfig(), Report(epoch=0, successes=1, failures=0, run=0))
        assert told() == ["mail closed (0 of 1 failed)"]
        assert told() == []
        store.apply("mail", None, Order(OrderKind.FORCE_OPEN, "ann\x1b[2J", "moving"))
        assert told() == ["mail open (0 of 0 failed, forced_open by ann\\x1b[2J)"]
        lines.show("no answer")
        lines.show("no answer")
        assert capsys.readouterr().out.count("unknown: no answer") == 1
        assert told() == ["Redis answers again"]
        on_engine.redis.flushall()
        assert told() == ["mail gone: nobody has used it for long"]

    def test_on_a_terminal_it_draws_a_table_until_interrupted(
        self, on_engine: Engine, redis_url: str, sqlite_url: str, tmp_path: Path
    ) -> None:
        use(on_engine, "payments")
        ours, theirs = pty.openpty()
        environ = {
            "REGROW_REDIS_URL": redis_url,
            "REGROW_DATABASE_URL": sqlite_url,
            "REGROW_HOME": str(tmp_path),
        }
        watching = subprocess.Popen(
            [sys.executable, "-m", "regrow.cli.main", "breakers", "watch", "--every", "0.1"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, **environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
        )
        os.close(theirs)
        seen = b""
        try:

            def shown() -> bool:
                nonlocal seen
                seen += os.read(ours, 65536)
                return b"payments" in seen and b"2 of 7" in seen

            eventually(shown)
            watching.send_signal(signal.SIGINT)
            assert watching.wait(20) == 0
        finally:
            watching.kill()
            watching.wait()
            os.close(ours)

    def test_an_interval_that_would_spin_is_refused(self) -> None:
        assert CliRunner().invoke(watch, ["--every", "0"]).exit_code == 2


class TestSimulate:
    def test_recorded_openings_are_judged_by_their_figures(self, cli: Cli, on_engine: Engine) -> None:
        trip(on_engine, "payments")
        history.monitor(on_engine)
        same = cli("breakers", "simulate", "payments")
        assert same.code == 0
        assert "1 of 1 recorded openings would have been made too" in same.out
        other = cli("breakers", "simulate", "payments", "--set", "failure_threshold=9", "--json").json
        (opening,) = other["openings"]
        assert (opening["recorded"], opening["proposed"]) == ("5 failures in a row", None)
        assert other["config"]["failure_threshold"] == 9
        assert "not single calls" in other["limits"]

    def test_what_a_person_opened_is_not_judged(self, cli: Cli, on_engine: Engine) -> None:
        RedisStore(on_engine.redis).apply(
            "mail", BreakerConfig(), Order(OrderKind.FORCE_OPEN, "ann", "moving")
        )
        history.monitor(on_engine)
        assert cli("breakers", "simulate", "mail", "--json").json["openings"] == []

    def test_a_file_of_calls_is_replayed(self, cli: Cli, on_engine: Engine, tmp_path: Path) -> None:
        began = on_engine.clock() - timedelta(hours=1)
        file = tmp_path / "calls.csv"
        rows = [
            f"{(began + timedelta(seconds=at)).isoformat()},{at not in range(10, 14)}" for at in range(30)
        ]
        file.write_text("\n".join(["at,ok", *rows]))
        asked = ("breakers", "simulate", "payments", "--file", str(file))
        assert cli(*asked, "--json").json["replay"]["openings"] == 0
        found = cli(*asked, "--kind", "ai", "--set", "recovery_timeout=5", "--json").json["replay"]
        assert (found["openings"], found["refused_failures"]) == (1, 1)
        assert "failures spared" in cli(*asked, "--set", "failure_threshold=3").out

    def test_results_of_a_check_are_replayed_without_the_unknown(self, cli: Cli, on_engine: Engine) -> None:
        now = on_engine.clock()
        words = ["healthy", "unhealthy", "unknown", "unhealthy", "degraded", "unhealthy"]
        with on_engine.database.transaction() as connection:
            for minutes, word in enumerate(words):
                connection.execute(
                    check_results.insert().values(
                        check_name="shop", at=now - timedelta(minutes=10 - minutes), status=word,
                        latency=0.1, interval=60.0, message="", data={},
                    )
                )  # fmt: skip
        found = cli(
            "breakers", "simulate", "shop", "--check", "shop", "--set", "failure_threshold=2", "--json"
        ).json["replay"]
        assert (found["calls"], found["failures"], found["openings"]) == (5, 3, 1)

    @pytest.mark.parametrize(
        ("arguments", "code", "told"),
        [
            (("--set", "failure_treshold=3"), 64, "SETTING=VALUE with one of failure_threshold"),
            (("--set", "failure_threshold"), 64, "SETTING=VALUE"),
            (("--set", "failure_threshold=2.5"), 64, "'2.5' is not a whole number"),
            (("--set", "failure_threshold=0"), 1, "failure_threshold is 0"),
            (("--since", "soon"), 64, "no length of time"),
            (("--kind", "fax"), 64, "document_conversion"),
            (("--file", "x.csv", "--check", "x"), 64, "choose one"),
            (("--check", "nobody"), 1, "check nobody has no calls since"),
            (("--file", "/nowhere/x.csv"), 1, "cannot be read"),
        ],
    )
    def test_what_cannot_be_done_is_said(
        self, cli: Cli, on_engine: Engine, arguments: tuple[str, ...], code: int, told: str
    ) -> None:
        result = cli("breakers", "simulate", "payments", *arguments)
        assert result.code == code
        assert told in " ".join(result.err.split())

    def test_a_limit_can_be_taken_away(self, cli: Cli, on_engine: Engine) -> None:
        assert (
            cli("breakers", "simulate", "x", "--set", "timeout=none", "--json").json["config"]["timeout"]
            is None
        )
