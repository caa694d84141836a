"""Run folders written line by line: no trainer, no study, any outcome that a test needs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from sweeps import make_space

from model.config import Value
from sweep.folder import JOURNAL, RESOLVED
from sweep.journal import Journal

MARKS = (2500, 5000, 7500, 10_000)


@dataclass(frozen=True)
class Ended:
    """A trial of a made-up sweep."""

    searched: Mapping[str, Value]
    loss: float
    ending: str = "finished"
    reason: str = ""


def write_run(
    folder: Path,
    text: str,
    trials: Sequence[Ended],
    baseline: Mapping[int, float] | None = None,
    noise: float = 0.01,
    ending: str = "trials spent",
) -> Path:
    """A folder with the journal and the space of these trials; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    space = make_space(folder, text)
    (folder / RESOLVED).write_text(yaml.safe_dump(space.resolved(), sort_keys=False))
    journal = Journal(folder / JOURNAL)
    journal.append(
        "sweep",
        id="0",
        name=space.name,
        trials=space.budget.trials,
        fixed=dict(space.fixed),
        train_tokens=space.train_tokens,
        data="digest",
        noise=noise,
    )
    if baseline:
        journal.append("baseline", source="measured", points=list(map(list, baseline.items())))
    for number, trial in enumerate(trials):
        _write(journal, f"{number:04d}", trial, space.fixed)
    journal.append("end", ending=ending, reason=ending)
    journal.close()
    return folder


def confirm(folder: Path, losses: Mapping[str, Sequence[float]]) -> None:
    """Confirm trials of the folder: the losses of their fresh seeds, as many of each."""
    journal = Journal(folder / JOURNAL)
    seeds = len(next(iter(losses.values())))
    asked = {"seeds": seeds, "until_separated": False, "allocation": "optimal"}
    journal.append("confirm", finalists=[*losses], **asked)
    for name, of_seeds in losses.items():
        for seed, loss in enumerate(of_seeds, 1):
            run, searched = f"{name}-s{seed}", {"finalist": name, "seed": seed}
            journal.append("trial", trial=run, role="confirm", searched=searched, settings={})
            last = {"step": 1, "val_loss": loss, "val_loss_error": 0.001, "seconds": 1.0}
            journal.append("observation", trial=run, basis_points=10_000, **last)
            journal.append("outcome", trial=run, outcome="complete", ending="finished", reason="")
    journal.close()


def _write(journal: Journal, name: str, trial: Ended, fixed: Mapping[str, Value]) -> None:
    settings = {**fixed, **trial.searched}
    journal.append(
        "trial",
        trial=name,
        role="search",
        searched=dict(trial.searched),
        settings=settings,
        flops=1e9 * float(settings.get("train.epochs", 1)),  # type: ignore[arg-type]
        devices=1.0,
    )
    finished = trial.ending == "finished"
    for mark in MARKS if finished else MARKS[:2]:
        left = 1 - mark / 10_000
        journal.append(
            "observation",
            trial=name,
            basis_points=mark,
            step=mark,
            epoch=mark / 10_000,
            tokens=mark,
            val_loss=trial.loss + left if math.isfinite(trial.loss) else math.nan,
            val_loss_error=0.001,
            bits_per_byte=1.0,
            seconds=mark / 1e4,
        )
    outcome = "complete" if finished else "failed" if trial.ending == "failed" else "pruned"
    journal.append("outcome", trial=name, outcome=outcome, ending=trial.ending, reason=trial.reason)
