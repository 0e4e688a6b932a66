"""What the checks say of real beats: no worker, stalled, dead."""

from __future__ import annotations

import signal

from regrow.celery.asking import asking
from regrow.health.checks import probe_of
from regrow.settings.checks import CeleryBeatCheck
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import Program, beat, running
from tests.worker.verdicts import QUICK, Timeline


def test_a_beat_that_answers_is_not_taken_for_a_worker(surroundings: MakeSurroundings, tmp_path) -> None:
    around = surroundings(**QUICK)
    arguments = [
        "-A",
        "tests.worker.foreign",
        "beat",
        "--enable-remote-control",
        "-s",
        str(tmp_path / "schedule"),
    ]
    with (
        running(Program(around, arguments, around.home / "beat.log")),
        asking(around.broker_url, "celery", 3) as asker,
    ):
        eventually(lambda: asker._ask("ping", [], 1.0), 30, what="beat answers a ping")
        assert asker.found(1.0) == set()


def test_a_beat_that_hangs_or_sends_nothing_is_stalled_and_one_that_was_killed_is_dead(
    surroundings: MakeSurroundings, make_settings
) -> None:
    around = surroundings(REGROW_CELERY__WATCHDOG_TIMEOUT="18", TEST_FREEZES="1")
    settings = make_settings(around.redis_url)
    probe = probe_of(CeleryBeatCheck(kind="celery_beat", max_age=5.0), settings)

    timeline = Timeline()

    def says(status: str, verdict: str, said: str) -> bool:
        found = probe()
        timeline.say(f"{found.data['verdict']} ({found.status})")
        return (found.status, found.data["verdict"], said in found.message) == (status, verdict, True)

    with running(beat(around)) as program:
        eventually(lambda: says("healthy", "ticking", "1 alive"), 40, every=0.5, what="it ticks")
        timeline.fault("beat ticks and sends nothing")
        around.traces.set("idle", 1)
        stalled = "ticks, and has sent nothing for"
        eventually(lambda: says("unhealthy", "stalled", stalled), 40, every=0.5, what="it sends nothing")
        around.traces.delete("idle")
        eventually(lambda: says("healthy", "ticking", "1 alive"), 40, every=0.5, what="it sends again")
        timeline.fault("beat hangs in a tick")
        around.traces.set("freeze", 1)
        stalled = "the process lives, but has not ticked for"
        eventually(lambda: says("unhealthy", "stalled", stalled), 40, every=0.5, what="it hangs")
        timeline.fault("beat is killed")
        program.signal(signal.SIGKILL)
        eventually(lambda: says("unhealthy", "dead", "no sign of life"), 40, every=0.5, what="it is gone")
