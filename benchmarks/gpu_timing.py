"""How benchmarks/gpu.py times, and the networks that it times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.config.config import Config
from model.config.memory import peak_bytes
from model.config.presets import PRESETS
from model.network.gpt import GPT
from model.training.device import runtime

Row = dict[str, str | float]
VOCABULARY = 50_257  # GPT-2's
RULE = 97  # tokens that follow each other by a rule
SMALL = {  # the quick ones
    "gpt.layers": 4,
    "gpt.width": 32,
    "gpt.head_width": 16,
    "gpt.context": 16,
    "gpt.mlp_multiple": 16,
    "train.batch_tokens": 256,
    "train.micro_batch_tokens": 32,
}


def at(preset: str, device: str, quick: bool, change: dict[str, Any]) -> Config:
    """A preset on `device`; the quick one is small."""
    settings = {**PRESETS[preset].settings, **change}
    settings |= {"train.device": device, **(SMALL if quick else {})}
    if preset == "cpu-small":
        settings |= {"train.micro_batch_tokens": 0, "optim.name": "adamw", "optim.lr": 1e-3}
    return Config.from_settings(settings)


def network(config: Config, vocabulary: int, compiled: bool) -> tuple[GPT, Any]:
    """The network on its device, and its objective."""
    where = runtime(config)
    gpt = GPT(config.gpt, vocabulary, where.manual_attention, separator=0).to(where.device)
    gpt.enter(0.0, config.train.seed, 0)
    return gpt, torch.compile(gpt.objective) if compiled else gpt.objective


def drawn(config: Config, vocabulary: int, tokens: int, device: str) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    shape = (tokens // config.gpt.context, config.gpt.context)
    x, y = (torch.from_numpy(random.integers(0, vocabulary, shape)).to(device) for _ in range(2))
    return x, y


def memory(config: Config, device: str) -> tuple[str, str]:
    """Peak since it was forgotten, and how far our estimate is from it."""
    estimate = peak_bytes(replace(config, train=replace(config.train, precision="bf16")))
    if device == "cpu":
        return "no GPU", f"estimate {estimate / 1e9:.2f} GB"
    reached = torch.cuda.max_memory_allocated()
    return f"{reached / 1e9:.2f} GB", f"estimate {estimate / 1e9:.2f} GB, {estimate / reached:.2f}x"


def forget_peak(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def timed(
    run: Callable[[], object], device: str, before: Callable[[], object] | None = None
) -> float:
    """Median seconds of 3 to 50 runs after one, of about two seconds in all; one run on a CPU.

    before: runs each time and does not count.
    """
    first = run_once(run, device, before)
    if device == "cpu":
        return first
    reached: list[float] = []
    while len(reached) < 3 or (sum(reached) < 2 and len(reached) < 50):
        reached.append(run_once(run, device, before))
    return median(reached)


def run_once(run: Callable[[], object], device: str, before: Callable[[], object] | None) -> float:
    if before is not None:
        before()
    synchronise(device)
    begun = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - begun


def row(variant: str, seconds: float = 0.0, rate: str = "", beside: str = "", **more: float) -> Row:
    milliseconds = {"milliseconds": 1000 * seconds} if seconds else {}
    return {"variant": variant, **milliseconds, "rate": rate, "beside": beside, **more}


def share(flops: float, fastest: float) -> dict[str, float]:
    return {"of peak": flops / fastest} if fastest else {}
