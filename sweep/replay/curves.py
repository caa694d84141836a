"""Recorded curves: what runs reported at fractions of their schedules, and what they cost.

They come from a bank (a Parquet file, one row a run) or from the journal of a run folder. Searches
are replayed on them (`sweep replay`), and rules for pruning are judged by them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.config import ConfigError, Value, trial_flops
from model.progress import WHOLE
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.records import Event, Outcome
from sweep.view import TrialView

if TYPE_CHECKING:
    import pyarrow as pa

ABOUT = b"about"  # key of the Parquet metadata that says what all runs share
LISTS = ("marks", "raw", "ema", "train")
COSTS = ("seconds", "flops")


@dataclass(frozen=True)
class Curve:
    """One recorded run. A column of a bank with a dot in its name is a setting."""

    settings: Mapping[str, Value]  # what tells the run from the others, by dotted names
    marks: tuple[int, ...]  # basis points of its own schedule, rising
    raw: tuple[float, ...]  # validation loss of the last weights, nats per token; inf if diverged
    ema: tuple[float, ...]  # that of the weights' EMA; nan where there is none
    train: tuple[float, ...]  # mean train loss since the mark before
    seconds: float  # of training, for the whole schedule even if it was not run to its end
    flops: float  # of training, for the whole schedule
    complete: bool = True  # False: known up to its last mark only, as of a pruned trial

    @property
    def final(self) -> float:
        """The last known loss of the last weights; the final one if the curve is complete."""
        return self.raw[-1]

    @property
    def diverged(self) -> bool:
        """Whether the run ended because it had exploded; `complete` says if at its very end."""
        return math.isinf(self.raw[-1])


def read_curves(path: Path) -> list[Curve]:
    """The curves in a bank's Parquet file, or in a run folder, finished or not.

    Of a run folder: search trials that were observed at least once and did not fail. Raises
    SweepError if `path` is neither, or holds no curve.
    """
    if path.is_dir():
        curves = _from_journal(path / JOURNAL)
    elif path.is_file():
        curves = _from_table(path, _read_table(path))
    else:
        raise SweepError(
            f"no such file or folder: {path}",
            hint="Give a bank's Parquet file or a folder that `sweep run` wrote.",
        )
    if not curves:
        raise SweepError(f"{path} holds no curve: no trial was evaluated yet")
    return curves


def read_about(path: Path) -> dict[str, Any]:
    """What all runs of a bank share: corpus, its digest, settings. Raises SweepError."""
    shared = (_read_table(path).schema.metadata or {}).get(ABOUT)
    if shared is None:
        raise SweepError(f"{path} does not say what its runs share; it is no bank")
    data: dict[str, Any] = json.loads(shared)
    return data


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise SweepError(f"{path} is no readable Parquet file: {error}") from error


def _from_table(path: Path, table: pa.Table) -> list[Curve]:
    lacking = [name for name in (*LISTS, *COSTS) if name not in table.column_names]
    if lacking:
        raise SweepError(
            f"{path} is no bank of curves",
            [f"{name}: no such column" for name in lacking],
            hint="benchmarks/bank.py writes one; sweep/replay/curves.py names its columns.",
        )
    curves, problems = [], []
    for number, row in enumerate(table.to_pylist()):
        wrong = _problem(row)
        if wrong:
            problems.append(f"row {number}: {wrong}")
            continue
        settings = {name: v for name, v in row.items() if "." in name and v is not None}
        marks, raw, ema, train = (tuple(row[name]) for name in LISTS)
        whole = marks[-1] == WHOLE
        curves.append(Curve(settings, marks, raw, ema, train, row["seconds"], row["flops"], whole))
    if problems:
        raise SweepError(f"{path} is no bank of curves", problems)
    return curves


def _problem(row: Mapping[str, Any]) -> str:
    """Why a row is no curve; empty if it is one."""
    empty = [name for name in (*LISTS, *COSTS) if row[name] is None]
    if empty:
        return f"no value in {', '.join(empty)}"
    lengths = {name: len(row[name]) for name in LISTS}
    if len(set(lengths.values())) > 1 or not row["marks"]:
        return "expected as many losses as marks, got " + ", ".join(
            f"{length} in {name}" for name, length in lengths.items()
        )
    if any(not before < after for before, after in pairwise((0, *row["marks"], WHOLE + 1))):
        return f"marks must rise from above 0 to at most {WHOLE}, got {row['marks']}"
    return ""


def _from_journal(path: Path) -> list[Curve]:
    if not path.is_file():
        raise SweepError(
            f"{path.parent} is no run folder: it has no {path.name}",
            hint="Give a bank's Parquet file or a folder that `sweep run` wrote.",
        )
    trials = [t for t in read_view(path).searches() if t.observations]
    trials = [t for t in trials if t.outcome is not Outcome.FAILED]
    # What was not searched can differ too: seeds, or a setting changed between two drivers.
    differing = {
        name: None
        for trial in trials
        for name, value in trial.settings.items()
        if any(other.settings.get(name) != value for other in trials)
    }
    return [_from_trial(path, trial, list(differing)) for trial in trials]


def _from_trial(path: Path, trial: TrialView, differing: Sequence[str]) -> Curve:
    try:
        flops = trial_flops(trial.settings)
    except ConfigError as error:
        raise SweepError(
            f"{path}: trial {trial.name} has settings that this version cannot train",
            error.problems,
            hint="Read it with the version that wrote it; environment.json beside it names that.",
        ) from error
    seen = sorted(trial.observations, key=lambda event: event["basis_points"])
    marks = tuple(int(event["basis_points"]) for event in seen)
    other = {name: trial.settings[name] for name in differing if name in trial.settings}
    return Curve(
        settings={**trial.searched, **other},
        marks=marks,
        raw=tuple(_raw(event) for event in seen),
        ema=tuple(_number(event.get("ema_loss")) for event in seen),
        train=tuple(_number(event.get("train_loss")) for event in seen),
        # Of the whole schedule, so with those of a trunk that another trial trained.
        seconds=(seen[-1]["seconds"] + seen[-1].get("trunk_seconds", 0.0)) * WHOLE / marks[-1],
        flops=flops,
        complete=marks[-1] == WHOLE,
    )


def _raw(event: Event) -> float:
    """The loss of the last weights; inf once the run has diverged, whatever loss it reported."""
    loss = _number(event.get("raw_loss", event["val_loss"]))
    return math.inf if event.get("diverged_step") is not None or math.isnan(loss) else loss


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
