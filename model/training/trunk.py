"""Trunks that runs of one recipe share: kept where other epoch counts branch off, and gone on from.

A trunk is a checkpoint in a folder of its own, by the digest of its recipe and the step it is at.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.config import Config, ConfigError, SharedTrunks, branch_steps, recipe_digest, trunk_steps
from model.files import Locked, lock
from model.progress import WHOLE, Progress
from model.training import checkpoint
from model.training.checkpoint import RunState, Trunk
from model.training.run import Run


def step_of(config: Config, mark: int) -> int:
    """The step after which evaluation number `mark` is made, counted from 1."""
    return round(config.steps * mark / config.train.evals)


def basis_points_of(config: Config, mark: int) -> int:
    """The fraction of the schedule at evaluation number `mark`, in 1/10,000."""
    return round(WHOLE * mark / config.train.evals)


class Branches:
    """The steps of a run at which its trunk is kept; none where trunks are not shared."""

    def __init__(self, run: Run, name: str, shared: SharedTrunks | None) -> None:
        """name: of the run, for those that go on from its trunk."""
        self._run, self._name = run, name
        self._steps = branch_steps(run.config, shared.epochs) if shared else ()
        self._folder = shared.folder / recipe_digest(run.config) if shared else Path()

    def passed(self, step: int, loss: float) -> None:
        """Remember the train loss of a step, counted from 1, while somebody may go on from here."""
        losses = self._run.trunk_losses
        if self._steps and len(losses) == step - 1 < self._steps[-1]:
            losses.append(loss)

    def keep(self, step: int, state: RunState, seconds: float = 0.0) -> None:
        """Keep the run as it is after `step`, if others branch off here and nobody did it before.

        seconds   since the last evaluation of `state`
        """
        folder = self._folder / f"{step:08}"
        known = len(self._run.trunk_losses) == step  # not if the run began before trunks were kept
        if step in self._steps and known and self._run.ranks.first:
            trunk = Trunk(self._name, step, state.trunk.seconds + state.seconds + seconds)
            folder.mkdir(parents=True, exist_ok=True)
            # Whoever holds it writes the same.
            with suppress(Locked), lock(folder / checkpoint.LOCK):
                if not (folder / checkpoint.NAME).exists():
                    checkpoint.save(folder, replace(state, trunk=trunk), self._run.state_tree())
        if self._steps and step >= self._steps[-1]:
            self._run.trunk_losses.clear()


def join(run: Run, state: RunState, shared: SharedTrunks) -> RunState:
    """Go on from the longest trunk that `run`, which has not begun, has in common with another.

    Returns `state` as it is then, with the evaluations that the other made at steps of its own.
    One that is damaged is deleted and passed over.
    """
    config, lost = run.config, ""
    folder, most = shared.folder / recipe_digest(config), trunk_steps(config)
    kept = sorted((path for path in folder.glob("*") if path.name.isdecimal()), reverse=True)
    for path in kept:
        if int(path.name) > most:
            continue
        try:
            there = checkpoint.read_state(path)
            if there is None:  # it was deleted meanwhile
                continue
            run.restore(path)
        except ConfigError as error:
            lost = lost or error.problems[0].partition(";")[0]
            (path / checkpoint.NAME).unlink(missing_ok=True)  # to be kept anew
            continue
        except FileNotFoundError:
            continue
        trunk = replace(there.trunk, lost=lost)
        return replace(state, history=_inherited(run, there.history, trunk), trunk=trunk)
    return replace(state, trunk=Trunk(lost=lost))


def _inherited(run: Run, history: tuple[Progress, ...], trunk: Trunk) -> tuple[Progress, ...]:
    """Those evaluations of another run that this one would have made at the same steps.

    All but the last: more comes of that than its losses.
    """
    config, by_step, evaluations = run.config, {its.step: its for its in history}, []
    for mark in range(1, config.train.evals):
        step = step_of(config, mark)
        if step in by_step:
            its = by_step[step]
            losses = run.trunk_losses[step_of(config, mark - 1) : step]
            evaluations.append(
                replace(
                    its,
                    basis_points=basis_points_of(config, mark),
                    train_loss=float(np.mean(losses)),
                    seconds=0.0,
                    clusters=None,  # where it was the other's last
                    trunk_of=trunk.of,
                    trunk_step=step,
                    trunk_seconds=its.trunk_seconds + its.seconds,
                    trunk_lost=trunk.lost,
                )
            )
    return tuple(evaluations)
