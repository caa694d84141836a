"""What trains a run, as far as the bits of its losses may depend on it."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from model.config import Config, Value
from model.training.device import runtime, threads

CPUS = Path("/proc/cpuinfo")  # of Linux
UNNAMED = "unknown"


def machine(config: Config, ranks: int = 1) -> dict[str, Value]:
    """The machine as `config` uses it, by what matters: two that agree in it give the same bits.

    device        name of the GPU, or of the CPU
    instructions  which of torch's kernels a CPU runs, and whether it multiplies bf16
    threads       that an operation on a CPU uses: sums are cut into as many parts
    precision     of matrix products
    compiled      whether torch.compile makes the kernels
    torch         its version
    ranks         processes that share each batch, where they are several: sums are cut into as many

    On a GPU nothing promises the same bits twice. Raises ConfigError where `config` cannot run.
    """
    where = runtime(config)
    its: dict[str, Value] = {
        "precision": str(where.precision).removeprefix("torch."),
        "compiled": where.compile,
        "torch": torch.__version__,
    }
    if ranks > 1:
        its["ranks"] = ranks
    if where.device.type == "cuda":
        return {"device": torch.cuda.get_device_name(where.device), **its}
    return {
        "device": cpu_name(CPUS),
        "instructions": _instructions(),
        "threads": max(1, threads() // ranks),
        **its,
    }


def _instructions() -> str:
    words = [torch.backends.cpu.get_cpu_capability()]
    words += ["bf16"] if torch.cpu._is_avx512_bf16_supported() else []
    words += ["amx"] if torch.cpu._is_amx_tile_supported() else []
    return " ".join(words)


def cpu_name(cpus: Path) -> str:
    """What the system calls the CPU; without such a line the family of its instructions."""
    with suppress(OSError):
        for line in cpus.read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine() or UNNAMED


@contextmanager
def as_many_threads(count: int) -> Iterator[None]:
    """Inside, an operation on the CPU uses `count` threads; 0: as many as it would anyway."""
    before = threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
