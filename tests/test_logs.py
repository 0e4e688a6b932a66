"""Log lines: JSON for machines, no secret in any of them, the contract's field names."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest
import structlog

from regrow.log_events import Each
from regrow.logs import configure_logging

Lines = Callable[[], str]


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    return lambda: capsys.readouterr().err


def _last(lines: Lines) -> dict[str, object]:
    return dict(json.loads(lines().splitlines()[-1]))


def test_production_writes_json_with_time_level_and_fields(lines: Lines) -> None:
    configure_logging(production=True)
    structlog.get_logger("x").warning("job.finished", job="report", seconds=0.5)
    told = _last(lines)
    assert (told["event"], told["level"], told["job"], told["seconds"]) == (
        "job.finished",
        "warning",
        "report",
        0.5,
    )
    assert str(told["timestamp"]).endswith("Z")


@pytest.mark.parametrize("field", ["password", "api_key", "Authorization", "session_token", "secret_thing"])
def test_fields_that_sound_secret_are_masked_whoever_logs_them(lines: Lines, field: str) -> None:
    configure_logging(style="json")
    structlog.get_logger("x").info("e", **{field: "hush"})
    logging.getLogger("plain").info("e", extra={field: "hush"})
    told = lines()
    assert "hush" not in told
    assert told.count("***") == 2


def test_credentials_in_urls_are_cut_out_of_every_text(lines: Lines) -> None:
    configure_logging(style="json")
    structlog.get_logger("x").info("connected to redis://:hush@h:1/0", broker="amqp://u:hush@h//")
    logging.getLogger("plain").warning("lost %s", "mysql://u:hush@h/db")
    told = lines()
    assert "hush" not in told
    assert "redis://***@h:1/0" in told


def test_a_breakers_events_carry_its_name(lines: Lines) -> None:
    configure_logging(style="json")
    logging.getLogger("regrow.breakers").warning("breaker.opened", extra={"breaker": "payments"})
    told = _last(lines)
    assert told["name"] == "payments"
    assert "breaker" not in told


def test_an_exception_is_told_without_local_variables(lines: Lines) -> None:
    def fail(password: str) -> None:
        raise ValueError(f"{len(password)} characters")

    secret = "hsuh"[::-1]  # in no line of source that a traceback may show
    for style in ("json", "pretty"):
        configure_logging(style=style)
        try:
            fail(secret)
        except ValueError:
            structlog.get_logger("x").exception("failed")
    told = lines()
    assert told.count("ValueError: 4 characters") == 2
    assert secret not in told


def test_an_error_that_quotes_a_secret_is_logged_without_it(lines: Lines) -> None:
    configure_logging(style="json")
    for name in ("error", "reason"):
        structlog.get_logger("x").warning(
            "e", **{name: "refused: {'password': 'hush'} from ann@shop.example"}
        )
        said = lines()
        assert "hush" not in said
        assert "ann@" not in said


def test_many_of_a_kind_are_a_line_each_as_if_told_one_by_one(lines: Lines) -> None:
    configure_logging(style="json")
    ids = ["0190-a", 'b"c\n', "0190-d"]
    structlog.get_logger("x").info("letter.resolved", letter=Each(ids), by="outcome")
    together = [json.loads(line) for line in lines().splitlines()]
    for one in ids:
        structlog.get_logger("x").info("letter.resolved", letter=one, by="outcome")
    alone = [json.loads(line) for line in lines().splitlines()]
    assert [told["letter"] for told in together] == ids
    for told in together + alone:
        del told["timestamp"]
    assert together == alone


def test_people_see_a_line_each_too(lines: Lines) -> None:
    configure_logging(style="pretty")
    structlog.get_logger("x").info("letter.resolved", letter=Each(["a1", "b2"]), by="outcome")
    first, second = lines().splitlines()
    assert ("a1" in first, "b2" in first) == (True, False)
    assert ("a1" in second, "b2" in second) == (False, True)
