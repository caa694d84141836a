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
from pathlib import Path

import numpy as np

from model.config import Config, ConfigError
from model.data.batches import batch, open_table
from model.data.table import TokenTable
from model.optim import rate, step, swap_in_averages
from model.progress import WHOLE, Progress
from model.training import checkpoint, log_probs, out_of_memory
from model.training.averages import EMA, PROBABILITIES, RAW, WEIGHTS
from model.training.checkpoint import RunState
from model.training.device import runtime
from model.training.evaluate import Evaluation
from model.training.run import Run, add_gradients, make_run

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
    with checkpoint.locked(folder), out_of_memory.explained(config):
        table = open_table(config.data)
        state = _read_state(config, folder)
        yield from state.history
        if state.ended:
            return
        run = begin(config, table, folder, state)
        hopeless = _hopeless(run)

        for mark in range(len(state.history) + 1, config.train.evals + 1):
            started = time.perf_counter()
            losses: list[float] = []
            raw = None
            for done in range(state.step, round(config.steps * mark / config.train.evals)):
                run.gpt.enter(done / config.steps, config.train.seed, done)
                losses.append(add_gradients(run, *batch(config, run.table, done)))
                share, epochs = done / config.steps, config.train.epochs
                step(run.optimizers, run.gpt, config.optim, share, epochs, 1 / config.steps)
                raw = _take_in(run, done + 1, folder)
                if not losses[-1] < hopeless:
                    break

            with swap_in_averages(run.optimizers):
                evaluations = run.averages.evaluate(raw or run.evaluate(), run.evaluate, run.score)
            seconds = time.perf_counter() - started
            progress = _progress(run, mark, state, losses, evaluations, seconds)
            if progress.done and not progress.diverged and config.train.log_probs != "no":
                log_probs.add(folder, log_probs.FINAL, _named(config, evaluations).log_probs_N)
            state = RunState(state.settings, (*state.history, progress))
            checkpoint.save(folder, state, run.state_tree())
            yield progress
            if state.ended:
                return


def begin(config: Config, table: TokenTable, folder: Path, state: RunState) -> Run:
    """The run as it starts, or as the checkpoint in `folder` left it."""
    run = make_run(config, table, runtime(config))
    if state.history:
        run.restore(folder)
    else:
        log_probs.forget(folder)
    return run


def _hopeless(run: Run) -> float:
    """The train loss of a step that has exploded, nats per token."""
    return math.log(run.table.vocabulary) + NATS_ABOVE_GUESSING


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
        log_probs.add(folder, log_probs.epoch_key(epoch), raw.log_probs_N)
    return raw


def _named(config: Config, evaluations: dict[str, Evaluation]) -> Evaluation:
    """The evaluation that `train.evaluate` names; of the last weights until there is one."""
    return evaluations.get(config.train.evaluate, evaluations[RAW])


def _progress(
    run: Run,
    mark: int,
    state: RunState,
    losses: list[float],
    evaluations: dict[str, Evaluation],
    seconds: float,
) -> Progress:
    config, steps = run.config, state.step + len(losses)
    named, raw_loss = _named(config, evaluations), evaluations[RAW].loss
    averages = {name: e.loss for name, e in evaluations.items()}
    last_rate = rate(
        config.optim, (steps - 1) / config.steps, config.train.epochs, 1 / config.steps
    )
    diverged = not losses[-1] < _hopeless(run) or not math.isfinite(raw_loss)
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
        lr=config.optim.lr * last_rate,
        seconds=state.seconds + seconds,
        diverged_step=steps if diverged else None,
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
