"""What a worker uses of its machine, read where it trains."""

from __future__ import annotations

import ctypes
import time
from typing import Any

import pytest

from sweep.run import resource_meter
from sweep.run.resource_meter import Meter, asked_of_driver


def test_a_busy_process_uses_a_core_and_its_memory_is_counted() -> None:
    meter = Meter()
    begun = time.process_time()
    while time.process_time() - begun < 0.05:
        pass

    found = meter.read()

    assert found["cpu_percent"] > 1
    assert 10 < found["rss_megabytes"] <= found["rss_peak_megabytes"]


def test_nothing_is_said_of_a_gpu_that_this_process_does_not_use() -> None:
    assert not [name for name in Meter().read() if "gpu" in name]


class Driver:
    """Answers as NVIDIA's library does, or refuses with a code."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses

    def _code(self, name: str) -> int:
        return 3 if name == self.refuses else 0

    def nvmlInit_v2(self) -> int:
        return self._code("init")

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, device: Any) -> int:
        assert uuid == b"GPU-1"
        return self._code("device")

    def nvmlDeviceGetUtilizationRates(self, device: Any, rates: Any) -> int:
        ctypes.cast(rates, ctypes.POINTER(resource_meter._Utilization)).contents.gpu = 83
        return self._code("rates")

    def nvmlDeviceGetMemoryInfo(self, device: Any, memory: Any) -> int:
        ctypes.cast(memory, ctypes.POINTER(resource_meter._Memory)).contents.used = 5_000_000_000
        return self._code("memory")


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ("", {"gpu_percent": 83, "gpu_memory_megabytes": 5000}),
        ("rates", {"gpu_memory_megabytes": 5000}),
        ("memory", {"gpu_percent": 83}),
        ("device", {}),
        ("init", {}),
    ],
)
def test_what_the_driver_refuses_to_say_is_left_out(refuses: str, said: dict[str, float]) -> None:
    assert asked_of_driver(Driver(refuses), "GPU-1") == said
