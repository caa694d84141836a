"""How long steps take on this machine: a few of them, timed, nothing kept."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

import numpy as np
import torch

from model.config import Config
from model.data.batches import batch, open_table
from model.network import GPT
from model.optim import make_optimizers, step
from model.training import out_of_memory as memory
from model.training.device import runtime

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
    with memory.explained(config):
        table = open_table(config.data)
        where = runtime(config)
        gpt = GPT(config.gpt, table.vocabulary, where.manual_attention).to(where.device)
        optimizers = make_optimizers(gpt, config.optim)
        if where.compile:
            gpt.objective = torch.compile(gpt.objective)  # type: ignore[method-assign]
        pieces = config.train.batch_tokens // (
            config.train.micro_batch_tokens or config.train.batch_tokens
        )
        taken: list[float] = []
        last = min(WARM_UP + MOST, config.steps)
        for done in range(last):
            began = time.perf_counter()
            gpt.enter(done / config.steps, config.train.seed, done)
            x_BT, y_BT = batch(config, table, done)
            for x, y in zip(np.split(x_BT, pieces), np.split(y_BT, pieces), strict=True):
                with where.autocast():
                    loss, _ = gpt.objective(
                        torch.from_numpy(x).to(where.device), torch.from_numpy(y).to(where.device)
                    )
                (loss / pieces).backward()  # type: ignore[no-untyped-call]
            step(optimizers, gpt, config.optim, (done + 1) / config.steps, config.train.epochs)
            float(loss.detach())  # waits for the device
            if done >= min(WARM_UP, last - 1):
                taken.append(time.perf_counter() - began)
            if len(taken) >= LEAST and sum(taken) > most_seconds:
                break
    on_gpu = where.device.type == "cuda"
    return Timing(
        seconds=median(taken),
        memory=float(torch.cuda.max_memory_allocated()) if on_gpu else None,
        device=torch.cuda.get_device_name() if on_gpu else "CPU",
    )
