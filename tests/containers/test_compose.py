"""What docker-compose.yml promises, read as data."""

from __future__ import annotations

import re
from typing import Any

import pytest

from regrow.celery.queues import CONTROL, QUEUES
from regrow.settings import load_settings
from regrow.settings.sources import VARIABLES
from tests.containers.conftest import ROOT, seconds

OURS = ("control", "worker", "beat", "web")
LASTING = (*OURS, "redis", "mysql")
EVERY = (*LASTING, "secrets")

BARE = {"REGROW_REDIS_URL": "redis://nowhere", "REGROW_DATABASE_URL": "sqlite:///nowhere"}
DEFAULTS = load_settings(environ={"REGROW_CONFIG": "/dev/null", **BARE})


def test_these_are_the_services(compose: Any) -> None:
    assert set(compose["services"]) == set(EVERY)


@pytest.mark.parametrize("name", LASTING)
def test_a_service_that_ends_is_started_again(compose: Any, name: str) -> None:
    assert compose["services"][name]["restart"] == "always"


@pytest.mark.parametrize("name", EVERY)
def test_no_service_has_rights_it_does_not_need(compose: Any, name: str) -> None:
    service = compose["services"][name]
    assert service["read_only"] is True
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    if name in OURS:
        assert "cap_add" not in service
        assert "user" not in service, "the image's own numeric user"


@pytest.mark.parametrize("name", ["redis", "mysql"])
def test_a_store_may_become_its_own_user_and_init_may_still_stop_it(compose: Any, name: str) -> None:
    """Without KILL, SIGTERM does not arrive; without SETPCAP, redis:8 cannot drop its rights and does not start."""
    needed = {"SETUID", "SETGID", "CHOWN", "KILL"} | ({"SETPCAP"} if name == "redis" else set())
    assert needed <= set(compose["services"][name]["cap_add"])


@pytest.mark.parametrize("name", EVERY)
def test_every_service_has_its_limits_and_reservations(compose: Any, name: str) -> None:
    resources = compose["services"][name]["deploy"]["resources"]
    assert (resources["limits"]["cpus"], resources["limits"]["memory"]) == ("1", "1G")
    assert (resources["reservations"]["cpus"], resources["reservations"]["memory"]) == ("0.5", "512M")


@pytest.mark.parametrize("name", EVERY)
def test_no_service_fills_the_disk_with_logs(compose: Any, name: str) -> None:
    logging = compose["services"][name]["logging"]
    assert logging["driver"] == "json-file"
    assert set(logging["options"]) == {"max-size", "max-file"}


