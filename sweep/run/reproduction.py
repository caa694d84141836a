"""A trial trained once more, and its curve held against the one that the journal has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import DIGEST_OF, PATHS, Config, ConfigError, Value
from model.progress import Progress
from sweep.errors import SweepError
from sweep.folder import RESOLVED, TEACHERS
from sweep.format import finite_or_none
from sweep.records import OUTSIDE, Event, Role
from sweep.results.efficiency_report import noise_of
from sweep.results.ranking import ranking, repeats_of
from sweep.results.significance import SIGNIFICANCE, t_quantile
from sweep.run.agreement import Agreement, agreements, same_kind
from sweep.run.manifest import read_resolved
from sweep.run.single import SingleRun
from sweep.view import TrialView, View

FILES = (*DIGEST_OF, *PATHS)  # settings that say where something lies, which may have moved
COMPARED = (
    "step",
    "train_loss",
    "val_loss",
    "val_loss_error",
    "bits_per_byte",
    "raw_loss",
    "ema_loss",
    "weights_loss",
    "probabilities_loss",
    "diverged_step",
)


@dataclass(frozen=True)
class Prepared:
    """A trial ready to be trained again, and what is known beforehand."""

    view: View
    trial: TrialView
    config: Config
    threads: int  # of the CPU that it had; 0: not noted
    data: str  # digest of the tokens that are here
    agreements: list[Agreement]
    same_kind: bool  # whether its losses must be the same to the last bit
    on_gpu: bool  # whether it would train on one here

    @property
    def seconds(self) -> float:
        """That the whole of it took, a trunk's steps included."""
        last = self.trial.last or {}
        return float(last.get("seconds", 0.0) + last.get("trunk_seconds", 0.0))


@dataclass(frozen=True)
class Difference:
    """A number of one evaluation that is not what it was."""

    basis_points: int
    what: str
    then: float | None
    again: float | None


@dataclass(frozen=True)
class Reproduction:
    """What came of training it again."""

    reproduced: bool
    differences: list[Difference]
    apart: float | None  # of the last losses, again less then, nats per token; None: not finite
    reach: float | None  # how far seeds alone make two runs differ, in 95 of 100; None: not known
    text: str

    @property
    def exact(self) -> bool:
        return not self.differences


def prepare(folder: Path, view: View, trial: TrialView, files: Mapping[str, Value]) -> Prepared:
    """Everything that can be verified before training.

    files   where something lies that has moved, by setting
    Raises SweepError if the trial cannot be trained here.
    """
    _require_ours(folder, view, trial)
    from model.data.batches import open_table
    from model.training.machine import as_many_threads, machine

    settings = {**trial.settings, **_teacher_here(folder, trial.settings), **files}
    try:
        config = Config.from_settings(settings)
        data = open_table(config.data, verify=True).digest
        threads = threads_of(view, trial)
        with as_many_threads(threads):
            here = machine(config, ranks_of(trial))
    except ConfigError as error:
        raise SweepError(
            f"trial {trial.name} cannot be trained here",
            error.problems,
            hint="Where files have moved: --set data.path=THERE.",
        ) from None
    its = agreements(folder, view, trial, data, here)
    return Prepared(
        view, trial, config, threads, data, its, same_kind(its, here), "threads" not in here
    )


def threads_of(view: View, trial: TrialView) -> int:
    """CPU threads that it was trained with, those of all ranks; 0 where nobody noted it.

    Older journals do not say; Ray gives a worker as many threads as it has whole CPUs.
    """
    if trial.machine:
        return int(trial.machine.get("threads", 0)) * ranks_of(trial)
    on_ray = view.header.get("ray") and not view.header.get("gpus")
    return max(1, int(view.header.get("cpus", 1))) if on_ray else 0


def ranks_of(trial: TrialView) -> int:
    """Processes that shared its batches."""
    return int((trial.machine or {}).get("ranks", 1))


def train_again(prepared: Prepared, folder: Path) -> Iterator[tuple[Event | None, Progress]]:
    """Train it in `folder` as far as it came, each evaluation beside that of the journal, if any.

    Raises SweepError if it cannot be trained.
    """
    from model.training.machine import as_many_threads

    trial, config = prepared.trial, prepared.config
    then = {int(event["basis_points"]): event for event in trial.observations}
    ranks = ranks_of(trial)
    single = SingleRun(config, folder, trial.searched, prepared.data, None, "reproduce", gpus=ranks)
    try:
        with as_many_threads(prepared.threads):
            for progress in single.train():
                yield then.get(progress.basis_points), progress
                if progress.basis_points >= max(then) and not progress.done:
                    return  # as it was stopped there
    except ConfigError as error:
        raise SweepError(f"trial {trial.name} cannot be trained here", error.problems) from None


