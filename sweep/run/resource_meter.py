"""CPU, memory and GPU that a training process uses, read at each evaluation."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

MEGABYTE = 1e6
PROCESSES = Path("/proc")
RANK = b"model.training.rank"  # how those were started that train on several GPUs for us
USER_TIME, SYSTEM_TIME = 11, 12  # fields of a process's `stat`, those after its name


class Meter:
    """Reads what was used since it read last. A reading takes a fraction of a millisecond."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), _cpu_seconds()
        _forget_gpu_peak()

    def read(self) -> dict[str, float]:
        """CPU in percent of a core since then; memory now and this process's peak, in megabytes.

        Those of the ranks that it has started are added. Of a GPU, if this process has one: the
        peak since then of what torch holds, what all its users hold now, and how busy it is now, in
        percent.
        """
        wall, cpu = time.monotonic(), _cpu_seconds()
        spent = max(wall - self._wall, 1e-9)
        # Ranks that have ended took their part of the sum along.
        usage = {"cpu_percent": max(0.0, 100 * (cpu - self._cpu) / spent), **_memory(), **_gpu()}
        self._wall, self._cpu = wall, cpu
        _forget_gpu_peak()
        return {name: round(value, 1) for name, value in usage.items()}


def _forget_gpu_peak() -> None:
    torch = _torch_with_gpu()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


def _ranks() -> list[Path]:
    """In /proc, the processes that train for this one."""
    ours = []
    for path in (PROCESSES / "self" / "task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended meanwhile
            ours += [PROCESSES / number for number in path.read_text().split()]
    ranks = []
    for path in ours:
        with suppress(OSError):
            ranks += [path] if RANK in (path / "cmdline").read_bytes().split(b"\0") else []
    return ranks


def _cpu_seconds() -> float:
    seconds = time.process_time()
    for path in _ranks():
        with suppress(OSError):
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            ticks = int(fields[USER_TIME]) + int(fields[SYSTEM_TIME])
            seconds += ticks / os.sysconf("SC_CLK_TCK")
    return seconds


def _memory() -> dict[str, float]:
    try:
        rss, peak = _memory_of(PROCESSES / "self")
    except (OSError, KeyError):
        unit = 1 if sys.platform == "darwin" else 1024
        rss = peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    for path in _ranks():
        with suppress(OSError, KeyError):
            its_rss, its_peak = _memory_of(path)
            rss, peak = rss + its_rss, peak + its_peak
    return {"rss_megabytes": rss / MEGABYTE, "rss_peak_megabytes": peak / MEGABYTE}


def _memory_of(process: Path) -> tuple[int, int]:
    """Bytes that a process holds and held at most. Raises OSError, KeyError of one that is gone."""
    lines = (line.split() for line in (process / "status").read_text().splitlines())
    kilobytes = {line[0]: int(line[1]) for line in lines if line[0] in ("VmRSS:", "VmHWM:")}
    return kilobytes["VmRSS:"] * 1024, kilobytes["VmHWM:"] * 1024


def _torch_with_gpu() -> Any:
    """torch, if this process already uses a GPU with it; else None, and nothing is imported."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch
    return None


def _gpu() -> dict[str, float]:
    torch = _torch_with_gpu()
    if torch is None:
        return {}
    peak = torch.cuda.max_memory_reserved() / MEGABYTE
    # Nothing where its ranks hold the memory: what they held is not known here.
    usage = {"gpu_memory_peak_megabytes": peak} if peak else {}
    uuid = f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
    with suppress(OSError, AttributeError):  # no driver library, or one without these functions
        usage |= asked_of_driver(ctypes.CDLL("libnvidia-ml.so.1"), uuid)
    return usage


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


def asked_of_driver(nvml: Any, uuid: str) -> dict[str, float]:
    """Use and memory of a GPU from NVIDIA's driver, less what it refuses to say (NVML, nvml.h)."""
    device, busy, memory = ctypes.c_void_p(), _Utilization(), _Memory()
    usage: dict[str, float] = {}
    if nvml.nvmlInit_v2():
        return usage
    if not nvml.nvmlDeviceGetHandleByUUID(os.fsencode(uuid), ctypes.byref(device)):
        if not nvml.nvmlDeviceGetUtilizationRates(device, ctypes.byref(busy)):
            usage["gpu_percent"] = float(busy.gpu)
        if not nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)):
            usage["gpu_memory_megabytes"] = memory.used / MEGABYTE
    return usage
