"""What this machine has, and what of it is free: cores, memory, battery, accelerators.

In a container the numbers that count are the container's: a Binder pod sees all cores of its host and may use
one. Nothing here knows of models.
"""

from __future__ import annotations

import importlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil

# cgroup version 1 writes "no limit" as a number near 2^63.
NO_LIMIT = 2**60
SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Gpu:
    """Describe an accelerator. Memory is bytes; Apple's is `shared` with the processor."""

    name: str
    memory_total: int
    memory_free: int
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Battery:
    """Give the charge in percent and whether the machine is plugged in."""

    percent: float
    plugged: bool


@dataclass(frozen=True, slots=True)
class Machine:
    """Describe this machine now. Memory is bytes; `usable_cores` is what this process may use of the cores.

    `load` is the load average over one minute (None on Windows), `npu` a name or "" where none was found.
    """

    os: str
    arch: str
    cpu: str
    physical_cores: int
    logical_cores: int
    usable_cores: int
    memory_total: int
    memory_available: int
    load: float | None = None
    battery: Battery | None = None
    gpus: tuple[Gpu, ...] = ()
    npu: str = ""
    python: str = ""


def machine() -> Machine:
    """Look at this machine. What cannot change is looked up once; free memory and load are fresh."""
    total, available = memory()
    return Machine(
        os=f"{platform.system()} {platform.release()}",
        arch=platform.machine(),
        cpu=cpu_name(),
        physical_cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        logical_cores=psutil.cpu_count() or 1,
        usable_cores=usable_cores(),
        memory_total=total,
        memory_available=available,
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        battery=battery(),
        gpus=gpus(),
        npu=npu_name(),
        python=platform.python_version(),
    )


def usable_cores(root: Path = Path("/")) -> int:
    """Count the cores this process may use: by affinity, and by its cgroup's quota of processor time."""
    allowed = sorted(_affinity())
    quotas = [q for q in (_quota(folder) for folder in _cgroups("cpu", root)) if q]
    # A quota of 1.5 cores throttles two busy threads, so it counts as one.
    return max(1, int(min([len(allowed), *quotas])))


def free_cores() -> int:
    """Count the usable cores that nobody kept busy during the last tenth of a second; at least 1."""
    busy = psutil.cpu_percent(SAMPLE_S, percpu=True)
    idle = sum(1 - busy[core] / 100 for core in _affinity() if core < len(busy))
    return max(1, min(usable_cores(), round(idle)))


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """Return total and available memory in bytes, no more than this process's cgroup grants."""
    system = psutil.virtual_memory()
    total, available = system.total, system.available
    for folder in _cgroups("memory", root):
        limit = _number(folder / "memory.max") or _number(folder / "memory.limit_in_bytes")
        if not limit or limit >= NO_LIMIT:
            continue
        used = _number(folder / "memory.current") or _number(folder / "memory.usage_in_bytes") or 0
        total = min(total, limit)
        available = min(available, max(0, limit - used + _reclaimable(folder)))
    return total, available


def last_level_cache(root: Path = Path("/")) -> int | None:
    """Return the bytes of the largest cache core 0 has a part in; None where the system does not tell (Windows)."""
    if sys.platform == "darwin":
        told = [_output("sysctl", "-n", f"hw.{key}") for key in ("l3cachesize", "perflevel0.l2cachesize")]
        return max((int(text) for text in told if text.isdigit()), default=None)
    files = (root / "sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    sizes = [_text(file).strip().removesuffix("K") for file in files]
    return max((int(size) * 1024 for size in sizes if size.isdigit()), default=None)


@cache
def cpu_name() -> str:
    """Return what the processor calls itself."""
    if sys.platform == "win32":
        import winreg

        with winreg.OpenKey(
            winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0"
        ) as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    if sys.platform == "darwin":
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    names = ("model name", "Model", "Hardware", "cpu model")
    lines = (line.partition(":") for line in _text(Path("/proc/cpuinfo")).splitlines())
    found = {key.strip(): value.strip() for key, _, value in lines}
    return next((found[name] for name in names if found.get(name)), platform.machine())


def battery() -> Battery | None:
    """Return the battery's state, or None where there is none."""
    try:
        state = psutil.sensors_battery()
    except (AttributeError, OSError, NotImplementedError):
        return None
    return Battery(float(state.percent), bool(state.power_plugged)) if state else None


def gpus() -> tuple[Gpu, ...]:
    """List the accelerators a language model could use: NVIDIA's, or Apple's on an Apple chip."""
    if sys.platform == "darwin":
        total, available = memory()
        return (Gpu(f"{cpu_name()} GPU", total, available, True),) if platform.machine() == "arm64" else ()
    found = _nvml()
    return _nvidia_smi() if found is None else found


@cache
def npu_name() -> str:
    """Return the name of a neural processor, as far as the system tells, or ""."""
    if sys.platform == "darwin":
        return "Apple Neural Engine" if platform.machine() == "arm64" else ""
    for device in sorted(Path("/sys/class/accel").glob("accel*")):
        driver = (device / "device" / "driver").resolve().name
        return {"intel_vpu": "Intel NPU", "amdxdna": "AMD XDNA"}.get(driver, driver)
    return ""


def nvidia() -> tuple[Any, list[Any]]:
    """Return NVIDIA's library, ready, and its handles of the GPUs; None where its Python binding is not installed."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None, []
    try:
        nvml.nvmlInit()
        return nvml, [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:  # no driver, so no GPU
        return nvml, []


def _nvml() -> tuple[Gpu, ...] | None:
    """Ask NVIDIA's library; None where its Python binding is not installed."""
    nvml, handles = nvidia()
    if not handles:
        return None if nvml is None else ()
    try:
        facts = [(nvml.nvmlDeviceGetName(h), nvml.nvmlDeviceGetMemoryInfo(h)) for h in handles]
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        return ()
    return tuple(Gpu(str(name), int(held.total), int(held.free)) for name, held in facts)


def _nvidia_smi() -> tuple[Gpu, ...]:
    fields = "--query-gpu=name,memory.total,memory.free"
    rows = _output("nvidia-smi", fields, "--format=csv,noheader,nounits").splitlines()
    cells = [[cell.strip() for cell in row.rsplit(",", 2)] for row in rows]
    return tuple(
        Gpu(name, int(total) * 2**20, int(free) * 2**20)
        for name, total, free in (row for row in cells if len(row) == 3)
        if total.isdigit() and free.isdigit()
    )


def _affinity() -> set[int]:
    return os.sched_getaffinity(0) if sys.platform == "linux" else set(range(psutil.cpu_count() or 1))


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """Yield the folders of this process's control group and of all groups above it, versions 2 and 1."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        names, _, group = rest.partition(":")
        if names and controller not in names.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if names else "")
        folder = mount / group.strip("/")
        yield from (place for place in (folder, *folder.parents) if place.is_relative_to(mount))


def _quota(folder: Path) -> float | None:
    """Return a group's share of processor time in cores, or None where it has no limit."""
    quota, _, period = _text(folder / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _text(folder / "cpu.cfs_quota_us").strip()
        period = _text(folder / "cpu.cfs_period_us").strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _reclaimable(folder: Path) -> int:
    """Return the bytes of file cache a group could give back."""
    stats = dict(line.split(" ", 1) for line in _text(folder / "memory.stat").splitlines() if " " in line)
    value = stats.get("total_inactive_file") or stats.get("inactive_file") or "0"
    return int(value) if value.isdigit() else 0


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _output(*command: str) -> str:
    """Return what a small command prints, or "" where it is missing, fails, or takes over a second."""
    if not shutil.which(command[0]):
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=1, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
