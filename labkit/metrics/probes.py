"""Look at the machine while something runs: memory, processor, power, GPU; and how fast its memory is.

What a machine does not show is absent from the samples, never zero. This module knows nothing of models.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil

from labkit.errors import NotEnoughMemory, OptionInvalid
from labkit.models.hardware import battery, last_level_cache, memory, nvidia, usable_cores

Reader = Callable[[], dict[str, float]]
LEAST_BUFFER = 256 * 2**20
SHORTEST_S = 0.05


class Probe:
    """Sample from `with` to its end: `with Probe() as probe: …`, then `probe.samples["rss"]`.

    `pid` names another process to watch together with its children, such as a server. `series` has
    (seconds since the start, value) by metric; names and units are those of `records.METRICS`.
    """

    def __init__(self, pid: int | None = None, hertz: float = 5.0, root: Path = Path("/")) -> None:
        if not 0 < hertz <= 100:
            raise OptionInvalid.of("hertz", hertz, "a number above 0, at most 100")
        if pid is not None and not psutil.pid_exists(pid):
            raise OptionInvalid(f"there is no process {pid}", fix="give the pid of one that runs")
        self.series: dict[str, list[tuple[float, float]]] = {}
        self._readers = readers(pid, root)
        self._pause, self._began, self._end = 1 / hertz, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._run, name="labkit probe", daemon=True)

    @property
    def samples(self) -> dict[str, list[float]]:
        """Return the values alone, by metric, as a `Record` takes them."""
        return {name: [value for _, value in many] for name, many in self.series.items()}

    def __enter__(self) -> Self:
        self._began = time.perf_counter()
        self._look()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._look()

    def _run(self) -> None:
        while not self._end.wait(self._pause):
            self._look()

    def _look(self) -> None:
        for reader in self._readers:
            at = time.perf_counter() - self._began
            for name, value in reader().items():
                self.series.setdefault(name, []).append((at, value))


class Rate:
    """Turn a total that grows into its growth per second; {} for the first total, and for one that fell."""

    def __init__(self, name: str, scale: float) -> None:
        self.name, self.scale, self.at, self.total = name, scale, -1.0, 0.0

    def __call__(self, total: float) -> dict[str, float]:
        """Return the growth per second since the last call, by name."""
        now = time.perf_counter()
        if (passed := now - self.at) < SHORTEST_S:  # the counters move in steps of about 10 ms
            return {}
        grown, known = total - self.total, self.at >= 0
        self.at, self.total = now, total
        return {self.name: self.scale * grown / passed} if known and grown >= 0 else {}


def readers(pid: int | None = None, root: Path = Path("/")) -> list[Reader]:
    """Return functions that look once; names and units of what they find are those of `records.METRICS`."""
    return [_process(pid), _machine, _package_power(root), *_gpu()]


def _process(pid: int | None) -> Reader:
    root, rate = psutil.Process(pid), Rate("cpu", 100)

    def read() -> dict[str, float]:
        rss, busy = 0, 0.0
        try:
            for process in [root, *(root.children(recursive=True) if pid else ())]:
                with process.oneshot():
                    rss += process.memory_info().rss
                    busy += sum(process.cpu_times()[:2])
        except psutil.Error:  # one ended meanwhile, so these sums would not be whole
            return {}
        return {"rss": rss, **rate(busy)}

    return read


def _machine() -> dict[str, float]:
    total, available = memory()
    charge = battery()
    return {"memory_used": total - available, **({"battery": charge.percent} if charge else {})}


def _package_power(root: Path) -> Reader:
    """Read Linux's RAPL counters in microjoules; most systems show them to the administrator only."""
    zones, rate = sorted((root / "sys/class/powercap").glob("intel-rapl:*")), Rate("package_power", 1e-6)

    def read() -> dict[str, float]:
        try:
            packages = [zone for zone in zones if (zone / "name").read_text().startswith("package")]
            return rate(sum(int((zone / "energy_uj").read_text()) for zone in packages)) if packages else {}
        except (OSError, ValueError):
            return {}

    return read


