from __future__ import annotations

import json
import os
from io import StringIO

from worker.stack.console import Console


def test_what_is_said_goes_out_at_once_and_whole() -> None:
    out, err = StringIO(), StringIO()
    Console(out, err).say("ready http://127.0.0.1:8000")
    assert out.getvalue() == "ready http://127.0.0.1:8000\n"
    assert err.getvalue() == ""


def test_a_child_s_line_carries_its_name() -> None:
    err = StringIO()
    Console(StringIO(), err).log("web", "GET /")
    assert err.getvalue() == "   web | GET /\n"


def test_machines_get_json_and_nothing_else() -> None:
    err = StringIO()
    console = Console(StringIO(), err, machine=True)
    console.log("web", '{"event": "job.finished"}')
    console.log("valkey", "bye bye")
    told = [json.loads(line) for line in err.getvalue().splitlines()]
    assert told == [{"event": "job.finished"}, {"child": "valkey", "event": "bye bye"}]


def test_a_reader_that_went_away_does_not_stop_the_stack() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="utf-8", closefd=False) as closed:
        console = Console(closed, closed)
        console.say("ready")
        console.log("web", "GET /")
        console.alarm("giving up", ["its last lines"])
        os.dup2(os.open(os.devnull, os.O_WRONLY), writing)  # so that closing the file can flush
    os.close(writing)


def test_an_alarm_stands_out() -> None:
    err = StringIO()
    Console(StringIO(), err).alarm("giving up", ["its last lines:", "    boom"])
    rule, headline, *details, end = err.getvalue().splitlines()
    assert rule == end == "=" * 78
    assert headline == "regrow: giving up"
    assert details == ["its last lines:", "    boom"]
