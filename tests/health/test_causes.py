"""One root for a burst: children hang on the parent that failed, also when they were seen to fail before it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from regrow.health.causes import RootCause, ancestors, cause_of, in_doubt, root_causes, roots_of
from regrow.health.rules import Declared, Result
from regrow.health.status import Change

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def graph(**parents):
    """Checks that depend on others, named in one string; those that are only named depend on nothing."""
    names = {*parents, *(name for told in parents.values() for name in told.split())}
    return {
        name: Declared(name, "tcp", 30.0, 5.0, depends_on=tuple(parents.get(name, "").split()))
        for name in sorted(names)
    }


def change(check, began, to="unhealthy", number=2):
    return Change(check, number, "status", "healthy", to, at(began + 60), at(began), "no answer")


def test_a_parent_that_fails_with_twenty_children_is_one_root():
    known = graph(**{f"app{n}": "db" for n in range(20)})
    changes = [change("db", 0), *(change(f"app{n}", n) for n in range(20))]
    (root,) = root_causes(changes, known)
    assert (root.check, len(root.children)) == ("db", 20)


def test_children_that_fail_seconds_before_their_parent_is_probed_hang_on_it_all_the_same():
    known = graph(**{f"app{n}": "db" for n in range(20)})
    changes = [*(change(f"app{n}", n) for n in range(20)), change("db", 25)]
    assert [root.check for root in root_causes(changes, known)] == ["db"]


def test_a_parent_that_fails_long_after_its_child_is_not_its_cause():
    roots = root_causes([change("app", 0), change("db", 600)], graph(app="db"))
    assert [root.check for root in roots] == ["app", "db"]


def test_a_parent_that_has_been_down_for_long_is_the_cause_of_what_fails_now():
    assert cause_of("app", {"app": at(5000), "db": at(0)}, graph(app="db")) == "db"


def test_the_cause_is_the_far_end_of_the_line():
    known = graph(page="app", app="db", db="disk")
    down = {name: at(0) for name in ("page", "app", "db", "disk")}
    assert roots_of(down, known) == [RootCause("disk", at(0), ("db", "app", "page"))]


def test_a_parent_that_is_well_passes_nothing_on():
    assert cause_of("page", {"page": at(0), "db": at(0)}, graph(page="app", app="db")) is None


def test_of_two_roots_the_one_that_began_first_is_named():
    assert cause_of("app", {"app": at(9), "db": at(5), "net": at(2)}, graph(app="db net")) == "net"


def test_only_the_latest_change_of_a_check_counts():
    changes = [change("db", 0), change("db", 90, to="healthy", number=3), change("app", 5)]
    assert [root.check for root in root_causes(changes, graph(app="db"))] == ["app"]


def test_what_was_taken_out_of_the_settings_is_a_root_of_itself():
    assert [root.check for root in root_causes([change("gone", 0)], graph(app="db"))] == ["gone"]


def test_a_parent_is_looked_at_before_it_is_due_when_a_child_fails():
    known = graph(app="db", other="db")
    last = {
        "db": Result("db", "healthy", "", 0, at(0), 30.0),
        "app": Result("app", "unhealthy", "", 0, at(9), 30.0),
        "other": Result("other", "healthy", "", 0, at(9), 30.0),
    }
    assert in_doubt(last, known) == {"db"}
    assert in_doubt({**last, "db": Result("db", "healthy", "", 0, at(10), 30.0)}, known) == set()


@st.composite
def outages(draw):
    """Any graph without circles, and any of its checks down at any time."""
    count = draw(st.integers(1, 8))
    parents = {f"c{n}": " ".join(f"c{m}" for m in range(n) if draw(st.booleans())) for n in range(count)}
    down = {f"c{n}": at(draw(st.integers(0, 300))) for n in range(count) if draw(st.booleans())}
    return graph(**parents), down


@given(outages())
def test_every_check_that_is_down_is_a_root_or_hangs_on_one_that_it_stands_on(outage):
    known, down = outage
    roots = roots_of(down, known)
    members = [name for root in roots for name in (root.check, *root.children)]
    assert sorted(members) == sorted(down)
    for root in roots:
        assert cause_of(root.check, down, known) is None
        assert all(root.check in ancestors(child, known) for child in root.children)
