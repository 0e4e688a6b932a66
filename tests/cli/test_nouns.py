"""Each noun on the command line, on a real Valkey and a real database."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from regrow import breakers as fleet
from regrow import jobs
from regrow.breakers import history
from regrow.breakers.redis_store import RedisStore
from regrow.breakers.rules import BreakerConfig, Report
from regrow.cli.output import actor
from regrow.database.tables import audit, reports
from regrow.dead_letters import service as dead_letters
from regrow.dead_letters.captured import of_message
from regrow.dead_letters.spool_entries import to_bytes
from regrow.dead_letters.spool_parcels import Parcel
from regrow.engine import Engine
from tests.cli.conftest import Cli


def letter(engine: Engine, message: object = None, error: object = "no route", kind: str = "mail") -> str:
    event = dead_letters.capture(
        engine,
        of_message(message or {"to": "a@b"}, error=error, message_type=kind),  # type: ignore[arg-type]
    )
    return dead_letters.show(engine, event).letter.id


def trip(engine: Engine, name: str) -> None:
    """Five failures in a row, as an application's processes report them."""
    RedisStore(engine.redis).apply(name, BreakerConfig(), Report(epoch=0, successes=0, failures=5, run=5))


def audited(engine: Engine) -> list[tuple[str, str, str, str]]:
    with engine.database.snapshot() as connection:
        rows = connection.execute(sa.select(audit).order_by(audit.c.id))
        return [(row.actor, row.act, row.subject, row.reason) for row in rows]


# jobs


def test_jobs_lists_the_newest_runs_first_and_of_one_job_alone(cli: Cli, on_engine: Engine) -> None:
    for job in ("cleanup_temp_files", "prune_history"):
        with jobs.record(on_engine, job) as run:
            run.summary = {"freed_bytes": 10, "zero": 0, "nested": {"a": 1}}
    listed = cli("jobs")
    assert listed.code == 0
    assert listed.out.index("prune_history") < listed.out.index("cleanup_temp_files")
    assert "freed_bytes: 10" in " ".join(listed.out.split())
    assert "zero" not in listed.out
    (only,) = cli("jobs", "--job", "prune_history", "--json").json["job_runs"]
    assert set(only) == {"job", "started_at", "duration", "outcome", "summary", "host"}
    assert only["summary"] == {"freed_bytes": 10, "zero": 0, "nested": {"a": 1}}
    assert datetime.fromisoformat(only["started_at"]).tzinfo == UTC
    assert len(cli("jobs", "--limit", "1", "--json").json["job_runs"]) == 1


def test_jobs_says_what_to_look_at_when_none_has_run(cli: Cli, on_engine: Engine) -> None:
    assert "No job has run yet" in cli("jobs").out


# dead-letters


def test_dead_letters_are_listed_filtered_and_paged(cli: Cli, on_engine: Engine) -> None:
    ids = [letter(on_engine, {"n": n}, kind="mail" if n else "fax") for n in range(3)]
    listed = cli("dead-letters", "list")
    assert all(known in listed.out for known in ids)
    assert "3 pending" in listed.out
    assert all(len(line) <= 80 for line in listed.out.splitlines())
    one = cli("dead-letters", "list", "--type", "fax", "--json").json
    assert [found["id"] for found in one["dead_letters"]] == [ids[0]]
    assert one["counts"]["pending"] == 3
    first = cli("dead-letters", "list", "--limit", "2", "--json").json["dead_letters"]
    rest = cli("dead-letters", "list", "--before", first[-1]["id"], "--json").json["dead_letters"]
    assert sorted(found["id"] for found in (*first, *rest)) == sorted(ids)


def test_the_ledger_balances_or_the_exit_code_tells(cli: Cli, on_engine: Engine) -> None:
    assert "No letter was ever accepted" in cli("dead-letters", "ledger").out
    letter(on_engine)
    told = cli("dead-letters", "ledger")
    assert (told.code, "live: 1 pending" in told.out) == (0, True)
    with on_engine.database.transaction() as connection:
        connection.execute(sa.text("UPDATE dead_letters SET state = 'resolved'"))
    off = cli("dead-letters", "ledger")
    assert (off.code, "1 live in the books and not there" in off.err) == (1, True)
    assert cli("dead-letters", "ledger", "--correct", "--yes").code == 1, "a reason is needed"
    right = cli(
        "dead-letters", "ledger", "--correct", "--yes", "--reason", "settled by hand in SQL", "--json"
    )
    assert (right.code, right.json["balanced"]) == (0, True)


