"""Out of memory, in words that say what to do about it."""

from __future__ import annotations

import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from model.config import Config, ConfigError

# torch names what it could not get: on a GPU "Tried to allocate 20.00 GiB", on a CPU "you tried to
# allocate 123 bytes"; numpy "Unable to allocate 1.5 GiB for an array".
AMOUNT = re.compile(r"to allocate (\d+(?:\.\d+)?) ?([KMGT]i?B|bytes)")
# The allocator for CPUs, a GPU that others fill before torch has any of it, and cuBLAS.
WITHOUT_OWN_ERROR = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@contextmanager
def explained(config: Config) -> Iterator[None]:
    """Turn every way to run out of memory inside into a ConfigError: how much, what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ConfigError([_explain(config, str(error))]) from error
    except RuntimeError as error:
        if not any(sign in str(error) for sign in WITHOUT_OWN_ERROR):
            raise
        raise ConfigError([_explain(config, str(error))]) from error


def _explain(config: Config, message: str) -> str:
    micro, reach = config.train.micro_batch_tokens, config.gpt.reach
    at_once = micro or config.train.batch_tokens
    advice = "gpt.scale or gpt.context"
    if config.gpt.context_vector:  # a step keeps what all windows of a sequence went through
        advice = "gpt.scale, gpt.context or gpt.context_windows"
    if at_once > reach:
        is_now = f"{micro:,}" if micro else f"0, the whole batch of {at_once:,}"
        advice = f"train.micro_batch_tokens (now {is_now}) first, then {advice}"
    return f"out of memory: {_needed(message)}; lower {advice}"


def _needed(message: str) -> str:
    """How much memory the failed allocation needed, and how much this process already had."""
    amount = AMOUNT.search(message)
    needed = float(amount[1]) * UNITS[amount[2][0].lower()] if amount else 0.0
    # The kernel counts in KiB, but in bytes on macOS.
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if _in_bytes() else 1024)
    if "CUDA" in message:
        held = torch.cuda.max_memory_allocated()
    more = f"{_size(needed)} more were needed" if needed else "more was needed"
    return f"{more} beside {_size(held)} in use"


def _in_bytes() -> bool:
    return sys.platform == "darwin"


def _size(amount: float) -> str:
    """As torch writes it, to three digits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1024
    return f"{amount:.3g} TiB"
