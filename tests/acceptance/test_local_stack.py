"""One command runs everything, survives crashes, leaves nothing behind: on real processes."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from regrow.health.store import LiveResults
from tests.acceptance.local_stack import LocalStack, are_gone
from tests.waiting import eventually

pytestmark = pytest.mark.slow

JOBS = {
    "health_check_monitoring",
    "monitor_circuit_breakers",
    "process_dead_letter_queue_batch",
    "cleanup_temp_files",
    "generate_reliability_report",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """One stack for all tests that leave it running."""
    made = LocalStack(tmp_path_factory.mktemp("stack") / "var")
    made.start()
    yield made
    made.close()


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack of this test alone, not started yet."""
    made = LocalStack(tmp_path / "var")
    yield made
    made.close()


def heart(stack: LocalStack, kind: str, pid: int) -> dict[str, object] | None:
    """The heartbeat that this process left in Redis."""
    client = stack.redis()
    for key in client.scan_iter(match=f"regrow:{{heartbeat}}:{kind}:*"):
        beat: dict[str, object] = json.loads(client.get(key) or "{}")
        if beat.get("pid") == pid:
            return beat
    return None


def test_ready_means_that_all_are_up_and_the_checks_have_been_looked_at(stack: LocalStack) -> None:
    assert stack.get("/health/live") == 200
    for kind in ("worker", "beat"):
        beat = heart(stack, kind, stack.child(kind).pid)
        assert beat is not None
        assert beat["state"] in {"running", "standby"}
    looked_at = set(LiveResults(stack.redis(), 1, 60).latest())
    said_not_to_be = set(
        re.findall(r"[\w-]+", stack.said().partition("not known yet: ")[2].partition(";")[0])
    )
    assert {"redis", "database", "celery-worker", "celery-beat"} <= looked_at | said_not_to_be


def test_other_programs_join_with_stack_env_and_the_printed_key(stack: LocalStack) -> None:
    assert (stack.home / "stack.env").stat().st_mode & 0o777 == 0o600
    assert stack.variables["REGROW_URL"] == stack.url
    assert stack.redis().ping()
    key = stack.variables["API_KEY"]
    assert f"API key  {key}" in stack.said()
    assert stack.get("/health/detailed") in {401, 403}
    assert stack.get("/health/detailed", **{"X-API-Key": key}) in {200, 503}, (
        "503 while a check is not healthy"
    )
    assert key not in stack.log()
    assert stack.variables["REGROW_REDIS_URL"] not in stack.log()


def test_beat_makes_the_worker_run_all_five_jobs(stack: LocalStack) -> None:
    engine = sa.create_engine(stack.variables["REGROW_DATABASE_URL"])

    def done() -> bool:
        with engine.connect() as connection:
            rows = connection.execute(
                sa.text("SELECT DISTINCT job FROM job_runs WHERE outcome = 'succeeded'")
            )
            return {row.job for row in rows} >= JOBS

    eventually(done, 40, what="a succeeded run of each of the five jobs")
    engine.dispose()


def test_a_second_start_on_the_same_state_is_refused_naming_pid_and_page(stack: LocalStack) -> None:
    second = LocalStack(stack.home)
    second.file = lambda name: stack.file(f"second.{name}")  # type: ignore[method-assign]
    assert second.begin().wait(30) == 1
    assert f"supervisor pid {stack.supervisor.pid}, its page is {stack.url}" in second.log()
    assert "ready" not in second.said()
    assert stack.get("/health/live") == 200


def test_a_taken_port_that_was_asked_for_is_a_clear_error(own_stack: LocalStack) -> None:
    with socket.create_server(("127.0.0.1", own_stack.port)):
        assert own_stack.begin().wait(30) == 1
    told = own_stack.log()
    assert f"port {own_stack.port} is taken by another program" in told
    assert "REGROW_PORT" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("name", ["beat", "worker"])
def test_a_killed_celery_process_returns_and_beats_again(stack: LocalStack, name: str) -> None:
    killed = stack.child(name)
    family = [killed, *killed.children(recursive=True)]
    killed.kill()
    eventually(lambda: are_gone(family), 10, what="the killed process left nothing of its pool")
    back = eventually(lambda: stack.child(name), 20, what=f"another {name}")
    assert back.pid != killed.pid
    eventually(lambda: heart(stack, name, back.pid), 20, what=f"a heartbeat of the new {name}")


