"""Cleaning real folders, also while somebody hostile writes to them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from regrow import counters, jobs
from regrow.engine import Engine, set_engine
from regrow.health.checks import probe_of
from regrow.temp_files import clean, open_files, usage, walk
from regrow.temp_files.cleaning import Run, clean_root
from regrow.temp_files.open_files import OpenFiles
from regrow.temp_files.rules import Policy
from tasks.temp_files import cleanup_temp_files

OLD = 7200.0


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def put(path: Path, size=10, age=OLD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def identity(path):
    told = path.stat(follow_symlinks=False)
    return told.st_dev, told.st_ino


def sweep(root, *, opened=frozenset(), complete=True, dry=False, roots=(), deadline=60.0, **policy):
    run = Run(
        open_files=OpenFiles(frozenset(opened), complete),
        roots=frozenset(identity(path) for path in (root, *roots) if path.exists()),
        now=time.time(),
        deadline=time.monotonic() + deadline,
        dry=dry,
    )
    return clean_root(root, Policy(**{"max_age": 3600.0, **policy}), run)


def test_old_files_go_young_ones_stay_and_the_bytes_are_counted(root):
    put(root / "old.tmp", 100)
    put(root / "a" / "b" / "old.tmp", 50)
    young = put(root / "a" / "young.tmp", 7, age=10)
    done = sweep(root)
    assert (done.scanned, done.removed, done.freed, done.left) == (3, 2, 150, 7)
    assert dict(done.kept) == {"young": 1}
    assert young.exists()
    assert not (root / "a" / "b").exists()


def test_a_dry_run_counts_the_same_and_removes_nothing(root):
    old = put(root / "a" / "old.tmp", 100)
    done = sweep(root, dry=True)
    assert (done.removed, done.freed, done.folders_removed) == (1, 100, 0)
    assert old.exists()


def test_only_folders_that_it_emptied_go_and_never_the_root(root):
    put(root / "a" / "b" / "c" / "old.tmp")
    (root / "was-empty").mkdir()
    put(root / "shared" / "old.tmp")
    put(root / "shared" / "young.tmp", age=1)
    done = sweep(root)
    assert sorted(path.name for path in root.iterdir()) == ["shared", "was-empty"]
    assert done.folders_removed == 3
    put(root / "old.tmp")
    (root / "was-empty").rmdir()
    (root / "shared" / "young.tmp").unlink()
    sweep(root)
    assert root.is_dir()


def test_the_quota_takes_the_oldest_first_whatever_their_age(root):
    for n in range(5):
        put(root / f"d{n}" / "file", 100, age=100 - n)
    put(root / "kept.db", 100, age=1000)
    done = sweep(root, max_bytes=350, keep=("*.db",))
    assert done.left == 300
    assert sorted(path.name for path in root.iterdir()) == ["d3", "d4", "kept.db"]
    assert dict(done.kept) == {"young": 2, "kept by pattern": 1}


def test_links_are_neither_followed_nor_removed(root, tmp_path):
    outside = put(tmp_path / "outside" / "precious.tmp")
    (root / "to-folder").symlink_to(outside.parent)
    (root / "to-file").symlink_to(outside)
    os.mkfifo(root / "pipe")
    done = sweep(root)
    assert outside.exists()
    assert dict(done.kept) == {"link or special file": 3}
    assert done.removed == 0


def test_a_root_that_is_a_link_is_refused(root, tmp_path):
    precious = put(root / "precious.tmp")
    link = tmp_path / "link"
    link.symlink_to(root)
    done = sweep(link)
    assert precious.exists()
    assert "symbolic link" in done.errors[0]


def test_a_missing_root_is_an_error_and_is_not_made(root):
    done = sweep(root / "gone")
    assert done.errors == [f"{root / 'gone'}: does not exist"]
    assert not (root / "gone").exists()


def test_a_second_name_of_a_file_frees_nothing(root, tmp_path):
    old = put(tmp_path / "elsewhere.tmp", 100)
    os.link(old, root / "again.tmp")
    done = sweep(root)
    assert (done.removed, done.freed) == (1, 0)
    assert old.read_bytes() == b"x" * 100


def test_a_file_that_another_process_holds_open_or_mapped_stays(root):
    opened, mapped, free = (put(root / name, 4096) for name in ("opened", "mapped", "free"))
    code = (
        "import mmap, sys\n"
        "held = open(sys.argv[1])\n"
        "with open(sys.argv[2], 'r+b') as file: kept = mmap.mmap(file.fileno(), 0)\n"
        "print('ready', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(opened), str(mapped)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        seen = open_files.scan()
        done = sweep(root, opened=seen.files, complete=seen.complete)
    finally:
        holder.communicate("")
    assert (opened.exists(), mapped.exists(), free.exists()) == (True, True, False)
    assert dict(done.kept) == {"open": 2}


def test_where_processes_cannot_be_looked_into_the_scan_says_so(tmp_path):
    assert open_files.scan(tmp_path / "no-proc") == OpenFiles(frozenset(), complete=False)
    (tmp_path / "1").mkdir()  # ours is not listed: hidden processes
    assert not open_files.scan(tmp_path).complete
    found = OpenFiles(frozenset({(1, 2)}), complete=False)
    assert (found.holds((1, 2)), found.holds((1, 3))) == (True, None)


def test_a_file_that_was_written_to_meanwhile_stays(root, monkeypatch):
    old = put(root / "old.tmp")
    real = os.stat

    def written_first(path, **options):
        if path == "old.tmp":
            old.write_bytes(b"new")
        return real(path, **options)

    monkeypatch.setattr("regrow.temp_files.cleaning.os.stat", written_first)
    done = sweep(root)
    assert old.read_bytes() == b"new"
    assert dict(done.kept) == {"changed meanwhile": 1}


def test_a_file_that_was_replaced_by_a_link_meanwhile_leaves_the_target_alone(root, tmp_path, monkeypatch):
    target = put(tmp_path / "precious")
    old = put(root / "old.tmp")
    real = os.stat

    def replaced_first(path, **options):
        if path == "old.tmp" and not old.is_symlink():
            old.unlink()
            old.symlink_to(target)
        return real(path, **options)

    monkeypatch.setattr("regrow.temp_files.cleaning.os.stat", replaced_first)
    sweep(root)
    assert target.exists()
    assert old.is_symlink()


def test_a_folder_that_is_replaced_while_it_is_read_is_reported_and_not_entered(root, tmp_path):
    outside = put(tmp_path / "outside" / "precious.tmp")
    put(root / "a" / "old.tmp")
    descriptor = walk.open_root(root)
    try:
        seen = walk.Entry("a", (root / "a").stat(follow_symlinks=False))
        (root / "a").rename(tmp_path / "moved")
        (root / "a").symlink_to(outside.parent)
        with pytest.raises(OSError):
            walk.open_below(descriptor, seen)
        (root / "a").unlink()
        (root / "a").mkdir()
        with pytest.raises(OSError, match="replaced"):
            walk.open_below(descriptor, seen)
    finally:
        os.close(descriptor)


def test_an_attacker_who_swaps_folders_for_links_never_gets_a_file_outside_removed(root, tmp_path):
    """A thread flips a folder between itself and a link to a folder outside, as fast as it can."""
    outside = tmp_path / "outside"
    for n in range(30):
        put(outside / f"f{n}")
    trap, aside = root / "trap", tmp_path / "aside"
    stop = threading.Event()

    def flip():
        while not stop.is_set():
            try:
                trap.rename(aside)
                trap.symlink_to(outside)
                trap.unlink()
                aside.rename(trap)
            except OSError:
                continue

    removed = 0
    for n in range(30):
        put(trap / f"f{n}")
    attacker = threading.Thread(target=flip)
    attacker.start()
    try:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            removed += sweep(root, max_bytes=1).removed
    finally:
        stop.set()
        attacker.join(5)
    assert len(list(outside.iterdir())) == 30
    assert removed > 0


def test_what_is_too_deep_is_reported_and_no_descriptor_leaks(root):
    deep = root
    for _ in range(walk.MAX_DEPTH + 5):
        deep = deep / "d"
    put(deep / "old.tmp")
    before = len(list(Path("/proc/self/fd").iterdir()))
    done = sweep(root)
    assert done.error_count == 1
    assert "deeper" in done.errors[0]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert (deep / "old.tmp").exists()


def test_a_root_inside_another_is_left_to_its_own_policy(root):
    inner = root / "inner"
    put(inner / "old.tmp")
    put(root / "old.tmp")
    assert sweep(root, roots=[inner]).removed == 1
    assert (inner / "old.tmp").exists()
    sweep(inner, roots=[root])
    assert inner.is_dir()


def test_a_folder_on_another_device_is_not_entered(root, monkeypatch):
    put(root / "mounted" / "old.tmp")
    real = walk.mount_of
    inner = (root / "mounted").stat().st_ino
    monkeypatch.setattr(walk, "mount_of", lambda fd: "other" if os.fstat(fd).st_ino == inner else real(fd))
    assert sweep(root).scanned == 0
    assert (root / "mounted" / "old.tmp").exists()


@pytest.fixture
def foreign():
    """A folder that other users can reach, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.skipif(os.geteuid() != 0, reason="changing to another user needs root")
