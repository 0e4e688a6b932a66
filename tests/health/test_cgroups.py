"""What a container may use is read from its control group, of either version, wherever the limit stands."""

from __future__ import annotations

import pytest

from regrow.health import cgroups
from regrow.health.checks import cpu, memory
from regrow.settings.checks import CpuCheck, MemoryCheck

MiB = 2**20


@pytest.fixture
def group(tmp_path):
    """Writes files below a control group root; ``group.root`` and ``group.membership`` are its paths."""

    class Group:
        root = tmp_path / "cgroup"
        membership = tmp_path / "membership"

        def write(self, folder, **files):
            place = self.root / folder
            place.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (place / name.replace("__", ".")).write_text(f"{text}\n")

        def memory(self):
            return cgroups.memory(self.root, self.membership)

        def cpu(self):
            return cgroups.cpu(self.root, self.membership)

    Group.membership.write_text("0::/\n")
    Group.root.mkdir()
    return Group()


def test_version_2_memory_leaves_out_file_pages_that_can_be_dropped(group):
    stat = f"anon 1\ninactive_file {10 * MiB}\nactive_file 7"
    group.write("", memory__max=100 * MiB, memory__current=60 * MiB, memory__stat=stat)
    assert group.memory() == cgroups.Memory(50 * MiB, 100 * MiB, "cgroup v2")


def test_a_limit_of_an_outer_group_binds_when_it_is_nearer(group):
    group.membership.write_text("0::/pod/app\n")
    group.write("pod/app", memory__max=100 * MiB, memory__current=10 * MiB, memory__stat="")
    group.write("pod", memory__max=40 * MiB, memory__current=30 * MiB, memory__stat="")
    group.write("", memory__current=1)
    assert group.memory() == cgroups.Memory(30 * MiB, 40 * MiB, "cgroup v2")


def test_version_1_memory(group):
    group.membership.write_text("4:memory:/a\n1:cpu,cpuacct:/a\n")
    stat = f"total_inactive_file {5 * MiB}"
    limits = {"memory__limit_in_bytes": 50 * MiB, "memory__usage_in_bytes": 25 * MiB}
    group.write("memory/a", **limits, memory__stat=stat)
    group.write("memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=1)
    assert group.memory() == cgroups.Memory(20 * MiB, 50 * MiB, "cgroup v1")


def test_a_container_that_sees_the_hosts_path_reads_its_own_root(group):
    group.membership.write_text("4:memory:/docker/4f2a\n")
    limits = {"memory__limit_in_bytes": 50 * MiB, "memory__usage_in_bytes": 25 * MiB}
    group.write("memory", **limits, memory__stat="")
    found = group.memory()
    assert found is not None
    assert found.limit == 50 * MiB


@pytest.mark.parametrize("text", ["max", "", "0", "-1", "junk", str(2**63 - 4096)])
def test_what_is_no_limit_is_none(group, text):
    group.write("", memory__max=text, memory__current=5, memory__stat="")
    assert group.memory() is None


def test_without_a_limit_memory_is_the_hosts(group):
    assert memory.measured(group.root, group.membership).source == "host"


def test_a_limit_above_what_the_host_has_is_none(group):
    group.write("", memory__max=2**55, memory__current=5, memory__stat="")
    assert memory.measured(group.root, group.membership).source == "host"


def test_memory_is_judged_and_says_where_the_figure_comes_from():
    found = memory.verdict(MemoryCheck(kind="memory"), cgroups.Memory(85 * MiB, 100 * MiB, "cgroup v2"))
    assert (found.status, found.data["source"], found.data["percent"]) == ("degraded", "cgroup v2", 85.0)


def test_version_2_cpu_takes_the_tightest_quota(group):
    group.membership.write_text("0::/pod/app\n")
    group.write("pod/app", cpu__max="max 100000", cpu__stat="usage_usec 5000000")
    group.write("pod", cpu__max="50000 100000", cpu__stat="usage_usec 7000000\nuser_usec 1")
    assert group.cpu() == cgroups.Cpu(7.0, 0.5, "cgroup v2")


@pytest.mark.parametrize("folders", [("cpu,cpuacct", "cpu,cpuacct"), ("cpu", "cpuacct")])
def test_version_1_cpu_mounted_together_or_apart(group, folders):
    group.membership.write_text("1:cpu,cpuacct:/\n" if "," in folders[0] else "1:cpu:/\n2:cpuacct:/\n")
    group.write(folders[0], cpu__cfs_quota_us=20000, cpu__cfs_period_us=10000)
    group.write(folders[1], cpuacct__usage=3_000_000_000)
    assert group.cpu() == cgroups.Cpu(3.0, 2.0, "cgroup v1")


def test_version_1_without_a_quota_is_no_limit(group):
    group.write("cpu", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000)
    assert group.cpu() is None


def test_the_share_of_cpu_is_counted_against_the_quota(group):
    group.write("", cpu__max="50000 100000", cpu__stat="usage_usec 1000000")
    before = cpu.read(group.root, group.membership)
    after = cpu.Reading(before.at + 10.0, before.used + 4.0, before.cores, before.source)
    assert (before.cores, before.source) == (0.5, "cgroup v2")
    assert cpu.percent(before, after) == pytest.approx(80.0)
    assert cpu.verdict(CpuCheck(kind="cpu"), 80.0, after).status == "degraded"


def test_the_meter_averages_since_its_last_reading_and_waits_only_for_the_first():
    readings = iter(
        [
            cpu.Reading(0.0, 0.0, 2.0, "host"),
            cpu.Reading(1.0, 1.0, 2.0, "host"),
            cpu.Reading(61.0, 7.0, 2.0, "host"),
        ]
    )
    meter = cpu.Meter(lambda: next(readings))
    assert meter.share(0.01)[0] == pytest.approx(50.0)
    assert meter.share(0.01)[0] == pytest.approx(5.0)


def test_the_real_readings_of_this_machine_are_percentages():
    share, reading = cpu.Meter(cpu.read).share(0.2)
    assert 0 <= share <= 100
    assert reading.cores > 0
    measured = memory.measured()
    assert 0 < measured.used <= measured.limit
