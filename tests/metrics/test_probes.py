"""Probes on this process, on children, and on machines described by folders of /sys files."""

import mmap
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import psutil
import pytest

from labkit.errors import OptionInvalid
from labkit.metrics.probes import Probe, loaded_machine, memory_bandwidth, peak_rss
from labkit.metrics.records import METRICS, Record
from labkit.models.hardware import last_level_cache

MB = 2**20


def test_a_probe_sees_memory_grow_and_its_samples_make_a_record() -> None:
    with Probe(hertz=50) as probe:
        time.sleep(0.1)
        held = mmap.mmap(-1, 64 * MB)  # new pages; numpy may be given memory that an earlier test freed
        held.write(b"1" * len(held))
        time.sleep(0.1)
    times = [at for at, _ in probe.series["rss"]]
    rss = probe.samples["rss"]
    assert len(rss) >= 3 and times == sorted(times) and times[0] < 0.05
    assert rss[-1] - rss[0] > 0.9 * len(held)
    assert set(probe.samples) <= set(METRICS)
    assert Record("probe", {}, probe.samples, {}).samples["memory_used"]


def test_a_busy_process_is_seen_and_an_idle_one_is_not() -> None:
    with Probe(hertz=10) as idle:
        time.sleep(0.5)
    with Probe(hertz=10) as busy:
        end = time.process_time() + 0.3
        while time.process_time() < end:
            pass
    assert max(busy.samples["cpu"]) > 3 * max(1.0, np.median(idle.samples["cpu"]))


def test_another_process_is_watched_with_its_children_until_it_ends() -> None:
    child = "import time; held = bytearray(b'x') * (64 * 2**20); print('ready', flush=True); time.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE)
    try:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        with Probe(process.pid, hertz=20) as probe:
            time.sleep(0.2)
            for each in psutil.Process(process.pid).children():
                each.kill()
            process.wait(10)
            seen = len(probe.series["rss"])
            time.sleep(0.2)
        assert max(probe.samples["rss"]) > 64 * MB
        assert len(probe.series["rss"]) <= seen + 1, "a process that is gone has no memory, not none of it"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("wrong", [{"hertz": 0}, {"hertz": 1e6}, {"hertz": float("nan")}, {"pid": 2**22 + 1}])
def test_what_cannot_be_watched_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(OptionInvalid):
        Probe(**wrong)  # type: ignore[arg-type]


def powercap(root: Path, energy: list[int]) -> None:
    names = ("package-0", "package-1", "psys")
    for number, (name, joules) in enumerate(zip(names, energy, strict=True)):
        zone = root / "sys/class/powercap" / f"intel-rapl:{number}"
        zone.mkdir(parents=True, exist_ok=True)
        (zone / "name").write_text(name + "\n")
        (zone / "energy_uj").write_text(f"{joules}\n")


def test_power_is_the_energy_of_the_packages_over_time_and_absent_where_unreadable(tmp_path: Path) -> None:
    with Probe(root=tmp_path, hertz=0.1) as probe:
        time.sleep(0.1)
    assert "package_power" not in probe.samples
    powercap(tmp_path, [0, 0, 0])
    with Probe(root=tmp_path, hertz=0.1) as probe:
        time.sleep(0.2)
        powercap(tmp_path, [2_000_000, 1_000_000, 9_000_000])
    (at, watts), first = probe.series["package_power"][0], probe.series["rss"][0][0]
    assert watts == pytest.approx(3 / (at - first), rel=0.2)
    powercap(tmp_path, [5, 5, 5])  # the counter begins again
    with Probe(root=tmp_path, hertz=0.1) as probe:
        time.sleep(0.1)
        powercap(tmp_path, [1, 1, 1])
    assert "package_power" not in probe.samples


class NVMLError(Exception):
    pass


def nvml(**functions: object) -> types.ModuleType:
    """NVIDIA's library as `nvidia-ml-py` binds it, for two GPUs that do not tell their power."""

    def untold(gpu: int) -> int:
        raise NVMLError

    module = types.ModuleType("pynvml")
    usual = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUtilizationRates": lambda gpu: types.SimpleNamespace(gpu=40 + gpu),
        "nvmlDeviceGetMemoryInfo": lambda gpu: types.SimpleNamespace(used=10**9),
        "nvmlDeviceGetPowerUsage": untold,
    }
    module.__dict__.update(usual | functions)
    return module


def test_gpus_are_summed_and_what_they_do_not_tell_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    with Probe() as probe:
        pass
    assert probe.samples["gpu_busy"] == [81, 81] and probe.samples["gpu_memory"] == [2e9, 2e9]
    assert "gpu_power" not in probe.samples

    def no_driver() -> None:
        raise NVMLError

    for module in (nvml(nvmlInit=no_driver), nvml(nvmlDeviceGetCount=lambda: 0), None):
        monkeypatch.setitem(sys.modules, "pynvml", module)
        with Probe() as probe:
            pass
        assert not [name for name in probe.samples if name.startswith("gpu")]


def test_the_peak_stays_when_the_memory_is_given_back() -> None:
    before = psutil.Process().memory_info().rss
    np.ones(128 * MB, np.uint8)
    assert peak_rss() > before + 100 * MB


def test_bandwidth_is_measured_once_and_says_how() -> None:
    seen = memory_bandwidth(threads=1, repetitions=2, buffer=32 * MB)
    assert 1e8 < seen.bytes_per_s < 1e13
    assert (seen.threads, seen.repetitions, seen.buffer_bytes) == (1, 2, 32 * MB)
    assert memory_bandwidth(threads=1, repetitions=2, buffer=32 * MB) is seen


def test_a_machine_is_busy_above_half_of_its_cores() -> None:
    assert loaded_machine(load=2.0, cores=4) is None
    assert loaded_machine(load=2.1, cores=4) == "the load is 2.1 on 4 cores"
    assert loaded_machine(load=0.0) is None


@pytest.mark.skipif(sys.platform == "darwin", reason="Apple's systems tell through sysctl")
def test_the_last_level_cache_is_the_largest_one(tmp_path: Path) -> None:
    assert last_level_cache(tmp_path) is None
    for number, size in enumerate(("48K", "64K", "2048K", "32768K")):
        folder = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{number}"
        folder.mkdir(parents=True)
        (folder / "size").write_text(size + "\n")
    assert last_level_cache(tmp_path) == 32 * MB