def verdict(
    prepared: Prepared,
    pairs: Sequence[tuple[Event | None, Progress]],
    noise: float | None = None,
) -> Reproduction:
    """What the evaluations come to.

    noise   standard deviation between seeds, nats per token; None: as the sweep measured it
    """
    its = [d for then, again in pairs if then is not None for d in differences(then, again)]
    trial, last = prepared.trial, pairs[-1][1]
    apart = finite_or_none(last.val_loss - trial.val_loss)
    reach = reach_of(prepared.view, trial, noise)
    diverged = bool(trial.last and trial.last.get("diverged_step")), last.diverged
    reached = {again.basis_points for _, again in pairs}
    if any(event["basis_points"] not in reached for event in trial.observations):
        text = "it ended before it came as far as it had: " + (
            f"diverged at step {last.diverged_step}" if last.diverged else "without a reason"
        )
        return Reproduction(False, its, apart, reach, text)
    if not its:
        return Reproduction(True, its, apart, reach, f"bit for bit: {_evaluations(pairs)}")
    if diverged[0] and diverged[1]:
        near, text = True, "it diverged again, if not at the same bits"
    elif apart is None or diverged[0] != diverged[1]:
        near, text = False, "one of the two diverged and the other did not"
    elif reach is None:
        near = False
        text = (
            f"{apart:+.2g} nats apart, and nobody has measured how far seeds alone make runs "
            "differ here: sweep confirm measures it, --noise states it"
        )
    else:
        near = abs(apart) <= reach
        text = f"{apart:+.2g} nats apart, {'within' if near else 'beyond'} the {reach:.2g} that "
        text += "seeds alone make two runs differ by, in 95 of 100"
    if prepared.same_kind:
        text = f"not bit for bit, though all that it depends on agrees: {text}"
        return Reproduction(False, its, apart, reach, text)
    return Reproduction(near, its, apart, reach, text)


def differences(then: Event, again: Progress) -> list[Difference]:
    """Numbers of an evaluation that differ in any bit; what an older journal lacks is left out."""
    its = []
    for name in COMPARED:
        before, after = finite_or_none(then.get(name)), finite_or_none(getattr(again, name))
        if name in then and before != after:
            its.append(Difference(again.basis_points, name, before, after))
    return its


def reach_of(view: View, trial: TrialView, noise: float | None = None) -> float | None:
    """How far two runs of one recipe differ by their seeds in 95 of 100, nats per token.

    Runs that differ in rounding alone are at most as far apart, once they are far from each other
    at all. None where nobody has measured it.
    """
    deviation, freedom = noise, 10**9
    if deviation is None:
        of_best = repeats_of(view, ranking(view)).floor
        if of_best is not None and trial.role is not Role.BASELINE:
            deviation, freedom = of_best.deviation, of_best.freedom
        else:
            its = noise_of(view)
            deviation, freedom = its.sd, its.freedom or freedom
    if deviation is None:
        return None
    return t_quantile(1 - SIGNIFICANCE / 2, freedom) * math.sqrt(2) * deviation


def as_data(prepared: Prepared, outcome: Reproduction | None) -> dict[str, Any]:
    """For --json; `outcome` is None where nothing was trained."""
    checked: dict[str, Any] = {
        "trial": prepared.trial.name,
        "agreements": [each.to_dict() for each in prepared.agreements],
        "expected": "bits" if prepared.same_kind else "noise",
    }
    if outcome is None:
        return {**checked, "reproduced": None, "exact": None, "apart": None, "reach": None}
    return {
        **checked,
        "reproduced": outcome.reproduced,
        "exact": outcome.exact,
        "apart": outcome.apart,
        "reach": outcome.reach,
        "verdict": outcome.text,
        "differences": [vars(each) for each in outcome.differences],
    }


def _require_ours(folder: Path, view: View, trial: TrialView) -> None:
    """Raise SweepError if there is nothing that our trainer could do again."""
    resolved = read_resolved(folder / RESOLVED) if (folder / RESOLVED).exists() else {}
    if resolved.get("trainer") == OUTSIDE:
        raise SweepError(
            f"a loop outside trained what {folder} has: there is nothing to train again here",
            hint=f"Its settings: sweep best {folder} {trial.name} --json",
        )
    if not trial.observations:
        ended = f"{trial.outcome} ({trial.reason})" if trial.outcome else "not evaluated yet"
        raise SweepError(
            f"trial {trial.name} has no evaluation to compare with: it is {ended}",
            hint="`sweep status` shows which have.",
        )


def _teacher_here(folder: Path, settings: Mapping[str, Value]) -> dict[str, Value]:
    """Its teacher in the run folder, where that has moved with it."""
    path = Path(str(settings.get("train.teacher") or "."))
    its = folder / TEACHERS / path.name
    moved = path.name and not path.exists() and its.exists()
    return {"train.teacher": str(its.absolute())} if moved else {}


def _evaluations(pairs: Sequence[tuple[Event | None, Progress]]) -> str:
    count = sum(then is not None for then, _ in pairs)
    return f"{count} evaluation{'s' * (count > 1)}, the last {pairs[-1][1].val_loss:.4f}"
