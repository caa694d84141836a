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
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from model.config import DIGEST_OF, SETTINGS, Config, ConfigError, SharedTrunks
from model.data.batches import batch, open_table
from model.data.table import TokenTable
from model.optim import rate, step, swap_in_averages
from model.progress import Progress
from model.training import checkpoint, log_probs, out_of_memory
from model.training.averages import EMA, PROBABILITIES, RAW, WEIGHTS
from model.training.checkpoint import RunState
from model.training.cycles import begin_cycle
from model.training.device import runtime
from model.training.evaluate import Evaluation
from model.training.members import member_folders, train_members
from model.training.ranks import ALONE, Ranks
from model.training.run import Run, add_gradients, make_run
from model.training.teacher import Predecessor, open_teacher
from model.training.trunk import Branches, basis_points_of, join, step_of
from model.training.weights import first_weights

# A step's train loss this far above that of guessing uniformly has exploded. Such a run may come
# back as its rate falls, but none that did ended near one that never got there.
# The validation loss does not count: a run that learns its corpus by heart ends above guessing too.
NATS_ABOVE_GUESSING = 1.0


def train(
    config: Config,
    folder: Path,
    shared: SharedTrunks | None = None,
    member: bool = False,
    watch: Callable[[int, float], None] = lambda step, loss: None,
    ranks: Ranks = ALONE,
) -> Iterator[Progress]:
    """Train `config` in `folder`, yielding an evaluation at equal fractions of the schedule.

    Evaluations already made in `folder` are yielded first, from its checkpoint, then training goes
    on bit for bit (on CPU); a damaged checkpoint costs the evaluations since the one before it,
    which the first one after says. Each evaluation is on disk before it is yielded. A run that
    diverges stops there, and that evaluation is its last. Raises ConfigError if `folder` holds a
    run with other settings, if another process trains there, or if memory runs out.

    shared  trunks of runs whose settings differ in epochs alone. A run begins with the longest that
            it has in common with one of them, to the same end to the last bit (on CPU). Evaluations
            that were made there at the same steps are yielded first; others of the trunk are not
            made.
    member  whether it is one of several that are evaluated together: then it leaves what it
            predicted last in `folder`
    watch   hears of each step that is trained: how many are done, and its train loss
    ranks   processes of which each calls this with the same arguments, and each yields the same.
            They come to the losses of one process, but for rounding; without a difference where as
            many go on from a checkpoint.
    """
    with ranks.first_only(checkpoint.locked(folder)), out_of_memory.explained(config):
        table = open_table(config.data)
        state = ranks.same(lambda: _read_state(config, folder, table.digest))
        state = replace(state, tokens=table.digest)
        if state.lost and config.train.members > 1 and ranks.first:
            # They are further, and nobody knows what they predicted before.
            for path in member_folders(folder, config):
                checkpoint.forget(path)
        yield from state.history
        if state.ended:
            return
        if not state.goes_on:
            raise ConfigError(
                [
                    f"{folder} holds a run that was stopped for good and has given up its "
                    "optimizers' state, so it cannot go on; choose another folder"
                ]
            )
        if config.train.members > 1:
            one = partial(train, member=True, ranks=ranks)
            yield from train_members(config, folder, table, state, one, ranks)
            return
        teacher = open_teacher(config, table, runtime(config).device)
        run = replace(begin(config, table, folder, state, ranks), teacher=teacher)
        hopeless, branches = _hopeless(run), Branches(run, folder.name, shared)
        if shared and not state.history:
            trunks, untrained = shared, state
            state = ranks.same(lambda: join(run, untrained, trunks))
            yield from state.history
        _begin_alike(run, state)

        for mark in _marks_left(config, state):
            started = time.perf_counter()
            losses = run.trunk_losses[step_of(config, mark - 1) :]  # this stretch's, of a trunk
            raw, at, end = None, state.step, step_of(config, mark)
            for done in range(state.step, end):
                at = done + 1
                share, epochs = done / config.steps, config.train.epochs
                begin_cycle(run.gpt, config, done, run.predecessor)
                run.gpt.enter(share, config.train.seed, done)
                losses.append(add_gradients(run, *batch(config, run.table, done), share))
                step(run.optimizers, run.gpt, config.optim, share, epochs, 1 / config.steps)
                watch(at, losses[-1])
                raw = _take_in(run, at, folder)
                if not losses[-1] < hopeless:
                    break
                branches.passed(at, losses[-1])
                if at < end:  # at an evaluation the trunk is kept with it
                    branches.keep(at, state, time.perf_counter() - started)

            with swap_in_averages(run.optimizers):
                evaluations = run.averages.evaluate(raw or run.evaluate(), run.evaluate, run.score)
            seconds = time.perf_counter() - started
            progress = _progress(run, mark, at, state, losses, evaluations, seconds)
            if ranks.first:
                _keep_predictions(run, folder, progress, evaluations, member)
            state = replace(state, history=(*state.history, progress), lost="")
            run.ranks.require_same(run.gpt.parameters())
            if not progress.diverged:
                branches.keep(state.step, state)
            if ranks.first:
                checkpoint.save(folder, state, run.state_tree(state.ended))
            yield progress
            if state.ended:
                return