@pytest.mark.parametrize("name", LASTING)
def test_every_lasting_service_has_a_health_check_that_needs_no_shell_tools(compose: Any, name: str) -> None:
    check = compose["services"][name]["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert not re.search(r"\b(curl|wget)\b", " ".join(check["test"]))
    assert seconds(check["timeout"]) <= seconds(check["interval"])


@pytest.mark.parametrize("name", OURS)
def test_waiting_at_the_start_up_gate_does_not_count_as_failing(compose: Any, name: str) -> None:
    check = compose["services"][name]["healthcheck"]
    assert seconds(check["start_period"]) > DEFAULTS.startup.timeout
    assert seconds(check["start_interval"]) < seconds(check["interval"])


@pytest.mark.parametrize("name", OURS)
def test_a_container_gets_longer_to_stop_than_its_soft_shutdown_takes(compose: Any, name: str) -> None:
    assert seconds(compose["services"][name]["stop_grace_period"]) >= DEFAULTS.shutdown.timeout + 15


@pytest.mark.parametrize(("name", "kind"), [("control", "worker"), ("worker", "worker"), ("beat", "beat")])
def test_a_heartbeat_counts_as_old_well_before_the_watchdog_ends_the_process(
    compose: Any, name: str, kind: str
) -> None:
    *_, file, max_age = compose["services"][name]["healthcheck"]["test"]
    assert file == f"/var/lib/regrow/run/{kind}.heartbeat"
    assert 2 * 5 < float(max_age) < DEFAULTS.celery.watchdog_timeout


@pytest.mark.parametrize("name", OURS)
def test_our_services_start_after_the_secrets_and_the_stores(compose: Any, name: str) -> None:
    depends = compose["services"][name]["depends_on"]
    assert depends["secrets"]["condition"] == "service_completed_successfully"
    assert {depends[store]["condition"] for store in ("redis", "mysql")} == {"service_healthy"}


def test_nothing_is_published_but_the_page_on_loopback(compose: Any) -> None:
    published = {
        name: service["ports"] for name, service in compose["services"].items() if "ports" in service
    }
    assert published == {"web": ["127.0.0.1:8000:8000"]}
    assert all("network_mode" not in compose["services"][name] for name in LASTING)


def test_the_stores_are_on_a_network_without_a_way_out(compose: Any) -> None:
    assert compose["networks"]["stores"]["internal"] is True
    for store in ("redis", "mysql"):
        assert compose["services"][store]["networks"] == ["stores"]


def test_no_secret_stands_in_the_file_or_in_an_environment(compose: Any) -> None:
    for service in compose["services"].values():
        for name, value in (service.get("environment") or {}).items():
            if re.search("PASSWORD|SECRET|KEY|TOKEN", name):
                assert name.endswith("_FILE"), name
                assert value.startswith("/run/secrets/")
            assert not re.search(r"://[^/@]*:[^/@]*@", str(value)), f"{name} has a password in its URL"


def test_each_container_sees_its_own_secrets_only(compose: Any) -> None:
    seen = {
        name: [
            mount
            for mount in compose["services"][name]["volumes"]
            if isinstance(mount, str) and "secrets" in mount
        ]
        for name in LASTING
    }
    assert seen == {
        "control": ["worker-secrets:/run/secrets:ro"],
        "worker": ["worker-secrets:/run/secrets:ro"],
        "beat": ["worker-secrets:/run/secrets:ro"],
        "web": ["web-secrets:/run/secrets:ro"],
        "redis": ["redis-secrets:/run/secrets:ro"],
        "mysql": ["mysql-secrets:/run/secrets:ro"],
    }


@pytest.mark.parametrize("name", OURS)
def test_every_variable_passed_on_is_a_setting(compose: Any, name: str) -> None:
    for variable in compose["services"][name]["environment"]:
        known = variable.removesuffix("_FILE") in VARIABLES or re.match("REGROW_[A-Z]+__[A-Z_]+$", variable)
        assert known, variable


def test_every_file_that_is_mounted_is_in_the_repository(compose: Any) -> None:
    sources = {
        mount["source"]
        for service in compose["services"].values()
        for mount in service.get("volumes", [])
        if isinstance(mount, dict)
    }
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


@pytest.mark.parametrize("name", OURS)
def test_the_folder_of_the_settings_is_mounted_so_that_a_file_put_in_its_place_is_seen(
    compose: Any, name: str
) -> None:
    """A single file that is mounted stays the inode it was; reload would look at the old one for ever."""
    binds = [volume for volume in compose["services"][name]["volumes"] if isinstance(volume, dict)]
    (settings,) = [volume for volume in binds if volume["target"].startswith("/app/config")]
    assert (settings["source"], settings["target"]) == ("./config", "/app/config")
    assert (ROOT / settings["source"]).is_dir()


def test_the_workers_share_the_queues_out_and_the_jobs_have_one_of_their_own(compose: Any) -> None:
    taken = {
        name: compose["services"][name]["command"][-1].split(",")
        for name in OURS
        if "--queues" in compose["services"][name]["command"]
    }
    assert taken["control"] == [CONTROL]
    assert sorted(queue for queues in taken.values() for queue in queues) == sorted(QUEUES)


@pytest.mark.parametrize("name", ["control", "worker"])
def test_workers_share_their_state_but_not_their_heartbeat(compose: Any, name: str) -> None:
    worker = compose["services"][name]
    assert "state:/var/lib/regrow" in worker["volumes"]
    assert any(mount.startswith("/var/lib/regrow/run:") for mount in worker["tmpfs"])


def test_redis_keeps_its_tasks_and_drops_none(compose: Any) -> None:
    assert compose["services"]["redis"]["command"][1] == "/etc/redis/regrow.conf"
    lines = (ROOT / "config/redis/redis.conf").read_text(encoding="utf-8").splitlines()
    options = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert options["appendonly"] == "yes"
    assert options["maxmemory-policy"] == "noeviction"
    assert options["maxmemory"] == "512mb", "below the limit of 1 GiB, with room for a rewrite"
    assert options["aclfile"].startswith("/run/secrets/")
    assert "requirepass" not in options


def test_mysql_takes_the_largest_body_in_one_packet() -> None:
    text = (ROOT / "config/mysql/regrow.cnf").read_text(encoding="utf-8")
    options = dict(re.findall(r"^([a-z_-]+) = (.+)$", text, flags=re.MULTILINE))
    assert int(options["max_allowed_packet"].removesuffix("M")) * 2**20 > 2 * DEFAULTS.web.max_content_length
    assert options["transaction-isolation"] == "READ-COMMITTED"
    assert options["default-time-zone"] == "+00:00"
    assert options["character-set-server"] == "utf8mb4"
    pools = DEFAULTS.database.pool_size * (2 * (DEFAULTS.celery.concurrency + 1) + 2)
    assert int(options["max_connections"]) > pools, (
        "two workers, their children, beat and web, each with a full pool"
    )
