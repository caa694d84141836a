"""What is left of a network trained on: in memory for a while, or in a folder as any other run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from model.config import Config, ConfigError
from model.data.batches import batch
from model.data.table import TokenTable
from model.network import GPT
from model.optim import step, swap_in_averages
from model.progress import WHOLE, Progress
from model.trained.shrink import one_network
from model.training import checkpoint, log_probs
from model.training.checkpoint import RunState
from model.training.device import CPU, Runtime, runtime
from model.training.evaluate import Evaluation, HeldOut, evaluate
from model.training.run import Run, add_gradients, make_run
from model.training.trained import Trained

RATES = ("lr", "rest_lr", "embedding_lr", "head_lr", "scalar_lr", "residual_lr", "mix_lr")
EVALS = 4  # of a fine-tune
# One network, evaluated as it is: what the run averaged, mixed or learned from is not there again.
ALONE = {
    "train.evaluate": "raw",
    "train.ema_epochs": 0.0,
    "train.average_last": 0,
    "train.average_cycles": 0,
    "train.chain_after": 0,
    "train.members": 1,
    "train.teacher": "",
    "train.log_probs": "last",
    "data.curriculum": "no",
    "data.reference": "",
}
# From the whole rate to none in a line, after a short rise: the optimizers' state is new.
SCHEDULE = {
    "optim.schedule": "linear",
    "optim.warmup": 0.05,
    "optim.warmup_epochs": 0.0,
    "optim.final_rate": 0.0,
    "optim.cycle_epochs": 0,
    "optim.decay_schedule": "constant",
    "optim.momentum_warmup": 0.0,
}


def standing(trained: Trained) -> Config:
    """The settings of a network that is used as it is, with the schedule of its run."""
    replays = one_network(trained).replaying
    replay = {"gpt.replay_start": 0.0} if replays else {"gpt.replay_passes": 0}
    return Config.from_settings({**trained.config.settings(), **ALONE, **replay})


def tuning(trained: Trained, epochs: float, rate: float, held_back: int = 0) -> Config:
    """The settings of a fine-tune from the weights of `trained`; decay is as in its run.

    epochs     whole passes over the run's training tokens, or a part of the first
    rate       of its peak, as a share of that of the run
    held_back  training tokens at their end that are not read
    Raises ConfigError if there is no such fine-tune.
    """
    before = standing(trained)
    if not (0 < epochs < 1 or (epochs >= 1 and epochs == int(epochs))):
        raise ConfigError([f"epochs: must be whole, or a part of one, got {epochs:g}"])
    if not 0 < rate <= 10:
        raise ConfigError([f"rate: a share of the run's, above 0 and at most 10, got {rate:g}"])
    tokens = before.data.train_tokens - held_back
    settings = before.settings()
    del settings["optim.decay_timescale"]  # decay by step stays; what follows from it does not
    settings |= {f"optim.{name}": rate * float(settings[f"optim.{name}"]) for name in RATES}  # type: ignore[arg-type]
    own = {
        "data.train_tokens": max(2, math.ceil(tokens * min(1.0, epochs))),
        "train.epochs": max(1, int(epochs)),
        "train.evals": 1,
    }
    config = Config.from_settings({**settings, **SCHEDULE, **own})
    return replace(config, train=replace(config.train, evals=min(EVALS, config.steps)))


def where_to_compute(config: Config) -> Runtime:
    """The run's device, without compiling; a CPU in fp32, as networks are compared there."""
    where = runtime(config)
    return CPU if where.device.type == "cpu" else replace(where, compile=False)


def tuned(
    trained: Trained, config: Config, table: TokenTable, steps: int, watch: Callable[[int], None]
) -> Trained:
    """`trained` after so many steps of `config`, in memory; torch's random state stays.

    They are its first batches, but the rate falls as if that was all, so that what a longer
    fine-tune reads everywhere in the text a shorter one does too.

    watch   hears how many steps are done
    """
    where = replace(runtime(config), compile=False)
    with torch.random.fork_rng(devices=[where.device] if where.device.type == "cuda" else []):
        run = _run(trained, config, table, where)
        for done in range(steps):
            share = done / steps
            run.gpt.enter(share, config.train.seed, done)
            add_gradients(run, *batch(config, table, done), share)
            step(run.optimizers, run.gpt, config.optim, share, config.train.epochs, 1 / steps)
            watch(done + 1)
    with torch.device("meta"):
        gpt = GPT(config.gpt, table.vocabulary, separator=run.gpt.separator)
    gpt.to_empty(device=where_to_compute(config).device)
    with torch.no_grad(), swap_in_averages(run.optimizers):
        gpt.load_state_dict(run.gpt.state_dict())
        for name, buffer in gpt.named_buffers():
            buffer.copy_(run.gpt.get_buffer(name))
    gpt.replaying = run.gpt.replaying
    return replace(trained, config=config, gpt=gpt.eval())


def loss_on(trained: Trained, tokens: np.ndarray) -> Evaluation:
    """What `tokens` cost the network, read in windows as validation is."""
    held_out = HeldOut(tokens, trained.tokenizer.lengths, trained.config.gpt.reach)
    return evaluate(trained.gpt, held_out, where_to_compute(trained.config))


def is_begun(folder: Path) -> bool:
    """Whether a run in `folder` can go on or has ended; a damaged start is removed."""
    state = checkpoint.recover(folder)
    return state is not None and bool(state.settings)


def write_start(trained: Trained, config: Config, table: TokenTable, folder: Path) -> None:
    """A run in `folder` that has not begun to train, with the weights of `trained`.

    `train` on that folder goes on from there. Raises ConfigError if another process is there.
    """
    _write(trained, config, table, folder, ())


def write_finished(trained: Trained, table: TokenTable, train_loss: float, folder: Path) -> None:
    """A run in `folder` that has ended with the weights of `trained`, evaluated once.

    train_loss   nats per token
    Raises ConfigError if another process is there.
    """
    config = standing(trained)
    its = evaluate(
        trained.gpt, HeldOut.of(table, "val", config.gpt.reach), where_to_compute(config)
    )
    ended = Progress(
        basis_points=WHOLE,
        step=config.steps,
        epoch=float(config.train.epochs),
        tokens=config.steps * config.train.batch_tokens,
        train_loss=train_loss,
        val_loss=its.loss,
        val_loss_error=its.standard_error,
        bits_per_byte=its.bits_per_byte,
        raw_loss=its.loss,
        lr=0.0,
        seconds=0.0,
        clusters=its.clusters,
    )
    _write(trained, config, table, folder, (ended,))
    log_probs.add(folder, log_probs.FINAL, its.log_probs_N)


def _write(
    trained: Trained,
    config: Config,
    table: TokenTable,
    folder: Path,
    history: tuple[Progress, ...],
) -> None:
    settings = json.loads(json.dumps(config.settings()))  # as a checkpoint gives them back
    with checkpoint.locked(folder), torch.random.fork_rng(devices=[]):
        log_probs.forget(folder)
        run = _run(trained, config, table, CPU)
        state = RunState(settings, history, goes_on=not history)
        checkpoint.save(folder, state, run.state_tree(ended=state.ended))


def _run(trained: Trained, config: Config, table: TokenTable, where: Runtime) -> Run:
    """As `config` begins, but with the weights of `trained`."""
    run = make_run(config, table, where)
    run.gpt.load_state_dict(one_network(trained).state_dict())
    return run
