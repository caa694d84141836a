"""How long steps take on this machine: a few of them, timed, nothing kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import torch

from model.config import Config
from model.data.batches import batch, open_table
from model.optim import step
from model.training import out_of_memory
from model.training.device import runtime
from model.training.run import add_gradients, make_run

WARM_UP = 2  # steps in which memory is got and code compiled
LEAST, MOST = 2, 50  # steps timed


@dataclass(frozen=True)
class Timing:
    """One configuration's."""

    seconds: float  # a step, the median of those timed
    memory: float | None  # bytes at the peak on a GPU; a CPU does not tell
    device: str


def time_steps(config: Config, most_seconds: float) -> Timing:
    """Time steps of `config` for about `most_seconds`, after those that warm up.

    Prepares the token table if it is not there. Raises ConfigError for data that cannot be used, or
    if memory runs out.
    """
    with out_of_memory.explained(config):
        run = make_run(config, open_table(config.data), runtime(config))
        taken: list[float] = []
        last = min(WARM_UP + MOST, config.steps)
        for done in range(last):
            began = time.perf_counter()
            share, epochs = done / config.steps, config.train.epochs
            run.gpt.enter(share, config.train.seed, done)
            add_gradients(run, *batch(config, run.table, done), share)
            step(run.optimizers, run.gpt, config.optim, share, epochs, 1 / config.steps)
            if done >= min(WARM_UP, last - 1):
                taken.append(time.perf_counter() - began)
            if len(taken) >= LEAST and sum(taken) > most_seconds:
                break
    on_gpu = run.runtime.device.type == "cuda"
    return Timing(
        seconds=median(taken) * config.train.members,  # whose steps follow each other
        memory=float(torch.cuda.max_memory_allocated()) if on_gpu else None,
        device=torch.cuda.get_device_name() if on_gpu else "CPU",
    )