def begin(
    config: Config, table: TokenTable, folder: Path, state: RunState, ranks: Ranks = ALONE
) -> Run:
    """The run as it starts, or as the checkpoint in `folder` left it; without its teacher.

    A checkpoint without an evaluation holds the weights that the run is to start with. Of several
    ranks the first alone looks for one; the others are yet to hear of it.
    """
    restored = ranks.first and (folder / checkpoint.NAME).exists()
    from_others = config.gpt.init and not restored and ranks.first
    weights = first_weights(config, table) if from_others else None
    run = replace(make_run(config, table, runtime(config), weights), ranks=ranks)
    if config.train.chain_after:
        run = replace(run, predecessor=Predecessor(run))
    if restored:
        run.restore(folder)
        last = max(0, state.step - 1)  # layer replay depends on where the run is
        run.gpt.enter(last / config.steps, config.train.seed, last)
    elif ranks.first:
        log_probs.forget(folder)
    return run


def _begin_alike(run: Run, state: RunState) -> None:
    """Have all ranks begin as the first does: with its weights, and all else that it has."""
    if not run.ranks.joined:
        return
    tree = run.ranks.same_tree(run.state_tree)
    if not run.ranks.first:
        run.load(tree)
    last = max(0, state.step - 1)
    run.gpt.enter(last / run.config.steps, run.config.train.seed, last)


def _marks_left(config: Config, state: RunState) -> list[int]:
    """The evaluations to come, counted from 1; those that fall within a trunk are not made."""
    made = state.history[-1].basis_points if state.history else 0
    return [
        mark
        for mark in range(1, config.train.evals + 1)
        if basis_points_of(config, mark) > made and step_of(config, mark) >= state.step
    ]


def _hopeless(run: Run) -> float:
    """The train loss of a step that has exploded, nats per token."""
    return math.log(run.table.vocabulary) + NATS_ABOVE_GUESSING


def _take_in(run: Run, steps: int, folder: Path) -> Evaluation | None:
    """Take the weights after so many steps into their averages; at an epoch's end, predictions too.

    Returns the evaluation of these weights where that took one.
    """
    train, (epoch, into_epoch) = run.config.train, divmod(steps, run.config.steps_per_epoch)
    averaged = not into_epoch and run.averages.takes(epoch)
    every = {"epochs": 1, "cycles": run.config.epochs_per_cycle}.get(train.log_probs)
    kept = not into_epoch and every is not None and epoch % every == 0
    if not (train.ema_epochs or averaged or kept):
        return None
    with swap_in_averages(run.optimizers):
        run.averages.follow()
        if not (averaged or kept):
            return None
        raw = run.evaluate()
        if averaged:
            run.averages.take(epoch, raw.log_probs_N)
    if kept and run.ranks.first:
        log_probs.add(folder, log_probs.epoch_key(epoch), raw.log_probs_N)
    return raw


def _keep_predictions(
    run: Run, folder: Path, progress: Progress, evaluations: dict[str, Evaluation], latest: bool
) -> None:
    """Keep what the run predicts at its end, and, of one of several members, what it does now."""
    predicted_N = _named(run.config, evaluations).log_probs_N
    if progress.done and not progress.diverged and run.config.train.log_probs != "no":
        log_probs.add(folder, log_probs.FINAL, predicted_N)
    if latest:
        log_probs.add(folder, log_probs.LATEST, predicted_N)


def _named(config: Config, evaluations: dict[str, Evaluation]) -> Evaluation:
    """The evaluation that `train.evaluate` names; of the last weights until there is one."""
    return evaluations.get(config.train.evaluate, evaluations[RAW])


def _progress(
    run: Run,
    mark: int,
    steps: int,
    state: RunState,
    losses: list[float],
    evaluations: dict[str, Evaluation],
    seconds: float,
) -> Progress:
    config = run.config
    named, raw_loss = _named(config, evaluations), evaluations[RAW].loss
    averages = {name: e.loss for name, e in evaluations.items()}
    last_rate = rate(
        config.optim, (steps - 1) / config.steps, config.train.epochs, 1 / config.steps
    )
    diverged = not losses[-1] < _hopeless(run) or not math.isfinite(raw_loss)
    ends = mark == config.train.evals and not diverged and math.isfinite(named.loss)
    return Progress(
        basis_points=basis_points_of(config, mark),
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
        clusters=named.clusters if ends else None,
        trunk_of=state.trunk.of,
        trunk_step=state.trunk.step,
        trunk_seconds=state.trunk.seconds,
        trunk_lost=state.trunk.lost,
        checkpoint_lost=state.lost,
    )


def _read_state(config: Config, folder: Path, digest: str) -> RunState:
    """The state to go on from in `folder`, whose tokens have this digest now.

    Raises ConfigError if it is that of a run with other settings.
    """
    state = checkpoint.recover(folder, or_before=config.train.members == 1)
    settings = json.loads(json.dumps(config.settings()))  # as a checkpoint gives them back
    if state is None or not state.settings:
        return RunState(settings, (), lost=state.lost if state else "")
    # A setting that is newer than the checkpoint changes nothing at its default.
    defaults = json.loads(json.dumps({name: known.default for name, known in SETTINGS.items()}))
    trained_with = {**defaults, **state.settings}
    different = sorted(name for name in settings if settings[name] != trained_with[name])
    if {settings["data.digest"], trained_with["data.digest"]} == {"", digest}:  # named by one alone
        different.remove("data.digest")
    moved = [name for name, its in DIGEST_OF.items() if settings[its]]
    different = [n for n in different if n not in moved or DIGEST_OF[n] in different]
    if different:
        raise ConfigError(
            [
                f"{name}: {folder} was trained with {trained_with[name]!r}, not "
                f"{settings[name]!r}; choose another folder"
                for name in different
            ]
        )
    return state
