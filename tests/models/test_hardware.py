"""This machine, and machines described by folders of /proc and /sys files."""

from __future__ import annotations

import multiprocessing
import os
import stat
import sys
import time
from pathlib import Path

import psutil
import pytest

from labkit.models import hardware


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_machine_under_this_test() -> None:
    start = time.perf_counter()
    seen = hardware.machine()
    assert time.perf_counter() - start < 1.5
    assert seen.cpu and seen.arch and seen.os.split()[0] in ("Linux", "Darwin", "Windows")
    assert 1 <= seen.usable_cores <= seen.logical_cores and seen.physical_cores >= 1
    assert 0 < seen.memory_available <= seen.memory_total <= psutil.virtual_memory().total
    assert seen.python.startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert 1 <= hardware.free_cores() <= seen.usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity can be set on Linux only")
def test_affinity_limits_the_cores() -> None:
    mine = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(mine)})
        assert hardware.usable_cores() == 1
        assert hardware.free_cores() == 1
    finally:
        os.sched_setaffinity(0, mine)


@pytest.mark.parametrize(
    ("limit", "cores"), [("100000 100000", 1), ("150000 100000", 1), ("50000 100000", 1)]
)
def test_a_quota_of_cgroup_2(limit: str, cores: int, tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/pod\n", "sys/fs/cgroup/pod/cpu.max": limit})
    assert hardware.usable_cores(root) == cores


def test_a_quota_of_cgroup_1_and_none(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/pod\n2:cpu,cpuacct:/pod\n",
        "sys/fs/cgroup/cpu/pod/cpu.cfs_quota_us": "100000",
        "sys/fs/cgroup/cpu/pod/cpu.cfs_period_us": "100000",
    }
    assert hardware.usable_cores(tree(tmp_path / "one", files)) == 1
    free = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000"}
    all_cores = len(hardware._affinity())
    assert hardware.usable_cores(tree(tmp_path / "two", free)) == all_cores
    assert hardware.usable_cores(tmp_path / "nothing") == all_cores


def test_memory_of_a_binder_pod(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "2000000000\n",
            "sys/fs/cgroup/memory.current": "1500000000\n",
            "sys/fs/cgroup/memory.stat": "anon 400000000\ninactive_file 300000000\n",
        },
    )
    assert hardware.memory(root) == (2_000_000_000, 800_000_000)


def test_the_limit_of_a_group_above_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/inner\n",
            "sys/fs/cgroup/pod/inner/memory.max": "max",
            "sys/fs/cgroup/pod/memory.max": "1000000",
            "sys/fs/cgroup/pod/memory.current": "2000000",
        },
    )
    assert hardware.memory(root) == (1_000_000, 0)


def test_memory_of_cgroup_1_and_its_way_to_say_no_limit(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/host/path/not/visible/here\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "1000000000",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "400000000",
        "sys/fs/cgroup/memory/memory.stat": "cache 5\ntotal_inactive_file 100000000\n",
    }
    assert hardware.memory(tree(tmp_path / "one", files)) == (1_000_000_000, 700_000_000)
    files["sys/fs/cgroup/memory/memory.limit_in_bytes"] = "9223372036854771712"
    assert hardware.memory(tree(tmp_path / "two", files))[0] == psutil.virtual_memory().total


def spin() -> None:
    while True:
        pass


def test_a_busy_core_is_not_free() -> None:
    cores = hardware.usable_cores()
    busy = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(cores)]
    for process in busy:
        process.start()
    try:
        time.sleep(1.0)
        seen = sorted(hardware.free_cores() for _ in range(5))
        assert seen[0] == 1 and seen[2] <= max(1, cores // 2)
    finally:
        for process in busy:
            process.kill()
            process.join()
            process.close()


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in for nvidia-smi is a shell script")
def test_what_nvidia_smi_prints_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 143000'\necho 'Odd, one, [N/A], [N/A]'\n")
    tool.chmod(tool.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert hardware._nvidia_smi() == (hardware.Gpu("NVIDIA H200", 143771 * 2**20, 143000 * 2**20),)
    tool.write_text("#!/bin/sh\nsleep 30\n")
    start = time.monotonic()
    assert hardware._nvidia_smi() == () and time.monotonic() - start < 3
    tool.unlink()
