"""Which files go: one pure rule, and the quota's choice among what it keeps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regrow.temp_files.rules import FileFacts, Holding, Policy, decide, over_quota

NOW = 1_000_000.0


def file(path="a/b.tmp", size=10, age=7200.0, regular=True, is_open=False):
    return FileFacts(path, size, NOW - age, regular, is_open)


def reason(file, **policy):
    return decide(file, Policy(**{"max_age": 3600.0, **policy}), NOW).reason


def test_an_old_file_goes_and_a_young_one_stays():
    assert decide(file(), Policy(3600), NOW).remove
    assert reason(file(age=3599)) == "young"
    assert reason(file(age=-5)) == "young"


def test_what_is_kept_by_pattern_stays_even_when_another_pattern_asks_for_it():
    assert reason(file("x/keep.me"), keep=("*.me",)) == "kept by pattern"
    assert reason(file("x/a.log"), patterns=("*.tmp",)) == "no pattern matches"
    assert reason(file("x/a.tmp"), patterns=("*.tmp",)) == "old"


def test_a_pattern_with_a_slash_means_the_path_and_one_without_the_name():
    assert reason(file("uploads/a.tmp"), patterns=("uploads/*",)) == "old"
    assert reason(file("other/a.tmp"), patterns=("uploads/*",)) == "no pattern matches"
    assert reason(file("deep/down/a.tmp"), patterns=("a.*",)) == "old"


def test_open_files_links_and_special_files_stay():
    assert reason(file(is_open=True)) == "open"
    assert reason(file(regular=False)) == "link or special file"


def test_where_nobody_can_say_whether_a_file_is_open_only_a_settled_one_goes():
    assert reason(file(age=200, is_open=None), max_age=100) == "may be open"
    assert reason(file(age=301, is_open=None), max_age=100) == "old"
    assert reason(file(age=200, is_open=False), max_age=100) == "old"


facts = st.builds(
    FileFacts,
    path=st.text(st.sampled_from("ab/."), min_size=1, max_size=6),
    size=st.integers(0, 100),
    modified=st.floats(NOW - 10_000, NOW + 100),
    regular=st.booleans(),
    is_open=st.sampled_from([True, False, None]),
)


@given(facts, st.floats(1, 10_000))
def test_whatever_goes_is_regular_surely_or_probably_closed_and_older_than_its_age(file, max_age):
    if decide(file, Policy(max_age, keep=("a*",)), NOW).remove:
        assert file.regular
        assert not file.is_open
        assert NOW - file.modified > max_age
        assert not file.path.rsplit("/", 1)[-1].startswith("a")


@given(st.lists(facts, max_size=12), st.integers(1, 500), st.integers(0, 300))
def test_the_quota_takes_the_oldest_and_no_more_than_it_needs(files, max_bytes, held):
    left = sum(file.size for file in files) + held
    chosen = over_quota(files, Holding(left, len(files)), Policy(3600, max_bytes))
    spared = [file for file in files if file not in chosen]
    after = left - sum(file.size for file in chosen)
    assert after <= max_bytes or not spared
    if chosen:
        assert after + chosen[-1].size > max_bytes
        assert all(file.modified >= chosen[-1].modified for file in spared)


def test_without_a_quota_nothing_more_goes():
    assert over_quota([file()], Holding(10**12, 10**6, free=0), Policy(3600)) == []


def test_files_of_a_pattern_have_an_age_of_their_own_the_first_that_matches():
    policy = Policy(3600, ages=(("*.upload", 60), ("chunks/*", 10**6), ("*", 7200)), keep=("kept.*",))
    assert decide(file("a.upload", age=61), policy, NOW).remove
    assert not decide(file("kept.upload", age=61), policy, NOW).remove
    assert not decide(file("chunks/a", age=10**5), policy, NOW).remove
    assert not decide(file("a.tmp", age=3601), policy, NOW).remove
    assert decide(file("a.tmp", age=7201), policy, NOW).remove


def test_the_number_of_files_and_the_room_left_are_quotas_too_and_the_oldest_go_for_each():
    files = [file(f"{age}.tmp", size=10, age=age) for age in (10, 30, 20)]
    holding = Holding(30, 3, free=100)
    assert [one.path for one in over_quota(files, holding, Policy(3600, max_files=2))] == ["30.tmp"]
    assert [one.path for one in over_quota(files, holding, Policy(3600, min_free=115))] == [
        "30.tmp",
        "20.tmp",
    ]
    assert over_quota(files, Holding(30, 3, free=None), Policy(3600, min_free=115)) == [], "nobody knows"
    assert holding.over(Policy(3600, max_bytes=1, max_files=9, min_free=101)) == ("max_bytes", "min_free")