def test_what_may_not_be_read_or_removed_is_reported_and_the_rest_is_cleaned(foreign):
    root = foreign
    put(root / "shut" / "old.tmp")
    put(root / "fixed" / "old.tmp")
    put(root / "free" / "old.tmp")
    for folder in (root, root / "free"):
        os.chown(folder, 65534, 65534)
    (root / "shut").chmod(0o700)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        done = sweep(root)
    finally:
        os.seteuid(0)
        os.setegid(0)
    assert done.removed == 1
    assert sorted(done.errors) == ["fixed/old.tmp: Permission denied", "shut: Permission denied"]
    assert not (root / "free" / "old.tmp").exists()


def test_time_that_runs_out_leaves_the_rest_for_the_next_run(root):
    put(root / "a" / "old.tmp")
    put(root / "b" / "old.tmp")
    done = sweep(root, deadline=-1)
    assert (done.finished, done.removed) == (False, 1)
    assert sweep(root).removed == 1


def test_two_at_once_remove_each_file_once_and_neither_fails(root):
    for n in range(300):
        put(root / f"d{n % 10}" / f"f{n}")
    done = []
    threads = [threading.Thread(target=lambda: done.append(sweep(root))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(outcome.removed for outcome in done) == 300
    assert [outcome.error_count for outcome in done] == [0, 0]
    assert list(root.iterdir()) == []


# The service, the task and the check


@pytest.fixture
def make_engine(make_settings, sqlite_url, tmp_path):
    made = []

    def make(*roots, **environ):
        tables = "".join(f"[[temp_files.roots]]\npath = '{root}'\nmax_age = 3600.0\n" for root in roots)
        config = tmp_path / "regrow.toml"
        config.write_text(tables)
        engine = Engine(make_settings(database_url=sqlite_url, REGROW_CONFIG=str(config), **environ))
        engine.database.upgrade()
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close()


def test_without_roots_there_is_nothing_to_do_and_that_is_said(make_engine):
    summary = clean(make_engine())
    assert (summary["note"], summary["removed"], summary["errors"]) == ("no roots declared", 0, 0)


def test_the_task_records_what_it_did(make_engine, root):
    put(root / "old.tmp", 100)
    engine = make_engine(root)
    set_engine(engine)
    try:
        cleanup_temp_files()
    finally:
        set_engine(None)
    (run,) = jobs.recent(engine)
    assert (run.job, run.outcome) == ("cleanup_temp_files", "succeeded")
    assert (run.summary["removed"], run.summary["freed_bytes"]) == (1, 100)
    assert run.summary["roots"][0]["path"] == str(root)


def test_a_missing_root_makes_the_run_partial_and_the_others_are_cleaned(make_engine, root):
    put(root / "old.tmp")
    engine = make_engine(root / "gone", root)
    set_engine(engine)
    try:
        cleanup_temp_files()
    finally:
        set_engine(None)
    (run,) = jobs.recent(engine)
    assert (run.outcome, run.summary["removed"], run.summary["errors"]) == ("partial", 1, 1)


def test_a_dry_run_can_be_declared(make_engine, root):
    put(root / "old.tmp")
    summary = clean(make_engine(root, REGROW_TEMP_FILES__DRY_RUN="true"))
    assert (summary["dry_run"], summary["removed"]) == (True, 1)
    assert (root / "old.tmp").exists()


def test_usage_counts_and_stops_when_time_is_up(make_engine, root):
    put(root / "a" / "one", 100)
    put(root / "two", 50)
    roots = make_engine(root, root / "gone").settings.temp_files.roots
    whole, gone = usage(roots)
    assert (whole.bytes, whole.files, whole.complete, whole.error) == (150, 2, True, None)
    assert gone.error == "No such file or directory"
    assert not usage(roots, deadline=time.monotonic() - 1)[0].complete


@pytest.mark.parametrize(("limit", "status"), [("1000", "healthy"), ("150", "degraded")])
def test_the_check_warns_when_temp_files_grow(make_engine, root, limit, status):
    put(root / "one", 150)
    environ = {"REGROW_HEALTH__CHECKS__TEMP_FILES__WARNING_BYTES": limit}
    settings = make_engine(root, **environ).settings
    assert probe_of(settings.health.checks["temp-files"], settings)().status == status


def test_the_check_says_when_a_root_is_missing_or_none_is_declared(make_engine, root):
    settings = make_engine(root / "gone").settings
    assert probe_of(settings.health.checks["temp-files"], settings)().status == "degraded"
    settings = make_engine().settings
    found = probe_of(settings.health.checks["temp-files"], settings)()
    assert (found.status, "no roots" in found.message) == ("healthy", True)


def test_sockets_stay(root):
    place = root / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(place))
        os.utime(place, (1, 1))
        assert dict(sweep(root).kept) == {"link or special file": 1}


def test_quotas_of_number_and_room_remove_the_oldest_and_say_what_they_could_not_keep(root):
    for age in (10, 20, 30, 40):
        put(root / f"{age}.tmp", 100, age=age)
    outcome = sweep(root, max_files=3)
    assert (outcome.removed, outcome.left_files, outcome.over) == (1, 3, ())
    assert dict(outcome.removed_for) == {"over quota": 1}
    assert not (root / "40.tmp").exists()
    held = root / "30.tmp"
    outcome = sweep(root, opened={identity(held)}, min_free=10**18)
    assert sorted(path.name for path in root.iterdir()) == ["30.tmp"], (
        "what is open stays, whatever the quota"
    )
    assert outcome.over == ("min_free",)
    assert outcome.free > 0


def test_files_of_a_pattern_go_sooner(root):
    put(root / "a.upload", age=120)
    put(root / "a.tmp", age=120)
    outcome = sweep(root, ages=(("*.upload", 60.0),))
    assert outcome.removed == 1
    assert [path.name for path in root.iterdir()] == ["a.tmp"]


def test_the_metrics_know_what_was_removed_and_freed(make_settings, redis_url, sqlite_url, root):
    put(root / "old.tmp", 70)
    settings = make_settings(
        redis_url,
        sqlite_url,
        REGROW_TEMP_FILES__ROOTS=json.dumps([{"path": str(root), "max_age": 3600, "ages": {"*.x": 60}}]),
    )
    engine = Engine(settings)
    assert clean(engine, dry_run=True)["removed"] == 1
    assert counters.read(engine) == {}, "a dry run frees nothing"
    clean(engine)
    found = counters.read(engine)
    labels = (("reason", "old"), ("root", str(root)))
    assert found["temp_files_removed_total"] == {labels: 1}
    assert found["temp_files_freed_bytes_total"] == {(("root", str(root)),): 70}
    engine.close()