def test_a_killed_page_returns_on_its_port(stack: LocalStack) -> None:
    killed = stack.child("web")
    killed.kill()
    eventually(lambda: stack.child("web").pid != killed.pid, 20)
    eventually(lambda: stack.get("/health/live") == 200, 20)


def test_a_killed_valkey_returns_on_its_port_with_its_data_and_all_go_on(stack: LocalStack) -> None:
    stack.redis().set("kept", "yes")
    before, worker = stack.variables["REGROW_REDIS_URL"], stack.child("worker")
    stack.child("valkey").kill()
    eventually(lambda: stack.redis().get("kept") == "yes", 20, what="Valkey with its data")
    assert stack.variables["REGROW_REDIS_URL"] == before
    back = time.time()

    def beats_again(kind: str) -> bool:
        beat = heart(stack, kind, stack.child(kind).pid)
        return beat is not None and float(str(beat["at"])) > back and beat["state"] in {"running", "standby"}

    eventually(lambda: beats_again("worker"), 30, what="the worker's heartbeat")
    eventually(lambda: beats_again("beat"), 30, what="beat's heartbeat")
    assert stack.child("worker") == worker, "the worker outlives its broker"


def test_sigterm_drains_exits_zero_and_leaves_nothing(stack: LocalStack) -> None:
    family = stack.family()
    assert len(family) >= 5
    assert stack.ask_to_stop(signal.SIGTERM) == 0
    assert are_gone(family)
    assert not (stack.home / "stack.env").exists()
    assert not (stack.home / "run" / "stack.json").exists()
    assert "child.killed" not in stack.log(), "each child ended by itself"


def test_a_killed_supervisor_leaves_no_orphan_and_the_next_start_finds_the_state(
    own_stack: LocalStack,
) -> None:
    own_stack.start()
    client = own_stack.redis()
    client.set("kept", "yes")
    # A write may wait two seconds for the sync of the one before, and dies with its process meanwhile.
    eventually(lambda: client.execute_command("WAITAOF", 1, 0, 1_000)[0] == 1, what="it is on the disk")
    key, family = own_stack.variables["API_KEY"], own_stack.family()
    names = {name: own_stack.child(name).pid for name in ("valkey", "worker", "beat", "web")}
    pool = psutil.Process(names["worker"]).children()
    assert pool, "a prefork worker has children of its own"
    assert {process.pid for process in pool} < {process.pid for process in family}

    own_stack.supervisor.kill()
    own_stack.supervisor.wait()
    eventually(lambda: are_gone(family), 10, what="Valkey, worker, pool, beat and page are gone")

    own_stack.start()
    assert own_stack.redis().get("kept") == "yes"
    assert own_stack.variables["API_KEY"] == key
    family = own_stack.family()
    assert own_stack.ask_to_stop(signal.SIGINT) == 0, "Ctrl-C"
    assert are_gone(family)


def test_what_make_started_ends_when_make_is_killed(own_stack: LocalStack) -> None:
    # A process that is not the supervisor's parent looks to it like a make that has died.
    assert own_stack.begin(REGROW_STARTED_BY="1").wait(60) == 0
    assert "stopping" in own_stack.said()


def test_a_child_that_cannot_run_is_said_loudly_and_ends_the_stack(own_stack: LocalStack) -> None:
    data = own_stack.home / "valkey" / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("rubbish\n")
    assert own_stack.begin().wait(60) == 1
    assert "valkey cannot run" in own_stack.log()
    assert "Move that folder away" in own_stack.log()
    assert "ready" not in own_stack.said()
    assert not (own_stack.home / "stack.env").exists()


def test_a_page_s_port_given_in_words_is_refused_without_a_traceback(own_stack: LocalStack) -> None:
    assert own_stack.begin(REGROW_PORT="http").wait(30) == 1
    assert "REGROW_PORT" in own_stack.log()
    assert "Traceback" not in own_stack.log()
