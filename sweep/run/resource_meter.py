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
STATUS = Path("/proc/self/status")


class Meter:
    """Reads what was used since it read last. A reading takes a fraction of a millisecond."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()
        _forget_gpu_peak()

    def read(self) -> dict[str, float]:
        """CPU in percent of a core since then; memory now and this process's peak, in megabytes.

        Of a GPU, if this process has one: the peak since then of what torch holds, what all its
        users hold now, and how busy it is now, in percent.
        """
        wall, cpu = time.monotonic(), time.process_time()
        spent = max(wall - self._wall, 1e-9)
        usage = {"cpu_percent": 100 * (cpu - self._cpu) / spent, **_memory(), **_gpu()}
        self._wall, self._cpu = wall, cpu
        _forget_gpu_peak()
        return {name: round(value, 1) for name, value in usage.items()}


def _forget_gpu_peak() -> None:
    torch = _torch_with_gpu()
    if torch is not None:
        torch.cuda.reset_peak_memory_stats()


def _memory() -> dict[str, float]:
    try:
        lines = (line.split() for line in STATUS.read_text().splitlines())
        kilobytes = {line[0]: int(line[1]) for line in lines if line[0] in ("VmRSS:", "VmHWM:")}
        rss, peak = kilobytes["VmRSS:"] * 1024, kilobytes["VmHWM:"] * 1024
    except (OSError, KeyError):
        unit = 1 if sys.platform == "darwin" else 1024
        rss = peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {"rss_megabytes": rss / MEGABYTE, "rss_peak_megabytes": peak / MEGABYTE}


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
    usage = {"gpu_memory_peak_megabytes": torch.cuda.max_memory_reserved() / MEGABYTE}
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