def test_archives_are_listed_verified_searched_and_exported(
    cli: Cli, on_engine: Engine, tmp_path: Path
) -> None:
    assert "No letter has been archived" in cli("dead-letters", "archives", "list").out
    known = letter(on_engine)
    dead_letters.discard(on_engine, known, actor="ann", reason="test")
    dead_letters.cleanup(on_engine, 0)
    (archive,) = cli("dead-letters", "archives", "list", "--json").json["archives"]
    assert archive["id"] in cli("dead-letters", "archives", "list").out
    assert cli("dead-letters", "archives", "find", known, "--json").json["archive"] == archive["id"]
    assert "whole, 1 letters" in cli("dead-letters", "archives", "verify").out
    out = tmp_path / "letters.jsonl"
    arguments = (
        "dead-letters",
        "archives",
        "export",
        archive["id"],
        "--reason",
        "audit",
        "--output",
        str(out),
    )
    assert cli(*arguments).code == 0
    assert json.loads(out.read_text())["letter"]["id"] == known
    assert cli(*arguments).code == 1, "a file that is there is not written over"
    (on_engine.settings.home / "archive" / archive["file"]).unlink()
    gone = cli("dead-letters", "archives", "verify")
    assert (gone.code, "not there" in gone.out) == (1, True)


def test_sources_are_listed_and_a_gap_that_stays_is_the_exit_code(cli: Cli, on_engine: Engine) -> None:
    assert "No app has sent anything through a spool" in cli("dead-letters", "sources").out
    entries = tuple((n, to_bytes(of_message(n, message_type="t"))) for n in (1, 4))
    dead_letters.receive(on_engine, Parcel("9f0c41c15e1d4f7a8c1f7c9d2b3e5a60", 0, entries, host="app-1"))
    told = cli("dead-letters", "sources")
    assert (told.code, "app-1" in told.out) == (0, True)
    with on_engine.database.transaction() as connection:
        connection.execute(sa.text("UPDATE capture_sources SET gap_since = '2020-01-01 00:00:00.000000'"))
    late = cli("dead-letters", "sources", "--json")
    assert (late.code, late.json["counts"]["missing"]) == (1, 2)
    (source,) = late.json["sources"]
    assert (source["gaps"], source["received"], source["alert"]) == ([[2, 3]], 1, True)


def test_a_subject_is_erased_by_hand_and_keys_are_made(cli: Cli, on_engine: Engine) -> None:
    assert len(cli("dead-letters", "new-key").out.strip()) == 44
    assert "no key is set" in cli("dead-letters", "rotate-keys").err
    known = letter(on_engine)
    refused = cli("dead-letters", "erase", "--service", "mail", "--reason", "asked to", "--yes")
    assert (refused.code, "not settled" in refused.err) == (1, True)
    done = cli(
        "dead-letters", "erase", "--service", "mail", "--reason", "asked to", "--yes", "--force", "--json"
    )
    assert (done.code, done.json["letters"]) == (0, 1)
    shown = cli("dead-letters", "show", known, "--json").json
    assert (shown["body"]["text"], shown["error_message"]) == ("", "")
    assert shown["erased_at"]


def test_secrets_are_hidden_unless_a_person_has_a_reason_which_is_audited(
    cli: Cli, on_engine: Engine
) -> None:
    known = letter(on_engine, {"password": "hunter2"}, error="login failed: password=hunter2")
    for command in (("show", known), ("show", known, "--json"), ("list",), ("list", "--json")):
        assert "hunter2" not in cli("dead-letters", *command).out
    assert cli("dead-letters", "show", known, "--raw").code == 1, "a reason is needed"
    assert audited(on_engine) == []
    raw = cli("dead-letters", "show", known, "--raw", "--reason", "ticket 7", "--json").json
    assert (raw["body"]["text"], raw["redacted"]) == ('{"password": "hunter2"}', False)
    assert audited(on_engine) == [(actor(), "dead_letter.raw_view", known, "ticket 7")]


def test_a_body_is_shown_as_text_that_cannot_drive_the_terminal(cli: Cli, on_engine: Engine) -> None:
    known = letter(on_engine, {"text": "caf\u00e9 \x9b31m\u202e"}, error="\x1b]0;owned\x07")
    shown = cli("dead-letters", "show", known)
    assert shown.code == 0
    assert "caf\u00e9" in shown.out
    assert "\\x1b]0;owned\\x07" in shown.out
    assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown.out)
    as_json = cli("dead-letters", "show", known, "--json").json
    assert as_json["body"]["text"] == '{"text": "caf\u00e9 \x9b31m\u202e"}'
    assert as_json["error_message"] == "\x1b]0;owned\x07"


def test_a_lease_token_is_never_shown(cli: Cli, on_engine: Engine) -> None:
    known = letter(on_engine)
    secret = "11111111-2222-3333-4444-555555555555"
    with on_engine.database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE dead_letters SET lease_token = :token, state = 'leased'"), {"token": secret}
        )
    for command in (("list", "--json"), ("show", known, "--json"), ("show", known), ("list",)):
        assert secret not in cli("dead-letters", *command).out


