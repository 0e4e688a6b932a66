"""Windows that people add: kept, audited, ended, known while the database is away; results in them are marked."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from regrow.database.tables import audit, check_results
from regrow.engine import Engine
from regrow.errors import SettingsError, StoreUnavailableError
from regrow.health import maintenance, service
from regrow.health.maintenance import MaintenanceError
from regrow.health.windows import Scope
from tests.servers import free_port
from tests.shipped import switched_off

EVERYTHING = Scope(everything=True)


def hours(number):
    return timedelta(hours=number)


def add(engine, starts=0.0, lasts=1.0, scope=EVERYTHING, reason="a new disk"):
    """A window that begins so many hours from now."""
    begins = engine.clock() + hours(starts)
    return maintenance.add(engine, scope, begins, begins + hours(lasts), actor="ann@host", reason=reason)


def audited(engine):
    with engine.database.snapshot() as connection:
        rows = connection.execute(sa.select(audit).order_by(audit.c.id)).mappings()
        return [(row["act"], row["subject"], row["actor"], row["reason"]) for row in rows]


def test_a_window_is_added_listed_and_ended_and_each_act_is_audited(each_engine):
    added = add(each_engine, 48, 6)
    assert (added.window.kind, added.short_notice) == ("planned", False)
    now = each_engine.clock()
    assert [window.name for window in maintenance.upcoming(each_engine, now)] == [added.window.name]
    maintenance.end(each_engine, added.window.name, actor="bob@host", reason="not needed")
    assert maintenance.upcoming(each_engine, each_engine.clock()) == []
    assert audited(each_engine) == [
        ("maintenance.added", added.window.name, "ann@host", "a new disk"),
        ("maintenance.ended", added.window.name, "bob@host", "not needed"),
    ]
    with pytest.raises(MaintenanceError, match="maintenance list"):
        maintenance.end(each_engine, added.window.name, actor="bob@host", reason="again")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"starts": 1, "lasts": 4.1}, "4 h at most"),
        ({"lasts": -1}, "end after it begins"),
        ({"starts": -5, "lasts": 1}, "after now"),
        ({"reason": " "}, "reason"),
        ({"scope": Scope(("nobody",))}, "no check is named nobody"),
    ],
)
def test_what_cannot_be_a_window_is_refused_with_its_reason(engine, more, said):
    with pytest.raises(MaintenanceError, match=said):
        add(engine, **more)
    assert audited(engine) == []


def test_a_window_that_was_announced_late_is_an_emergency_and_says_so(engine):
    assert add(engine, 23).short_notice
    assert not add(engine, 25, 12).short_notice


def test_while_the_database_is_away_the_copy_in_redis_is_known(engine, make_settings, tmp_path, redis_url):
    added = add(engine)
    away = Engine(make_settings(redis_url, f"sqlite:///{tmp_path / 'nothing' / '.'}/"))
    now = engine.clock()
    assert [window.name for window in maintenance.around(away, now)] == [added.window.name]
    assert maintenance.around(away, now + hours(2)) == []
    with pytest.raises(StoreUnavailableError):
        maintenance.upcoming(away, now)
    maintenance.end(engine, added.window.name, actor="ann", reason="done")
    assert maintenance.around(away, engine.clock()) == []
    away.close()


def test_a_redis_that_was_emptied_gets_its_copy_back(engine):
    add(engine)
    engine.redis.flushdb()
    assert len(maintenance.around(engine, engine.clock())) == 1
    assert engine.redis.exists(maintenance.COPY)
    engine.redis.set(maintenance.COPY, "junk")
    assert len(maintenance.around(engine, engine.clock())) == 1


@pytest.fixture
def down(tmp_path, make_settings, redis_url):
    """An engine with one required check, of a port where nobody listens."""
    file = tmp_path / "regrow.toml"
    file.write_text(
        f'{switched_off()}[health.checks.shop]\nkind = "tcp"\nhost = "127.0.0.1"\nport = {free_port()}\nrequired = true\n'
    )
    engine = Engine(make_settings(redis_url, REGROW_CONFIG=str(file)))
    engine.database.upgrade()
    yield engine
    engine.close()


def test_in_maintenance_probes_go_on_marked_and_what_is_still_bad_afterwards_is_told(down):
    added = add(down, scope=Scope(("shop",)))
    for _ in range(3):
        assert service.run_due(down, force=True)["ran"] == 1
    overview = service.overview(down)
    assert overview.status == "degraded"  # planned, not broken, and not well either
    assert overview.message == "in maintenance: shop"
    (shop,) = overview.checks
    assert (shop.confirmed, shop.maintenance) == ("unhealthy", added.window.name)
    maintenance.end(down, added.window.name, actor="ann", reason="done")
    assert service.overview(down).status == "unhealthy"
    service.run_due(down, force=True)
    told = [(row.change.kind, row.change.maintenance) for row in reversed(service.changes(down))]
    assert told == [("status", added.window.name), ("maintenance_over", None)]
    with down.database.snapshot() as connection:
        marks = connection.execute(sa.select(check_results.c.maintenance)).scalars().all()
    assert marks == [added.window.name] * 3 + [None]


WINDOW = '[maintenance.night]\nrepeat = "daily"\nhours = "00:00-24:00"\n'


def test_a_declared_window_holds_without_any_store_and_is_ended_in_the_file(tmp_path, make_settings):
    file = tmp_path / "regrow.toml"
    file.write_text(WINDOW + 'checks = ["disk"]\nreason = "backups"\n')
    engine = Engine(make_settings(REGROW_CONFIG=str(file)))
    (window, *_) = maintenance.around(engine, engine.clock())
    assert (window.name, window.kind, str(window.scope), window.reason) == (
        "night",
        "recurring",
        "disk",
        "backups",
    )
    with pytest.raises(MaintenanceError, match=r"\[maintenance.night\]"):
        maintenance.end(engine, "night", actor="ann", reason="done")
    engine.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (WINDOW, "maintenance.night holds for nothing"),
        (WINDOW + 'checks = ["dsk"]', "maintenance.night.checks names 'dsk', .*Did you mean disk"),
        ('[health.checks.disk]\nmaintenance = ["noon"]', "disk.maintenance names 'noon', .*Known here: none"),
        (WINDOW.replace("daily", "often") + "everything = true", "maintenance.night.repeat = 'often': write"),
        (WINDOW.replace("24:00", "25:00") + "everything = true", "no clock shows"),
        (WINDOW + 'everything = true\nzone = "Europe/Berlik"', "no such time zone"),
    ],
)
def test_a_declared_window_that_cannot_be_is_refused_with_file_key_and_remedy(
    tmp_path, make_settings, text, said
):
    file = tmp_path / "regrow.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=said) as refused:
        make_settings(REGROW_CONFIG=str(file))
    assert str(file) in str(refused.value)


def test_a_check_may_name_the_window_that_holds_for_it(tmp_path, make_settings):
    file = tmp_path / "regrow.toml"
    file.write_text(WINDOW + '[health.checks.disk]\nmaintenance = ["night"]\n')
    engine = Engine(make_settings(REGROW_CONFIG=str(file)))
    checks = {check.name: check.maintenance for check in service.overview(engine).checks}
    assert (checks["disk"], checks["memory"]) == ("night", None)
    engine.close()
