"""What a worker uses of its machine, read where it trains."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
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


def test_what_its_ranks_use_counts_with_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a trial on several GPUs, whose worker waits, would seem to use next to nothing."""
    ticks = os.sysconf("SC_CLK_TCK")
    for number, program in ((7, "model.training.rank"), (8, "sweep.tracking")):
        process = tmp_path / str(number)
        process.mkdir()
        (process / "cmdline").write_bytes(f"python\0-P\0-m\0{program}\x006\0".encode())
        (process / "stat").write_text(f"{number} (a (b) c) S {'0 ' * 10}{3 * ticks} {ticks} 0 0")
        (process / "status").write_text("Name:\tpython\nVmHWM:\t 2000000 kB\nVmRSS:\t 1000000 kB")
    children = tmp_path / "self" / "task" / "1" / "children"
    children.parent.mkdir(parents=True)
    (tmp_path / "self" / "status").write_text("VmHWM:\t 500 kB\nVmRSS:\t 500 kB")
    children.write_text("")
    monkeypatch.setattr(resource_meter, "PROCESSES", tmp_path)
    meter = Meter()

    alone = meter.read()["rss_megabytes"]
    children.write_text("7 8 9 ")
    usage = meter.read()

    assert alone == pytest.approx(0.5, abs=0.1)
    assert usage["rss_megabytes"] == pytest.approx(1024.5, abs=0.1)
    assert usage["rss_peak_megabytes"] == pytest.approx(2048.5, abs=0.1)
    assert resource_meter._cpu_seconds() - time.process_time() == pytest.approx(4, abs=0.1)


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