def test_retry_makes_a_letter_due_and_the_audit_says_who(cli: Cli, on_engine: Engine) -> None:
    known = letter(on_engine)
    assert dead_letters.show(on_engine, known).letter.due_at > datetime.now(UTC)
    result = cli("dead-letters", "retry", known, "--yes", "--reason", "fixed it")
    assert result.code == 0
    assert known in result.out
    assert dead_letters.show(on_engine, known).letter.due_at <= datetime.now(UTC)
    assert audited(on_engine) == [(actor(), "dead_letter.retry", known, "fixed it")]


def test_discard_settles_what_it_can_and_says_what_it_could_not(cli: Cli, on_engine: Engine) -> None:
    known = letter(on_engine)
    result = cli("dead-letters", "discard", known, "nonsense", "--reason", "duplicate", "--yes", "--json")
    assert result.code == 1
    good, bad = result.json["results"]
    assert good == {"id": known, "error": None}
    assert bad["id"] == "nonsense"
    assert "no dead letter" in bad["error"]
    assert dead_letters.show(on_engine, known).letter.state == "discarded"


def test_without_a_yes_nothing_is_discarded(
    cli: Cli, on_engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = letter(on_engine)
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        result = cli("dead-letters", "discard", known, "--reason", "duplicate")
        assert result.code == 1
        assert "nothing was done" in result.err
    assert dead_letters.show(on_engine, known).letter.state == "pending"
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert cli("dead-letters", "discard", known, "--reason", "duplicate").code == 0
    assert dead_letters.show(on_engine, known).letter.state == "discarded"


def test_a_discard_with_an_empty_reason_is_refused(cli: Cli, on_engine: Engine) -> None:
    known = letter(on_engine)
    result = cli("dead-letters", "discard", known, "--reason", " ", "--yes")
    assert result.code == 1
    assert dead_letters.show(on_engine, known).letter.state == "pending"


# breakers


def test_breakers_are_listed_and_shown_with_their_history(cli: Cli, on_engine: Engine) -> None:
    trip(on_engine, "payments")
    history.monitor(on_engine)
    listed = cli("breakers", "list")
    assert "payments" in listed.out
    assert "open" in listed.out
    assert all(len(line) <= 80 for line in listed.out.splitlines())
    (only,) = cli("breakers", "list", "--json").json["breakers"]
    assert (only["name"], only["state"]) == ("payments", "open")
    shown = cli("breakers", "show", "payments", "--json").json
    assert shown["breaker"]["config"]["failure_threshold"] == 5
    assert [change["to_state"] for change in shown["transitions"]] == ["open"]
    assert "failure_threshold" in cli("breakers", "show", "payments").out


def test_the_switch_is_thrown_for_the_fleet_and_audited(cli: Cli, on_engine: Engine) -> None:
    trip(on_engine, "payments")
    reset = cli("breakers", "reset", "payments", "--reason", "it is back", "--yes", "--json")
    assert reset.json["breaker"]["state"] == "closed"
    opened = cli("breakers", "open", "payments", "--reason", "maintenance", "--for", "600", "--yes")
    assert opened.code == 0
    status = fleet.show(on_engine.redis, "payments")
    assert status is not None
    assert (status.override, status.override_actor) == ("forced_open", actor())
    assert status.override_until is not None
    assert status.override_until < datetime.now(UTC) + timedelta(seconds=601)
    assert cli("breakers", "disable", "payments", "--reason", "noise", "--yes").code == 0
    assert cli("breakers", "shadow", "payments", "--reason", "a trial", "--yes").code == 0
    assert "would have opened" in cli("breakers", "show", "payments").out
    assert [(act, subject, why) for _, act, subject, why in audited(on_engine)] == [
        ("breaker.reset", "payments", "it is back"),
        ("breaker.force_open", "payments", "maintenance"),
        ("breaker.disable", "payments", "noise"),
        ("breaker.metrics_only", "payments", "a trial"),
    ]


@pytest.mark.parametrize("command", [("show", "x"), ("reset", "x", "--reason", "r", "--yes")])
def test_a_breaker_that_nobody_uses_is_an_error(
    cli: Cli, on_engine: Engine, command: tuple[str, ...]
) -> None:
    result = cli("breakers", *command)
    assert result.code == 1
    assert "no breaker is called x" in result.err
    assert audited(on_engine) == []


# reports


def test_a_report_is_made_listed_and_shown_in_three_forms(cli: Cli, on_engine: Engine) -> None:
    made = cli("reports", "now", "--json").json
    assert made["kind"] == "now"
    assert made["intact"] is True
    assert made["report"]["headline"] == made["headline"]
    (listed,) = cli("reports", "list", "--json").json["reports"]
    assert listed["id"] == made["id"]
    assert set(listed) == {
        "id",
        "kind",
        "period_start",
        "period_end",
        "created_at",
        "digest",
        "headline",
        "version",
    }
    table = cli("reports", "list").out
    assert made["id"] in table
    assert all(len(line) <= 80 for line in table.splitlines())
    assert cli("reports", "show", made["id"]).out.startswith("# Reliability report, now")
    assert cli("reports", "show", "latest", "--format", "html").out.startswith("<!doctype html>")
    assert cli("reports", "show", made["id"][:13], "--format", "json").json == made


def test_a_report_that_was_changed_is_told(cli: Cli, on_engine: Engine) -> None:
    made = cli("reports", "now", "--json").json
    with on_engine.database.transaction() as connection:
        connection.execute(sa.update(reports).values(json='{"headline": "all is well"}'))
    shown = cli("reports", "show", made["id"], "--json")
    assert shown.json["intact"] is False
    assert "not what it was" in shown.err


def test_a_report_that_is_not_there_is_an_error(cli: Cli, on_engine: Engine) -> None:
    for unknown in ("latest", "nonsense"):
        result = cli("reports", "show", unknown)
        assert result.code == 1
        assert "no report has the id" in result.err


# db


def test_the_database_goes_up_and_down_and_says_where_it_is(cli: Cli, on_engine: Engine) -> None:
    newest = cli("db", "revision", "--json").json
    assert newest["current"] is True
    down = cli("db", "downgrade", "base", "--yes", "--json").json
    assert down == {"before": newest["newest"], "after": None}
    behind = cli("db", "revision")
    assert behind.code == 1
    assert "regrow db upgrade" in behind.out
    assert cli("db", "upgrade", "--json").json == {"before": None, "after": newest["newest"]}
    assert "already" in cli("db", "upgrade").out


def test_a_downgrade_asks_first(cli: Cli, on_engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli("db", "downgrade", "base").code == 1
    assert cli("db", "revision", "--json").json["current"] is True


@pytest.mark.parametrize("command", [("upgrade", "no-such"), ("downgrade", "no-such", "--yes")])
def test_an_unknown_revision_is_an_error(cli: Cli, on_engine: Engine, command: tuple[str, ...]) -> None:
    result = cli("db", *command)
    assert result.code == 1
    assert "no-such" in result.err


def test_dead_letters_check_says_whether_letters_would_arrive(
    cli: Cli, on_engine: Engine, tmp_path: Path
) -> None:
    nothing = cli("dead-letters", "check")
    assert (nothing.code, "No routes or queues" in nothing.out) == (0, True)
    lost = letter(on_engine)
    checked = cli("dead-letters", "check", lost, "--json")
    assert checked.code == 1
    (found,) = checked.json["checked"]
    assert (found["subject"], found["ok"]) == (lost, False)
    assert "[dead_letters.routes.mail]" in found["told"]


# config


def test_config_check_says_yes_or_prints_every_error(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_REDIS_URL", "redis://example/0")
    good = cli("--profile", "testing", "config", "check", "--json")
    assert (good.code, good.json) == (0, {"ok": True, "profile": "testing", "errors": []})
    monkeypatch.setenv("SHUTDOWN_TIMEOUT", "soon")
    monkeypatch.setenv("HEALTH_HISTORY_SIZE", "-3")
    bad = cli("--profile", "testing", "config", "check", "--json")
    assert bad.code == 1
    assert bad.json["ok"] is False
    assert len(bad.json["errors"]) == 2
    assert any("SHUTDOWN_TIMEOUT" in line and "'soon'" in line for line in bad.json["errors"])
    plain = cli("--profile", "testing", "config", "check")
    assert plain.code == 1
    assert len(plain.err.splitlines()) == 2


def test_config_check_names_a_handler_that_cannot_be_loaded(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REGROW_REDIS_URL", "redis://example/0")
    file = tmp_path / "routes.toml"
    file.write_text("[dead_letters.routes.charge]\nkind = 'handler'\nhandler = 'no_such_app:charge'\n")
    checked = cli("--config", str(file), "--profile", "testing", "config", "check")
    assert checked.code == 1
    assert "dead_letters.routes.charge.handler: no_such_app:charge cannot be loaded" in checked.err


def test_config_show_hides_every_secret(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_REDIS_URL", "redis://user:hunter2@example:6379/0")
    monkeypatch.setenv("API_KEY", "hunter3")
    for arguments in (("config", "show"), ("config", "show", "--json")):
        shown = cli("--profile", "testing", *arguments)
        assert shown.code == 0
        assert "example:6379" in shown.out
        assert "hunter" not in shown.out
