"""An ensemble of a sweep's own trials: who is in it, how much of each, and what it is worth.

Members are chosen on the last quarter of val, which `model.data.split` keeps for it, and reported
on the rest. The best single is the trial with the lowest loss on all of val: it was chosen on what
is reported, the ensemble was not, so the gain is told too small rather than too large.
Arrays: K members, N targets.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.data.split import choose_slice
from model.files import write_text
from model.training import log_probs
from sweep.errors import SweepError
from sweep.folder import ENSEMBLE, TRIALS
from sweep.models import of_trial
from sweep.predictions import mixture
from sweep.predictions.difference import Difference, by_tokens
from sweep.predictions.member_curve import MemberCurve, member_curve
from sweep.predictions.predicted import predicted, shared_table
from sweep.records import FinalistRun, Outcome, Role
from sweep.results.efficiency_report import Worth, worth_of_loss
from sweep.view import TrialView, View

MOST = 16  # of the search's best, whose predictions are made again if need be
UNIFORM, GREEDY, LEARNED = "uniform", "greedy", "learned"
METHODS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    UNIFORM: mixture.uniform,
    GREEDY: mixture.greedy,
    LEARNED: mixture.learned,
}


@dataclass(frozen=True, eq=False)
class Member:
    """A candidate: the end of a trial, or the end of one of its epochs."""

    name: str
    trial: TrialView
    epoch: int | None  # None: the end of its schedule, whose network is on the disk
    how: str  # its predictions were kept, or made again


@dataclass(frozen=True)
class Mix:
    """One way of mixing the candidates."""

    how: str
    weights: dict[str, float]  # of members that have any, largest first
    choosing_loss: float  # nats per token on what it was chosen on
    loss: float  # on the rest
    against_best: Difference  # of its loss less that of the best single, on the rest


@dataclass(frozen=True, eq=False)
class Ensemble:
    """What the trials of a sweep come to together."""

    folder: Path
    members: list[Member]  # all candidates, by their loss on all of val
    best: str  # the best single
    best_losses: tuple[float, float]  # its own: on what members were chosen on, and on the rest
    choosing_tokens: int
    tokens: int  # targets of the rest
    mixes: list[Mix]
    chosen: Mix  # the one to use
    curves: list[tuple[str, MemberCurve]]  # of whom, and what more of them bring
    worth: tuple[Worth, Worth] | None  # of the best single and the ensemble; None: no baseline
    missing: list[str]  # trials that could have been members, and why they are not
    log_probs_KN: np.ndarray
    rest_offsets_D: np.ndarray  # where each document of the rest begins, and last its end

    def trained(self) -> list[tuple[Member, float]]:
        """The chosen members that are networks on the disk, with their weights."""
        return [
            (member, self.chosen.weights[member.name])
            for member in self.members
            if member.name in self.chosen.weights and member.epoch is None
        ]


def ensemble_of(
    folder: Path, view: View, method: str = GREEDY, only: Sequence[str] = ()
) -> Ensemble:
    """Mix the finished trials of the sweep in `folder`.

    method   which of METHODS to use; the others are told beside it
    only     names of the trials that may be members; empty: all
    Raises SweepError if fewer than two can be, or if predictions are damaged.
    """
    trials = _candidates(view, only)
    table = shared_table([of_trial(folder, trials[0])])
    members, rows, missing = [], [], []
    for place, trial in enumerate(trials):
        source = of_trial(folder, trial)
        if place >= MOST and not log_probs.read(source.folder):
            continue  # neither among the best, nor was it kept for another reason
        its = predicted(source, table)
        if its.log_probs_N is None:
            missing.append(f"{trial.name}: {its.how}")
            continue
        members.append(Member(trial.name, trial, None, its.how))
        rows.append(its.log_probs_N)
        for key in sorted(log_probs.read(source.folder).keys() - {log_probs.FINAL}):
            epoch = int(key.removeprefix("epoch_"))
            if epoch < int(source.config.train.epochs):
                kept_N = predicted(source, table, key).log_probs_N
                assert kept_N is not None
                members.append(Member(f"{trial.name}@{epoch}", trial, epoch, its.how))
                rows.append(kept_N)
    if len(members) < 2:
        raise SweepError(
            f"an ensemble of {folder} needs the predictions of two trials, there are those of "
            f"{len(members)}",
            missing,
            hint="`trial.keep_log_probs` keeps them; sweep ensemble --train trains more members.",
        )
    return _mix(folder, view, members, np.stack(rows), table.documents["val"], method, missing)


def _candidates(view: View, only: Sequence[str]) -> list[TrialView]:
    """Trials that ended complete, the baseline's apart, lowest loss first.

    A student of these has no say unless it is named: it would become its own teacher.
    """
    complete = [
        trial
        for trial in view.trials.values()
        if trial.outcome is Outcome.COMPLETE
        and trial.role is not Role.BASELINE
        and (trial.name in only or not _is_student(view, trial))
    ]
    names = {trial.name for trial in complete}
    if unknown := [name for name in only if name not in names]:
        raise SweepError(
            f"{view.header['name']} has no complete trial {', '.join(unknown)}",
            hint="sweep status shows which there are.",
        )
    if not complete:
        raise SweepError(f"{view.header['name']} has no complete trial yet: nothing to mix")
    chosen = [trial for trial in complete if not only or trial.name in only]
    return sorted(chosen, key=lambda trial: trial.val_loss)


def _is_student(view: View, trial: TrialView) -> bool:
    """Whether it is of a recipe with a teacher that no trial of the search has."""
    return isinstance(trial.kind, FinalistRun) and trial.kind.finalist not in view.trials


def _mix(
    folder: Path,
    view: View,
    members: list[Member],
    log_probs_KN: np.ndarray,
    offsets_D: np.ndarray,
    method: str,
    missing: list[str],
) -> Ensemble:
    begin, end = choose_slice(log_probs_KN.shape[1] + 1)
    choosing_KN, rest_KN = log_probs_KN[:, begin - 1 : end - 1], log_probs_KN[:, : begin - 1]
    offsets_D = np.append(offsets_D[offsets_D < begin], begin)
    best_N = rest_KN[0]  # members are sorted, the end of a trial before its epochs

    mixes = []
    for how, choose in METHODS.items():
        weight_K = choose(choosing_KN)
        mixed_N = mixture.mixed(rest_KN, weight_K)
        mixes.append(
            Mix(
                how,
                _by_name(members, weight_K),
                mixture.loss(choosing_KN, weight_K),
                -float(mixed_N.mean()),
                by_tokens(best_N - mixed_N, offsets_D),
            )
        )
    chosen = next(mix for mix in mixes if mix.how == method)
    best_losses = (-float(choosing_KN[0].mean()), -float(best_N.mean(dtype=np.float64)))
    return Ensemble(
        folder,
        members,
        members[0].name,
        best_losses,
        choosing_KN.shape[1],
        rest_KN.shape[1],
        mixes,
        chosen,
        _curves(members, chosen, rest_KN, offsets_D),
        _worths(view, members, chosen),
        missing,
        log_probs_KN,
        offsets_D,
    )


def _by_name(members: Sequence[Member], weight_K: np.ndarray) -> dict[str, float]:
    order = np.argsort(-weight_K, kind="stable")
    return {members[k].name: float(weight_K[k]) for k in order if weight_K[k] > 0}


def _curves(
    members: Sequence[Member], chosen: Mix, rest_KN: np.ndarray, offsets_D: np.ndarray
) -> list[tuple[str, MemberCurve]]:
    """Of the chosen members, and of the fresh runs of each recipe that has enough."""
    groups = {"the members chosen": [m.name in chosen.weights for m in members]}
    for member in members:
        if isinstance(member.trial.kind, FinalistRun):
            of = member.trial.kind.finalist
            groups[f"fresh seeds of {of}"] = [
                isinstance(m.trial.kind, FinalistRun)
                and m.trial.kind.finalist == of
                and m.epoch is None
                for m in members
            ]
    curves = []
    for whose, is_in in groups.items():
        names = [member.name for member, ours in zip(members, is_in, strict=True) if ours]
        curve = member_curve(names, rest_KN[np.array(is_in)], offsets_D)
        if curve is not None:
            curves.append((whose, curve))
    return curves


def _worths(view: View, members: Sequence[Member], chosen: Mix) -> tuple[Worth, Worth] | None:
    """In data. The ensemble's loss is the best single's on all of val, less what it gains.

    The baseline's losses are of all of val, and the level of a loss differs from one part to
    another by far more than a difference of two runs does.
    """
    if not view.baseline:
        return None
    best = members[0].trial
    used = [member.trial for member in members if member.name in chosen.weights]
    tokens = max(view.train_tokens(trial) for trial in [best, *used])
    runs = 1 / sum(weight**2 for weight in chosen.weights.values())  # as many alike would be
    loss = best.val_loss + chosen.against_best.mean
    single = worth_of_loss(view, best.name, best.val_loss, view.train_tokens(best), 1)
    return single, worth_of_loss(view, "ensemble", loss, tokens, runs)


def write_result(its: Ensemble) -> Path:
    """Write who is in the ensemble into its run folder, for what trains or serves it; the file.

    Weights are of probabilities: the mixture's log-probability of a token is that of the weighted
    mean of its members' (model/network/mixture.py).
    """
    path = its.folder / ENSEMBLE
    members = [
        {"trial": member.trial.name, "folder": f"{TRIALS}/{member.trial.name}", "weight": weight}
        for member, weight in its.trained()
    ]
    curves = [{"of": whose, "losses": curve.losses} for whose, curve in its.curves]
    result = {
        "average": "probabilities",
        "how": its.chosen.how,
        "members": members,
        "curves": curves,  # of any 1, 2, ... of them, for sweep laws
    }
    write_text(path, json.dumps(result, indent=2) + "\n")
    return path
