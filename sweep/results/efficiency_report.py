"""The data efficiency of a sweep: of each trial, over its cost, over unique tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from sweep.errors import SweepError
from sweep.format import table
from sweep.noise import pooled_deviation
from sweep.records import Outcome
from sweep.results.bootstrap import (
    ASSUMED_SD,
    Baseline,
    Estimate,
    Noise,
    by_law,
    by_lines,
    draw,
    widened,
)
from sweep.results.data_law import DataLaw, misfit
from sweep.results.efficiency import Multiplier, multiplier
from sweep.results.ranking import ranking
from sweep.view import TrialView, View

SHOWN = 12  # trials in the table; --json has all
FAR = 3.0  # standard deviations between seeds that a law may be off


@dataclass(frozen=True)
class Worth:
    """What one recipe, run once or with several seeds, is worth."""

    name: str  # its first trial
    tokens: int  # unique tokens it trained on
    val_loss: float  # nats per token, the mean of its runs
    runs: int
    lines: Estimate  # its interval holds the law's as well
    law: Estimate | None  # None where the baseline has too few points for a law


@dataclass(frozen=True, eq=False)
class Figures:
    """Everything that `sweep efficiency` prints and draws."""

    name: str
    baseline: Baseline
    source: str
    noise: Noise
    trials: list[Worth]  # complete ones, lowest loss first
    recipes: list[Worth]  # the best recipe at each budget, by unique tokens
    # multiplier by epoch, of every trial; a point outside the baseline has its side
    epochs: dict[str, list[tuple[float, Multiplier]]]
    hours: dict[str, float]  # training of each trial
    spent: list[tuple[float, Worth]]  # hours of all search trials so far -> best one then
    hour: str  # what those hours are of
    total_hours: float
    points: dict[str, tuple[int, float]] = field(default_factory=dict)  # trial: (tokens, loss)


def figures_of(view: View) -> Figures:
    """The data efficiency of the sweep in `view`. Raises SweepError if it has no baseline."""
    if not view.baseline:
        raise SweepError(
            f"{view.header['name']} has no baseline to measure against",
            hint="Give its space one: `baseline: {multiples: [1, 2, 4, 8]}` measures it, "
            "`baseline: {table: {...}}` tells it. It may also still be running: sweep status",
            code=1,
        )
    noise = noise_of(view)
    baseline = draw(view.baseline_runs, noise)
    worth = {trial.name: _worth([trial], view, baseline) for trial in view.ranked()}
    best: dict[int, Worth] = {}  # by unique tokens
    for recipe in ranking(view):  # lowest loss first
        of_recipe = _worth(recipe.trials, view, baseline)
        best.setdefault(of_recipe.tokens, of_recipe)
    devices, hour = devices_of(view)
    spent = list(_spent(view, worth, devices))
    return Figures(
        name=view.header["name"],
        baseline=baseline,
        source=view.baseline_source,
        noise=noise,
        trials=list(worth.values()),
        recipes=[best[tokens] for tokens in sorted(best)],
        epochs={t.name: _by_epoch(t, view) for t in view.searches()},
        hours={t.name: _hours(t) * devices for t in view.searches()},
        spent=spent,
        hour=hour,
        total_hours=sum(_hours(t) for t in view.searches()) * devices,
        points={t.name: (view.train_tokens(t), t.val_loss) for t in view.ranked()},
    )


def noise_of(view: View) -> Noise:
    """The noise between seeds: stated by the space, else measured by repeats, else assumed."""
    stated = view.header.get("noise", 0.0)  # journals of earlier versions lack it
    if stated:
        return Noise(stated, source="told by baseline.noise")
    cells: dict[tuple[float, float], list[float]] = {}
    if view.baseline_source == "measured":  # several cells of a table are sizes, not repeats
        for run in view.baseline_runs:
            cells.setdefault((run.tokens, run.size), []).append(run.loss)
    searched = ([trial.val_loss for trial in recipe.trials] for recipe in ranking(view))
    deviation, freedom = pooled_deviation([*cells.values(), *searched])
    if freedom:
        return Noise(deviation, freedom, "measured")
    return Noise(ASSUMED_SD, source="assumed: nothing was repeated")


def devices_of(view: View) -> tuple[float, str]:
    """Devices of a trial, and what an hour of them is called."""
    gpus, cpus = view.header.get("gpus", -1.0), view.header.get("cpus", 1.0)
    if gpus > 0:
        return gpus, "GPU-hours"
    return (cpus, "core-hours") if gpus == 0 else (1.0, "device-hours")


def _worth(runs: Sequence[TrialView], view: View, baseline: Baseline) -> Worth:
    loss, tokens = fmean(run.val_loss for run in runs), view.train_tokens(runs[0])
    law = by_law(loss, baseline, tokens, len(runs))
    lines = widened(by_lines(loss, baseline, tokens, len(runs)), law)
    return Worth(runs[0].name, tokens, loss, len(runs), lines, law)


def _by_epoch(trial: TrialView, view: View) -> list[tuple[float, Multiplier]]:
    assert view.baseline
    tokens = view.train_tokens(trial)
    losses = [(event["epoch"], float(event["val_loss"])) for event in trial.observations]
    return [(epoch, multiplier(loss, view.baseline, tokens)) for epoch, loss in losses]


def _hours(trial: TrialView) -> float:
    return trial.last["seconds"] / 3600 if trial.last else 0.0


def _spent(view: View, worth: dict[str, Worth], devices: float) -> Iterator[tuple[float, Worth]]:
    """Each trial that raised the best multiplier, with the hours of training until it ended."""
    events: list[tuple[int, float, TrialView | None]] = []
    for trial in view.searches():
        before = 0.0
        for event in trial.observations:
            events.append((event["time"], event["seconds"] - before, None))
            before = event["seconds"]
        if trial.outcome is Outcome.COMPLETE and trial.ended is not None:
            events.append((trial.ended, 0.0, trial))
    seconds, best = 0.0, -math.inf
    for _, more, ended in sorted(events, key=lambda e: e[0]):
        seconds += more
        if ended is not None and worth[ended.name].lines.point.value > best:
            best = worth[ended.name].lines.point.value
            yield seconds / 3600 * devices, worth[ended.name]


def efficiency_text(figures: Figures) -> str:
    """The table that `sweep efficiency` prints, and what to make of it."""
    points = ", ".join(f"{int(tokens):,}: {loss:.4f}" for tokens, loss in figures.baseline.curve)
    law = figures.baseline.law
    law_text = f"{law}, {_fit(law, figures)}" if law else ""
    parts = [
        f"Plain baseline ({figures.source}), val loss by unique tokens: {points}\n"
        f"Its law: {law_text or 'needs at least three token counts, falling'}\n"
        f"Noise: {figures.noise}"
    ]
    if figures.trials:
        parts.append(table(_rows(figures.trials[:SHOWN], figures)))
    else:
        parts.append("No trial is complete yet.")
    if len(figures.recipes) > 1:
        parts.append("The best recipe at each budget:\n" + table(_rows(figures.recipes, None)))
    parts.append(
        f"{_between(figures.baseline)}\n"
        "How many times its unique tokens the plain baseline needs for the same loss, 95 % "
        "intervals\nof baseline noise and trial noise together; <a x and >b x lie outside what "
        "was measured.\nThe best of many trials flatters itself: intervals do not cover choosing "
        "it.\n"
        f"{figures.total_hours:.3g} {figures.hour} of training, the baseline not counted."
    )
    return "\n\n".join(parts)


def _between(baseline: Baseline) -> str:
    """What straight lines do to a curve, and what was done about it."""
    told = "Lines between measured points lie above the curve, so that they read too much"
    if baseline.law is None:
        return f"{told}: by how much,\na law would tell, which needs a third token count."
    return f"{told}: their\ninterval is widened to hold what the law reads."


def _fit(law: DataLaw, figures: Figures) -> str:
    """How well the law fits; intervals know noise, not a law that is the wrong one."""
    off = misfit(law, figures.baseline.curve)
    wrong = off > FAR * figures.noise.sd
    worse = "; the points do not follow it, trust the lines" if wrong else ""
    return f"at most {off:.4f} nats off{worse}"


def _rows(shown: list[Worth], figures: Figures | None) -> list[list[str]]:
    """A table of `shown`; with the hours of each trial where `figures` has them."""
    rows = [["trial", "unique tokens", "runs", "val loss", "by lines", "by law"]]
    rows[0] += [figures.hour] if figures else []
    for worth in shown:
        cells = [worth.name, f"{worth.tokens:,}", str(worth.runs), f"{worth.val_loss:.4f}"]
        cells += [str(worth.lines), str(worth.law or "-")]
        rows.append(cells + ([f"{figures.hours[worth.name]:.3g}"] if figures else []))
    return rows


def efficiency_data(figures: Figures) -> dict[str, Any]:
    """Everything as plain data, for --json. Losses in nats per token."""
    hours_key = figures.hour.replace("-", "_")
    return {
        "name": figures.name,
        "baseline": {
            "source": figures.source,
            "points": [list(point) for point in figures.baseline.curve],
            "law": asdict(figures.baseline.law) if figures.baseline.law else None,
        },
        "noise": asdict(figures.noise),
        "trials": [
            {**asdict(worth), hours_key: figures.hours[worth.name]} for worth in figures.trials
        ],
        "by_unique_tokens": [asdict(worth) for worth in figures.recipes],
        "by_epoch": {
            name: [[epoch, worth.value, worth.side] for epoch, worth in curve]
            for name, curve in figures.epochs.items()
        },
        f"by_{hours_key}": [
            [hours, worth.name, worth.lines.point.value] for hours, worth in figures.spent
        ],
    }