def _gpu() -> list[Reader]:
    """Read NVIDIA's library, if its Python binding (extra `gpu`), a driver and a GPU are there."""
    nvml, gpus = nvidia()
    sources: dict[str, Callable[[Any], float]] = {
        "gpu_busy": lambda gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
        "gpu_memory": lambda gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
        "gpu_power": lambda gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    }

    def read() -> dict[str, float]:
        found = {}
        for name, source in sources.items():
            with suppress(nvml.NVMLError):  # this GPU does not tell
                found[name] = float(sum(map(source, gpus)))
        return found

    return [read] if gpus else []


def peak_rss(pid: int | None = None) -> int:
    """Return the most resident memory a process (this one) ever had, in bytes, as the system kept it.

    macOS keeps no other process's peak: what that has now stands for it.
    """
    if sys.platform == "win32":
        return int(psutil.Process(pid).memory_info().peak_wset)
    if sys.platform == "linux":  # getrusage would count the process that started this one
        lines = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
        return next((int(x.split()[1]) * 1024 for x in lines if x.startswith("VmHWM")), 0)  # 0: it has ended
    if pid is not None:
        return int(psutil.Process(pid).memory_info().rss)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def peak_of_tree() -> int:
    """Return the peaks of this process and of all that it started and that still run, summed, in bytes."""
    total = peak_rss()
    for child in psutil.Process().children(recursive=True):
        with suppress(OSError, psutil.Error):  # it ended just now
            total += peak_rss(child.pid)
    return total


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Say how fast memory was read, and how: bytes per second, the buffer's bytes, threads and repetitions.

    `beyond_cache` is false where the buffer is less than twice the last-level cache, for want of memory.
    """

    bytes_per_s: float
    buffer_bytes: int
    threads: int
    repetitions: int
    beyond_cache: bool


@cache
def memory_bandwidth(
    threads: int | None = None, repetitions: int = 5, buffer: int | None = None
) -> Bandwidth:
    """Measure once a process how fast `threads` (all usable cores) read memory: the best of some repetitions.

    Each thread sums its part of one buffer, twice the last-level cache (32 MB, if unknown), at least
    256 MB and at most a quarter of the free memory. A process of its own does it, so that the caller's memory
    stays what it was. The method is that of STREAM, with reads alone: J. D. McCalpin, "Memory bandwidth and
    machine balance in current high performance computers" (1995).
    """
    llc, count = last_level_cache() or 32 * 2**20, threads or usable_cores()
    size = buffer or min(max(2 * llc, LEAST_BUFFER), memory()[1] // 4)
    code = (
        f"from labkit.metrics.probes import read_memory; print(read_memory({size}, {count}, {repetitions}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise NotEnoughMemory(
            f"memory could not be measured: {done.stderr.strip()[-200:] or f'exit {done.returncode}'}",
            fix="close other programs, or ask for a smaller `buffer`",
        )
    return Bandwidth(8 * (size // 8) / float(done.stdout), size, count, repetitions, size >= 2 * llc)


def read_memory(size: int, threads: int, repetitions: int) -> float:
    """Return the seconds in which `threads` sum a buffer of `size` bytes: the best of some repetitions."""
    import numpy as np

    parts = np.array_split(np.ones(size // 8, np.int64), threads)
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repetitions + 1):  # the first starts the threads
            began = time.perf_counter()
            list(pool.map(np.sum, parts))  # numpy works without the interpreter's lock
            best = min(best, time.perf_counter() - began)
    return best


def loaded_machine(load: float | None = None, cores: int | None = None) -> str | None:
    """Say in words that the machine is busy (load average over one minute > cores / 2), or return None.

    Windows keeps no load average: there, the share of busy cores during half a second stands for it.
    """
    count = cores or os.cpu_count() or 1
    if load is None:
        known = hasattr(os, "getloadavg")
        load = os.getloadavg()[0] if known else psutil.cpu_percent(0.5) / 100 * count
    return f"the load is {load:.1f} on {count} cores" if load > count / 2 else None
