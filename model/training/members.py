"""One trial that is an ensemble: members of one recipe, trained beside each other.

`train.members` of them, each an ordinary run in a folder of its own with seeds of its own. They go
from evaluation to evaluation together, and what is evaluated is the mean of their probabilities:
its loss at a fraction of the schedule is a curve like that of one network, so that a search finds
the recipe whose members are best together, not alone (Kim et al., 2509.14786: trained longer and
decayed less). N targets, K members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np

from model.config import Config
from model.data.table import TokenTable
from model.progress import Progress
from model.training import checkpoint, log_probs
from model.training.checkpoint import RunState
from model.training.evaluate import HeldOut, score
from model.training.ranks import ALONE, Ranks

TrainOne = Callable[[Config, Path], Iterator[Progress]]


def member_folder(folder: Path, member: int) -> Path:
    """Where the member of that number, from 0, is trained."""
    return folder / f"member-{member + 1}"


def member_folders(folder: Path, config: Config) -> list[Path]:
    """Of every member of the run in `folder`; none where it is a single network."""
    members = config.train.members
    return [member_folder(folder, member) for member in range(members)] if members > 1 else []


def member_config(config: Config, member: int) -> Config:
    """The settings of one: no other run of this recipe has its seeds."""
    train = config.train
    own = {
        "train.members": 1,
        "train.seed": train.members * train.seed + member,
        "train.data_seed": train.members * train.data_seed + member,
    }
    return Config.from_settings({**config.settings(), **own})


def train_members(
    config: Config,
    folder: Path,
    table: TokenTable,
    state: RunState,
    train_one: TrainOne,
    ranks: Ranks = ALONE,
) -> Iterator[Progress]:
    """Train the members on from `state`, yielding evaluations of all of them together.

    train_one   trains a member in its folder and leaves there what it predicted last
    ranks       that train each member together
    The checkpoint in `folder` has the evaluations alone. It comes after those of the members: one
    that is ahead of it has what the others reach next.
    """
    if not state.history and ranks.first:
        log_probs.forget(folder)
    folders = member_folders(folder, config)
    runs = [_apart(train_one(member_config(config, k), path)) for k, path in enumerate(folders)]
    made, lost = len(state.history), state.lost
    for each in zip(*runs, strict=True):
        made -= 1
        lost = "; ".join(filter(None, [lost, *_news(each, state)]))
        if made >= 0:  # of an earlier call
            continue
        progress = ranks.same(partial(_mixed, config, folder, table, each))
        progress, lost = replace(progress, checkpoint_lost=lost), ""
        state = replace(state, history=(*state.history, progress), lost="")
        if ranks.first:
            checkpoint.save(folder, state, {})
            if state.ended:
                for path in folders:  # what they predicted is in the mean
                    log_probs.forget(path)
        yield progress
        if state.ended:
            return


def _mixed(config: Config, folder: Path, table: TokenTable, each: Sequence[Progress]) -> Progress:
    """The evaluation of what the members predicted last; the last of all is kept in `folder`."""
    predicted = [log_probs.read(path)[log_probs.LATEST] for path in member_folders(folder, config)]
    mixed_N = mean_probabilities(predicted)
    progress = _together(config, table, each, mixed_N)
    if progress.done and not progress.diverged and config.train.log_probs != "no":
        log_probs.add(folder, log_probs.FINAL, mixed_N)
    return progress


def _news(each: Sequence[Progress], state: RunState) -> list[str]:
    """What members say that they lost, and no evaluation of all has said."""
    said = [its.checkpoint_lost for its in state.history]
    return [
        its.checkpoint_lost
        for its in each
        if its.checkpoint_lost and not any(its.checkpoint_lost in text for text in said)
    ]


def _apart(run: Iterator[Progress]) -> Iterator[Progress]:
    """`run` with a random state of its own, as it has where it goes on from its checkpoint."""
    own = None
    while True:
        others = checkpoint.random_state()
        if own is not None:
            checkpoint.set_random_state(own)
        progress = next(run, None)
        own = checkpoint.random_state()
        checkpoint.set_random_state(others)
        if progress is None:
            return
        yield progress


def mean_probabilities(log_probs_KN: Sequence[np.ndarray]) -> np.ndarray:
    """Log-probabilities (N,) of the mean of the members' probabilities, float32."""
    total_N = np.logaddexp.reduce(np.stack(log_probs_KN).astype(np.float64), axis=0)
    return np.asarray(total_N - math.log(len(log_probs_KN)), dtype=np.float32)


def _together(
    config: Config, table: TokenTable, each: Sequence[Progress], mixed_N: np.ndarray
) -> Progress:
    """The evaluation of the mean; `raw_loss` is the mean loss of the members alone."""
    evaluation = score(mixed_N, HeldOut.of(table, "val", config.gpt.reach))
    diverged = [its.diverged_step for its in each if its.diverged_step is not None]
    ends = each[0].done and not diverged
    return Progress(
        basis_points=each[0].basis_points,
        step=each[0].step,
        epoch=each[0].epoch,
        tokens=sum(its.tokens for its in each),
        train_loss=fmean(its.train_loss for its in each),
        val_loss=math.nan if diverged else evaluation.loss,
        val_loss_error=evaluation.standard_error,
        bits_per_byte=evaluation.bits_per_byte,
        raw_loss=fmean(its.val_loss for its in each),
        lr=each[0].lr,
        seconds=sum(its.seconds for its in each),
        diverged_step=min(diverged) if diverged else None,
        clusters=evaluation.clusters if ends else None,
    )
