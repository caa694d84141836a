"""The training loop. Stopping is leaving the loop; calling again on the same folder continues.

for progress in train(config, Path("runs/one")):
    if progress.val_loss > hopeless:
        break

Shapes: B sequences, T tokens each.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.optim import Optimizer

from model.config import Config, ConfigError
from model.data.batches import batch, open_table
from model.data.table import TokenTable
from model.files import cache_folder
from model.network import GPT
from model.optim import load_state_tree, make_optimizers, rate, state_tree, step, swap_in_averages
from model.progress import WHOLE, Progress
from model.training import checkpoint
from model.training import log_probs as predictions
from model.training import out_of_memory as memory
from model.training.averages import (
    EMA,
    PROBABILITIES,
    RAW,
    WEIGHTS,
    Averages,
)
from model.training.checkpoint import RunState, Tree
from model.training.device import (
    Runtime,
    keep_freed_memory,
    runtime,
    share_compiled_code,
)
from model.training.evaluate import (
    TOKENS_AT_ONCE,
    Evaluation,
    HeldOut,
    evaluate,
    score,
)

# A step's train loss this far above that of guessing uniformly has exploded. Such a run may come
# back as its rate falls, but none that did ended near one that never got there.
# The validation loss does not count: a run that learns its corpus by heart ends above guessing too.
NATS_ABOVE_GUESSING = 1.0


def train(config: Config, folder: Path) -> Iterator[Progress]:
    """Train `config` in `folder`, yielding an evaluation at equal fractions of the schedule.

    Evaluations already made in `folder` are yielded first, from its checkpoint, then training goes
    on bit for bit (on CPU). Each evaluation is on disk before it is yielded. A run that diverges
    stops there, and that evaluation is its last. Raises ConfigError if `folder` holds a run with
    other settings, if another process trains there, or if memory runs out.
    """
    with checkpoint.locked(folder), memory.explained(config):
        table = open_table(config.data)
        state = _read_state(config, folder)
        yield from state.history
        if state.ended:
            return
        run = begin(config, table, folder, state)

        for mark in range(len(state.history) + 1, config.train.evals + 1):
            started = time.perf_counter()
            losses: list[float] = []
            raw = None
            for done in range(state.step, round(config.steps * mark / config.train.evals)):
                run.gpt.enter(done / config.steps, config.train.seed, done)
                losses.append(_add_gradients(run, *batch(config, run.table, done)))
                share = (done + 1) / config.steps
                step(run.optimizers, run.gpt, config.optim, share, config.train.epochs)
                raw = _take_in(run, done + 1, folder)
                if not losses[-1] < run.hopeless:
                    break

            with swap_in_averages(run.optimizers):
                found = run.averages.evaluate(raw or run.evaluate(), run.evaluate, run.score)
            progress = _progress(run, mark, state, losses, found, time.perf_counter() - started)
            if progress.done and not progress.diverged and config.train.log_probs != "no":
                predictions.add(folder, predictions.FINAL, _named(config, found).log_probs_N)
            state = RunState(state.settings, (*state.history, progress))
            checkpoint.save(folder, state, run.state_tree())
            yield progress
            if state.ended:
                return


@dataclass(frozen=True)
class Run:
    """What training changes, and what it is measured on."""

    config: Config
    table: TokenTable
    runtime: Runtime
    gpt: GPT
    optimizers: list[Optimizer]
    averages: Averages

    @property
    def hopeless(self) -> float:
        """The train loss of a step that has exploded."""
        return math.log(self.table.vocabulary) + NATS_ABOVE_GUESSING

    @property
    def held_out(self) -> HeldOut:
        return HeldOut(self.table.val, self.table.token_lengths, self.config.gpt.context)

    def evaluate(self) -> Evaluation:
        """Of the weights that are in the network. No more at once than memory was said to hold."""
        at_once = min(TOKENS_AT_ONCE, self.config.train.micro_batch_tokens or TOKENS_AT_ONCE)
        return evaluate(self.gpt, self.held_out, self.runtime, at_once)

    def score(self, log_probs_N: np.ndarray) -> Evaluation:
        return score(log_probs_N, self.held_out)

    def state_tree(self) -> Tree:
        return {
            "gpt": self.gpt.state_dict(),
            "optimizers": state_tree(self.optimizers),
            "averages": self.averages.state_tree(),
        }


def begin(config: Config, table: TokenTable, folder: Path, state: RunState) -> Run:
    """The run as it starts, or as the checkpoint in `folder` left it."""
    where = runtime(config)
    if where.device.type == "cpu":
        keep_freed_memory()
    torch.manual_seed(config.train.seed)
    gpt = GPT(config.gpt, table.vocabulary, where.manual_attention).to(where.device)
    optimizers = make_optimizers(gpt, config.optim)
    averages = Averages(gpt, config.train, config.steps_per_epoch)
    if state.history:
        tree = checkpoint.restore(folder)
        gpt.load_state_dict(tree["gpt"])
        load_state_tree(optimizers, tree["optimizers"])
        averages.load_state_tree(tree["averages"])
    else:
        predictions.forget(folder)
    if where.compile:
        share_compiled_code(str(cache_folder() / "compiled"))
        # Set on this network alone: its parameters keep their names.
        gpt.objective = torch.compile(gpt.objective)  # type: ignore[method-assign]
        gpt.losses = torch.compile(gpt.losses)  # type: ignore[method-assign]
    return Run(config, table, where, gpt, optimizers, averages)


def _add_gradients(run: Run, x_BT: np.ndarray, y_BT: np.ndarray) -> float:
    """Add up the gradients of a step's micro-batches; the mean plain loss, nats per token."""
    train, device = run.config.train, run.runtime.device
    pieces = train.batch_tokens // (train.micro_batch_tokens or train.batch_tokens)
    total = torch.zeros((), device=device)
    for x, y in zip(np.split(x_BT, pieces), np.split(y_BT, pieces), strict=True):
        with run.runtime.autocast():
            loss, plain = run.gpt.objective(
                torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)
            )
        (loss / pieces).backward()  # type: ignore[no-untyped-call]
        total += plain.detach() / pieces
    return float(total)


