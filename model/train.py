"""The training loop. Stopping is leaving the loop; calling again on the same folder continues.

for progress in train(config, Path("runs/one")):
    if progress.val_loss > hopeless:
        break
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from model import checkpoint
from model.checkpoint import RunState
from model.config import Config
from model.data import batch, open_table
from model.evaluate import evaluate
from model.gpt import GPT
from model.optim import make_optimizers, step
from model.progress import WHOLE, Progress
from model.schedule import rate
from model.setting import ConfigError

# A train loss this far above that of guessing uniformly has exploded, and will not come back.
# The validation loss does not count: a run that learns its corpus by heart ends above guessing too.
NATS_ABOVE_GUESSING = 1.0


def train(config: Config, folder: Path) -> Iterator[Progress]:
    """Train `config` in `folder`, yielding an evaluation at equal fractions of the schedule.

    Evaluations already made in `folder` are yielded first, from its checkpoint, then training goes
    on bit for bit (on CPU). Each evaluation is on disk before it is yielded. A run that diverges
    yields that evaluation as its last. Raises ConfigError if `folder` holds a run with other
    settings, or another process trains there.
    """
    with checkpoint.locked(folder):
        yield from _train(config, folder)


def _train(config: Config, folder: Path) -> Iterator[Progress]:
    table = open_table(config.data)
    state = _read_state(config, folder)
    yield from state.history
    if state.history and (state.history[-1].done or state.history[-1].diverged):
        return

    device = _device(config)
    precision = _precision(config, device)
    torch.manual_seed(config.train.seed)
    gpt = GPT(config.gpt, table.vocabulary).to(device)
    optimizers = make_optimizers(gpt, config.optim)
    if state.history:
        checkpoint.restore(folder, gpt, optimizers)

    for mark in range(len(state.history) + 1, config.train.evals + 1):
        started = time.perf_counter()
        last_step = round(config.steps * mark / config.train.evals)
        losses = []
        for done_steps in range(state.step, last_step):
            x_BT, y_BT = map(torch.from_numpy, batch(config, table, done_steps))
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                loss = gpt.losses(x_BT.to(device), y_BT.to(device)).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            step(optimizers, gpt, config.optim, (done_steps + 1) / config.steps)
            losses.append(loss.detach())

        result = evaluate(gpt, table.val, table.token_lengths, config.gpt.context, precision)
        train_loss = float(torch.stack(losses).mean())
        hopeless = math.log(table.vocabulary) + NATS_ABOVE_GUESSING
        progress = Progress(
            basis_points=round(WHOLE * mark / config.train.evals),
            step=last_step,
            epoch=last_step / config.steps_per_epoch,
            tokens=last_step * config.train.batch_tokens,
            train_loss=train_loss,
            val_loss=result.loss,
            val_loss_error=result.standard_error,
            bits_per_byte=result.bits_per_byte,
            lr=config.optim.lr * rate(config.optim, last_step / config.steps),
            seconds=state.seconds + time.perf_counter() - started,
            diverged=not (train_loss < hopeless and math.isfinite(result.loss)),
        )
        state = RunState(state.settings, (*state.history, progress))
        checkpoint.save(folder, state, gpt, optimizers)
        yield progress
        if progress.diverged:
            return


def _read_state(config: Config, folder: Path) -> RunState:
    state = checkpoint.read_state(folder)
    settings = config.settings()
    if state is None:
        return RunState(settings, ())
    different = sorted(
        name for name in settings if settings[name] != state.settings.get(name, np.nan)
    )
    if different:
        raise ConfigError(
            [
                f"{name}: {folder} was trained with {state.settings.get(name)!r}, not "
                f"{settings[name]!r}; choose another folder"
                for name in different
            ]
        )
    return state


def _device(config: Config) -> torch.device:
    available = torch.cuda.is_available()
    if config.train.device == "cuda" and not available:
        raise ConfigError(["train.device: cuda asked, but torch sees no GPU; use auto or cpu"])
    return torch.device("cuda" if available and config.train.device != "cpu" else "cpu")


def _precision(config: Config, device: torch.device) -> torch.dtype:
    """bf16 on CPU only when asked for: without the instructions it is ten times slower."""
    bf16 = {"bf16": True, "fp32": False, "auto": device.type == "cuda"}[config.train.precision]
    return torch.bfloat16 if bf16 else torch.float32
