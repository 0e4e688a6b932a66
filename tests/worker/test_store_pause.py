"""A database that is away: captures wait in the broker, untouched, and the monitor's queue goes on."""

from __future__ import annotations

import json

import pymysql
import sqlalchemy as sa
from kombu import Connection

from regrow.database.tables import dead_letters
from tests.servers import MariaServer
from tests.waiting import eventually
from tests.worker.conftest import MakeSurroundings
from tests.worker.processes import ready, running, worker
from tests.worker.verdicts import Look

CAPTURES = 30


def test_while_the_database_is_away_nothing_is_taken_from_the_capture_queue_and_nothing_is_lost(
    surroundings: MakeSurroundings, broker_url: str, own_mysql: MariaServer, make_settings
) -> None:
    say(
        own_mysql,
        "CREATE DATABASE regrow CHARACTER SET utf8mb4",
        "CREATE USER plain@'127.0.0.1' IDENTIFIED BY 'x'",
        "GRANT ALL ON regrow.* TO plain@'127.0.0.1'",
    )
    around = surroundings(
        broker_url,
        REGROW_DATABASE_URL=own_mysql.url("regrow").replace("root@", "plain:x@"),
        REGROW_CELERY__VISIBILITY_TIMEOUT="60",
    )
    look = Look(make_settings(around.redis_url, CELERY_BROKER_URL=broker_url))
    with running(worker(around)) as program:
        ready(program)
        own_mysql.kill()
        for number in range(CAPTURES):
            around.send(
                "regrow.dead_letters.capture",
                {"number": number},
                queue="regrow.capture",
                kwargs={"error": "down", "message_type": "t"},
            )
        eventually(lambda: program.says("capture.paused"), 40, what="the worker takes no more")
        eventually(lambda: waiting(broker_url) == CAPTURES, 20, what="all are back in the queue")
        paused = look.until("healthy", "worker@test waits: captures and redrives stay in the broker")
        assert paused.status == "degraded"
        assert paused.data["workers"][0]["paused"] == ["regrow.capture", "regrow.redrive"]
        given_back = program.output().count("letter.waiting")
        around.send("test.work", "control")
        eventually(lambda: around.ended("control") == 1, 20, what="the control queue goes on")
        around.send("test.work", "slow", 3)  # a while in which a busy loop would show
        eventually(lambda: around.ended("slow") == 1, 20)
        assert waiting(broker_url) == CAPTURES
        assert program.output().count("letter.waiting") == given_back, "nothing is tried meanwhile"
        assert given_back < 20, "fewer than a quorum queue gives a single message"
        own_mysql.start()
        eventually(lambda: kept(own_mysql) == list(range(CAPTURES)), 60, what="all are kept, each once")
        assert program.says("capture.resumed")
        assert waiting(broker_url) == 0
        look.until("healthy", "1 alive")
        say(own_mysql, "SET GLOBAL read_only = 1")  # as after a failover: it answers, and takes nothing
        eventually(lambda: program.output().count("capture.paused") == 2, 20, what="it takes no more")
        say(own_mysql, "SET GLOBAL read_only = 0")
        eventually(lambda: program.output().count("capture.resumed") == 2, 20, what="it goes on")


def say(server: MariaServer, *statements: str) -> None:
    with pymysql.connect(host="127.0.0.1", port=server.port, user="root") as connection:
        for statement in statements:
            connection.cursor().execute(statement)


def waiting(broker_url: str) -> int:
    with Connection(broker_url) as connection:
        try:
            return int(connection.channel().queue_declare("regrow.capture", passive=True).message_count)
        except connection.channel_errors:  # on Redis, a queue without a message is not there
            return 0


def kept(server: MariaServer) -> list[int]:
    engine = sa.create_engine(server.url("regrow"), poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        bodies = connection.exec_driver_sql("SELECT body FROM dead_letter_bodies").scalars()
        assert connection.execute(sa.select(sa.func.count()).select_from(dead_letters)).scalar()
        return sorted(json.loads(body)["number"] for body in bodies)
