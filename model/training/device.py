"""Where and how a run computes: device, precision, compiler; chosen by what the machine has."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch

from model.config import Config, ConfigError, flops_per_token, scaled

# Below this a run ends before compiling has paid: compiling takes tens of seconds, the GPU does
# some 1e14 operations in each, and saves about half of them.
WORTH_COMPILING_FLOPS = 1e16
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 1 << 30
VOCABULARY_GUESS = 50_304  # for that estimate only


@dataclass(frozen=True)
class Runtime:
    device: torch.device
    precision: torch.dtype  # of matrix products; weights and sums stay fp32
    compile: bool
    manual_attention: bool  # plain matrix products instead of the fused kernel

    def autocast(self) -> AbstractContextManager[object]:
        """Forward passes belong inside."""
        reduced = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision, enabled=reduced)


# Where a trained network is read or asked, whatever it was trained on.
CPU = Runtime(torch.device("cpu"), torch.float32, compile=False, manual_attention=False)


def runtime(config: Config) -> Runtime:
    """The runtime `config` asks for; raises ConfigError if this machine cannot give it."""
    device = _device(config)
    fast_bf16 = device.type == "cuda" or has_bf16_instructions()
    bf16 = {"bf16": True, "fp32": False, "auto": fast_bf16}[config.train.precision]
    tokens = config.steps * config.train.batch_tokens
    flops = tokens * flops_per_token(scaled(config.gpt), VOCABULARY_GUESS)
    worth_it = device.type == "cuda" and flops > WORTH_COMPILING_FLOPS
    return Runtime(
        device=device,
        precision=torch.bfloat16 if bf16 else torch.float32,
        compile={"yes": True, "no": False, "auto": worth_it}[config.train.compile],
        # The fused kernel for bf16 on CPU is slower than the products it replaces.
        manual_attention=device.type == "cpu" and bf16,
    )


def _device(config: Config) -> torch.device:
    available = torch.cuda.is_available()
    if config.train.device == "cuda" and not available:
        raise ConfigError(["train.device: cuda asked, but torch sees no GPU; use auto or cpu"])
    return torch.device("cuda" if available and config.train.device != "cpu" else "cpu")


def threads() -> int:
    """Threads that an operation on the CPU uses."""
    return torch.get_num_threads()


def set_threads(count: int) -> None:
    """Have operations on the CPU use so many threads from now on."""
    torch.set_num_threads(count)


@contextmanager
def limited_threads(most: int) -> Iterator[None]:
    """Inside, operations on the CPU use no more threads than `most`."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, most))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def has_gpu() -> bool:
    """Whether `train.device: auto` means one."""
    return torch.cuda.is_available()


def gpu_count() -> int:
    """GPUs that torch sees on this machine."""
    return torch.cuda.device_count()


def has_bf16_instructions() -> bool:
    """Whether this CPU multiplies bf16 natively; without, bf16 takes ten times as long as fp32."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def keep_freed_memory() -> None:
    """Have the C library keep what tensors free on a CPU instead of handing it back each time.

    Getting it again costs a page fault for each 4 KB: a tenth of a step of a small network. Does
    nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def share_compiled_code(folder: str) -> None:
    """Keep what torch.compile makes in `folder`, where every trial of the same shape finds it."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", folder)
