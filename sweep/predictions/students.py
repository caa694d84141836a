"""What networks that learned from an ensemble keep of its gain, each alone and together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sweep.errors import SweepError
from sweep.format import table
from sweep.models import of_trial
from sweep.predictions import mixture
from sweep.predictions.difference import Difference, by_tokens
from sweep.predictions.ensemble import Ensemble
from sweep.predictions.predicted import predicted, shared_table
from sweep.records import FinalistRun, Outcome
from sweep.results.efficiency_report import Worth, worth_of_loss
from sweep.view import TrialView, View

TOGETHER = "together"  # all links of a chain, alike weighted


@dataclass(frozen=True)
class Taught:
    """A network on the tokens that the ensemble is reported on."""

    name: str
    loss: float  # nats per token
    against_best: Difference  # of its loss less that of the best single
    kept: float  # of the ensemble's gain over the best single; not a number where that is none
    worth: Worth | None  # in data; None: no baseline


def taught(view: View, its: Ensemble, names: Sequence[str]) -> list[Taught]:
    """The students called `names`, and all of them together where there are several.

    Beside each the same recipe and seed without a teacher, where that was trained too. Links of a
    chain that were never begun are left out. Raises SweepError if no student ended complete.
    """
    best = next(member.trial for member in its.members if member.name == its.best)
    sources = [of_trial(its.folder, best)]
    names = [n for n in names if n in view.trials and view.trials[n].outcome is Outcome.COMPLETE]
    if not names:
        raise SweepError(f"no student in {its.folder} ended complete", code=1)
    for name in names:
        sources.append(of_trial(its.folder, view.trials[name]))
        if (untaught := _untaught(view, view.trials[name])) is not None:
            sources.append(of_trial(its.folder, untaught))
    tokens = shared_table(sources)
    rows: dict[str, np.ndarray] = {}
    for source in sources:
        log_probs_N = predicted(source, tokens).log_probs_N
        if log_probs_N is None:
            raise SweepError(f"the predictions of {source.name} are gone, and so is its network")
        rows[source.name] = log_probs_N[: its.tokens]
    best_N = rows.pop(its.best)
    if len(names) > 1:
        each_KN = np.stack([rows[name] for name in names])
        rows[TOGETHER] = mixture.mixed(each_KN, mixture.uniform(each_KN))
    return [_taught(view, its, best, name, best_N, own_N) for name, own_N in rows.items()]


def _untaught(view: View, student: TrialView) -> TrialView | None:
    """The fresh run of the student's recipe and seed that had no teacher, if it is complete."""
    run = student.kind
    if not isinstance(run, FinalistRun):
        return None
    of = run.finalist.rpartition("-d")[0]
    trial = view.trials.get(f"{of}-s{run.seed}")
    return trial if trial is not None and trial.outcome is Outcome.COMPLETE else None


def _taught(
    view: View, its: Ensemble, best: TrialView, name: str, best_N: np.ndarray, own_N: np.ndarray
) -> Taught:
    against_best = by_tokens(best_N - own_N, its.rest_offsets_D)
    whole = -its.chosen.against_best.mean
    worth = None
    if view.baseline:
        loss = best.val_loss + against_best.mean
        worth = worth_of_loss(view, name, loss, view.train_tokens(best), 1)
    return Taught(
        name,
        -float(own_N.mean(dtype=np.float64)),
        against_best,
        -against_best.mean / whole if whole > 0 else float("nan"),
        worth,
    )


def taught_text(its: Ensemble, students: Sequence[Taught]) -> str:
    """Each beside the best single and the ensemble."""
    rows = [["", "val loss", f"less {its.best}", "± s.e.", "95 %", "keeps", "data, by lines"]]
    single, together = its.worth or (None, None)
    rows.append([its.best, f"{its.best_losses[1]:.4f}", "-", "-", "-", "-", _data(single)])
    rows.append(_row("ensemble", its.chosen.loss, its.chosen.against_best, 1.0, together))
    rows += [_row(s.name, s.loss, s.against_best, s.kept, s.worth) for s in students]
    return (
        f"Distilled, on the {its.tokens:,} tokens that the ensemble is reported on:\n"
        f"{table(rows)}\n"
        "keeps: how much of what the ensemble gains over the best single. That one is the lowest "
        "of many, which flatters it:\nthe same recipe and seed without a teacher tells what "
        "teaching brings (sweep ensemble --train 1)."
    )


def taught_data(students: Sequence[Taught]) -> list[dict[str, Any]]:
    """The same as plain data, for --json."""
    return [asdict(student) for student in students]


def _row(
    name: str, loss: float, against_best: Difference, kept: float, worth: Worth | None
) -> list[str]:
    interval = against_best.interval
    return [
        name,
        f"{loss:.4f}",
        f"{against_best.mean:+.4f}",
        f"{interval.error:.4f}",
        f"{interval.low:+.4f} to {interval.high:+.4f}",
        f"{kept:.0%}" if math.isfinite(kept) else "-",
        _data(worth),
    ]


def _data(worth: Worth | None) -> str:
    return str(worth.lines) if worth else "-"