def _take_in(run: Run, steps: int, folder: Path) -> Evaluation | None:
    """Take the weights after so many steps into their averages; at an epoch's end, predictions too.

    Returns the evaluation of these weights where that took one.
    """
    train, (epoch, into_epoch) = run.config.train, divmod(steps, run.config.steps_per_epoch)
    averaged = not into_epoch and run.averages.takes(epoch)
    kept = not into_epoch and train.log_probs == "epochs"
    if not (train.ema_epochs or averaged or kept):
        return None
    with swap_in_averages(run.optimizers):
        run.averages.follow()
        if not (averaged or kept):
            return None
        raw = run.evaluate()
        if averaged:
            run.averages.take(epoch, raw.log_probs_N)
    if kept:
        predictions.add(folder, predictions.epoch_key(epoch), raw.log_probs_N)
    return raw


def _named(config: Config, found: dict[str, Evaluation]) -> Evaluation:
    """The evaluation that `train.evaluate` names; of the last weights until there is one."""
    return found.get(config.train.evaluate, found[RAW])


def _progress(
    run: Run,
    mark: int,
    state: RunState,
    losses: list[float],
    found: dict[str, Evaluation],
    seconds: float,
) -> Progress:
    config, steps = run.config, state.step + len(losses)
    named, raw_loss = _named(config, found), found[RAW].loss
    averages = {name: e.loss for name, e in found.items()}
    hopeless = not losses[-1] < run.hopeless or not math.isfinite(raw_loss)
    return Progress(
        basis_points=round(WHOLE * mark / config.train.evals),
        step=steps,
        epoch=steps / config.steps_per_epoch,
        tokens=steps * config.train.batch_tokens,
        train_loss=float(np.mean(losses)),
        val_loss=named.loss,
        val_loss_error=named.standard_error,
        bits_per_byte=named.bits_per_byte,
        raw_loss=raw_loss,
        ema_loss=averages.get(EMA),
        weights_loss=averages.get(WEIGHTS),
        probabilities_loss=averages.get(PROBABILITIES),
        lr=config.optim.lr * rate(config.optim, steps / config.steps, config.train.epochs),
        seconds=state.seconds + seconds,
        diverged_step=steps if hopeless else None,
    )


def _read_state(config: Config, folder: Path) -> RunState:
    state = checkpoint.read_state(folder)
    settings = json.loads(json.dumps(config.settings()))  # as a checkpoint gives them back
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
