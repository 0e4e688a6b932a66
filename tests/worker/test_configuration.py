"""Celery's configuration as a value, and the start-up gate as a function."""

from __future__ import annotations

import json
import ssl

import pytest
from celery.app.defaults import DEFAULTS

from regrow.celery.messages import RawMessage, defect_of, event_id
from regrow.celery.urls import broker_of, results_of, sentinel_of, socket_of
from regrow.engine import Engine
from regrow.errors import SettingsError
from regrow.redis_url import parse
from worker import lifecycle
from worker.configuration import ROUTES, configuration


def test_every_setting_is_one_that_celery_knows(make_settings) -> None:
    conf = configuration(make_settings())
    undeclared = {"redis_backend_health_check_interval"}  # read by the backend all the same
    assert {name for name in conf if not name.startswith("redbeat_")} <= set(DEFAULTS) | undeclared


@pytest.mark.parametrize("broker", ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//"])
def test_nothing_but_json_comes_in_and_nothing_waits_for_ever(make_settings, broker: str) -> None:
    conf = configuration(make_settings(CELERY_BROKER_URL=broker))
    assert conf["accept_content"] == conf["result_accept_content"] == ["json"]
    options = conf["broker_transport_options"]
    if broker.startswith("redis"):
        assert all(options[name] for name in ("socket_timeout", "socket_connect_timeout", "socket_keepalive"))
        assert {options[key] for key in ("unacked_key", "unacked_index_key", "unacked_mutex_key")} == {
            "regrow.unacked",
            "regrow.unacked_index",
            "regrow.unacked_mutex",
        }
    else:
        assert options["confirm_publish"] is True
        assert options["write_timeout"]


def test_the_soft_shutdown_ends_before_a_lease_does(make_settings) -> None:
    conf = configuration(make_settings(SHUTDOWN_TIMEOUT="300", REGROW_CELERY__VISIBILITY_TIMEOUT="60"))
    assert conf["worker_soft_shutdown_timeout"] == 30


def test_failed_messages_do_not_wait_behind_scheduled_jobs() -> None:
    queues = {task.rsplit(".", 1)[1]: route["queue"] for task, route in ROUTES.items()}
    assert {queues[name] for name in ("capture", "capture_many", "settle", "record_failure")} == {
        "regrow.capture"
    }
    assert queues["process_dead_letter_queue_batch"] == queues["retry_message"] == "regrow.redrive"
    assert "cleanup_old_dlq_messages" not in queues


def test_addresses_are_put_into_kombus_form() -> None:
    url = "sentinel://:p%40ss@one:26379,two/mymaster/3?sentinel_password=s"
    nodes, options = sentinel_of(parse(url))
    assert nodes == "sentinel://:p%40ss@one:26379/3;sentinel://:p%40ss@two:26379/3"
    assert options == {"master_name": "mymaster", "sentinel_kwargs": {"password": "s"}}
    assert socket_of("unix:///run/redis.sock?db=2") == "redis+socket:///run/redis.sock?virtual_host=2"
    assert broker_of("rediss://h/0")["broker_use_ssl"]
    with pytest.raises(SettingsError, match=r"celery\.broker_url: .* names no service"):
        broker_of("sentinel://one:26379")


def test_sentinels_over_tls_are_put_into_kombus_form() -> None:
    url = "rediss+sentinel://ann:pw@[::1]:1/mymaster?ssl_ca_certs=/ca.pem"
    broker, results = broker_of(url), results_of(url)
    assert broker["broker_url"] == results["result_backend"] == "sentinel://ann:pw@[::1]:1/0"
    assert broker["broker_use_ssl"]["ssl_ca_certs"] == "/ca.pem"
    assert results["redis_backend_use_ssl"]["ssl_cert_reqs"] is ssl.CERT_REQUIRED
    assert broker["broker_transport_options"]["sentinel_kwargs"]["ssl"] is True


@pytest.mark.parametrize(("of", "setting"), [(broker_of, "broker_url"), (results_of, "result_backend")])
def test_a_cluster_is_refused_where_celery_would_have_to_speak_to_it(of, setting) -> None:
    with pytest.raises(SettingsError, match=rf"celery\.{setting}: a Redis Cluster cannot"):
        of("redis+cluster://one,two")


GOOD = {"task": "t", "id": "i"}


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        (GOOD, [[], {}, {}]),
        (GOOD, ((), {}, None)),
        (GOOD, {"args": [], "kwargs": {}}),
        ({}, {"task": "t", "id": "i"}),
        ({}, {"task": "t", "id": "i", "args": [1], "kwargs": {"a": 1}}),
    ],
)
def test_messages_of_both_protocols_are_let_through(headers, payload) -> None:
    assert defect_of(headers, payload) is None


@pytest.mark.parametrize(
    ("headers", "payload"),
    [
        (None, [[], {}, {}]),
        ({"task": "t"}, [[], {}, {}]),
        ({"task": "t", "id": ""}, [[], {}, {}]),
        ({"task": ["t"], "id": "i"}, [[], {}, {}]),
        (GOOD, [[], {}]),
        (GOOD, None),
        (GOOD, "abc"),
        (GOOD, {"kwargs": {}}),
        (GOOD, ["a", {}, {}]),
        (GOOD, [[], [], {}]),
        (GOOD, [[], {}, "x"]),
        ({}, {"task": "t"}),
        ({}, [1, 2, 3]),
    ],
)
def test_a_defect_is_named_without_showing_the_body(headers, payload) -> None:
    defect = defect_of(headers, payload)
    assert defect is not None
    assert json.dumps(payload) not in str(defect)


def test_one_failure_has_one_event_id_and_garbage_without_identity_is_never_taken_for_its_twin() -> None:
    def message(**more) -> RawMessage:
        return RawMessage(b"x", more.pop("headers", {}), None, None, "q", **more)

    task = message(headers={"id": "a", "retries": 1})
    assert event_id("failed", task) == event_id("failed", message(headers={"id": "a", "retries": 1}))
    assert event_id("failed", task) != event_id("failed", message(headers={"id": "a", "retries": 2}))
    assert event_id("failed", task) != event_id("poison", task)
    tagged = message(properties={"delivery_tag": "on redis"})
    assert event_id("poison", tagged) == event_id("poison", message(properties={"delivery_tag": "on redis"}))
    assert event_id("poison", message()) != event_id("poison", message())


def test_a_route_to_a_function_that_cannot_be_loaded_ends_the_start(
    make_settings, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "routes.toml"
    file.write_text("[dead_letters.routes.charge]\nkind = 'handler'\nhandler = 'no_such_app:charge'\n")
    settings = make_settings(REGROW_CONFIG=str(file))
    monkeypatch.setattr(lifecycle, "get_engine", lambda: Engine(settings))
    with pytest.raises(SystemExit) as ended:
        lifecycle.load_handlers()
    assert ended.value.code == lifecycle.NOT_STARTED_EXIT
    file.write_text("[dead_letters.routes.charge]\nkind = 'handler'\nhandler = 'json:dumps'\n")
    monkeypatch.setattr(lifecycle, "get_engine", lambda: Engine(make_settings(REGROW_CONFIG=str(file))))
    lifecycle.load_handlers()
