"""The data efficiency of a sweep: of each trial, over its cost, over unique tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from sweep.errors import SweepError
from sweep.format import table
from sweep.noise import pooled_deviation
from sweep.records import Outcome
from sweep.results.bootstrap import (
    Baseline,
    Estimate,
    Noise,
    by_law,
    by_lines,
    draw,
    widened,
)
from sweep.results.confirmation import losses_of
from sweep.results.confirmation_report import confirmed
from sweep.results.efficiency import BaselineCurve, Multiplier, falling, read_off
from sweep.results.power_law import PowerLaw, misfit
from sweep.results.ranking import ranking
from sweep.results.significance import BySeed
from sweep.view import TrialView, View

SHOWN = 12  # trials in the table; --json has all
SMALLEST_FLOOR = 0.0005  # nats per token: less is printed as 0.000
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
    searched_loss: float | None = None  # the search's own, where the runs are a confirmation's

    @property
    def confirmed(self) -> bool:
        """Whether its loss is the mean of fresh seeds, which did not choose it."""
        return self.searched_loss is not None


@dataclass(frozen=True, eq=False)
class Figures:
    """Everything that `sweep efficiency` prints and draws."""

    view: View
    name: str
    baseline: Baseline
    source: str
    noise: Noise
    trials: list[Worth]  # complete ones: confirmed ones, best first, then by the search's loss
    recipes: list[Worth]  # the best recipe at each budget, by unique tokens
    hours: dict[str, float]  # training of each trial
    # hours of all search trials so far -> best one then, by the search's own losses
    spent: list[tuple[float, Worth]]
    hour: str  # what those hours are of
    total_hours: float
    points: dict[str, tuple[int, float]] = field(default_factory=dict)  # trial: (tokens, loss)

    @cached_property
    def epochs(self) -> dict[str, list[tuple[float, Multiplier]]]:
        """Multiplier by epoch, of every trial; a point outside the baseline has its side."""
        points = falling(self.view.baseline or [])
        return {trial.name: _by_epoch(trial, self.view, points) for trial in self.view.searches()}


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
    searched = {trial.name: _worth([trial], view, baseline) for trial in view.ranked()}
    fresh = _confirmed_worth(view)
    best: dict[int, Worth] = {}  # by unique tokens
    recipes = [
        searched[recipe.name] if len(recipe.trials) == 1 else _worth(recipe.trials, view, baseline)
        for recipe in ranking(view)
    ]
    for of_recipe in [*fresh.values(), *recipes]:  # what did not flatter itself, then lowest first
        best.setdefault(of_recipe.tokens, of_recipe)
    devices, hour = devices_of(view)
    spent = list(_spent(view, searched, devices))
    return Figures(
        view=view,
        name=view.header["name"],
        baseline=baseline,
        source=view.baseline_source,
        noise=noise,
        trials=list((fresh | {n: w for n, w in searched.items() if n not in fresh}).values()),
        recipes=[best[tokens] for tokens in sorted(best)],
        hours={t.name: _hours(t) * devices for t in view.searches()},
        spent=spent,
        hour=hour,
        total_hours=sum(_hours(t) for t in view.searches()) * devices,
        points={t.name: (view.train_tokens(t), t.val_loss) for t in view.ranked()},
    )


def noise_of(view: View) -> Noise:
    """The noise between seeds: stated by the space, else measured by repeats, else not known.

    It is never assumed: noise measured elsewhere was eight times too small on a small corpus, and
    an interval of it is one that nobody measured. Confirming runs tell it where nothing else was
    repeated; they are of good recipes alone, which differ less than baseline runs do.
    """
    stated = view.header.get("noise", 0.0)  # journals of earlier versions lack it
    if stated:
        return Noise(stated, source="stated by baseline.noise")
    cells: dict[tuple[float, float], list[float]] = {}
    if view.baseline_source == "measured":  # several cells of a table are sizes, not repeats
        for run in view.baseline_runs:
            cells.setdefault((run.tokens, run.size), []).append(run.loss)
    return _measured([*cells.values(), *_searched_losses(view)]) or _noise_of_trials(view)


def _noise_of_trials(view: View) -> Noise:
    """The noise between seeds of searched recipes, fresh seeds of finalists among them."""
    fresh = (list(losses.values()) for losses in losses_of(view).values())
    return _measured([*_searched_losses(view), *fresh]) or Noise(None, source="not measured")


def _searched_losses(view: View) -> list[list[float]]:
    return [[trial.val_loss for trial in recipe.trials] for recipe in ranking(view)]


def _measured(groups: list[list[float]]) -> Noise | None:
    deviation, freedom = pooled_deviation(groups)
    return Noise(deviation, freedom, "measured") if freedom else None


def _confirmed_worth(view: View) -> dict[str, Worth]:
    """Finalists by the mean loss of their fresh seeds, best first; empty without a confirmation.

    The noise of these means is that of fresh seeds, not the baseline's: its short plain runs may
    differ more from seed to seed than long decayed ones.
    """
    now = confirmed(view)
    if now is None or not view.baseline:
        return {}
    noise, of_trials = noise_of(view), _noise_of_trials(view)
    use = noise if noise.freedom == 0 or of_trials.sd is None else of_trials
    baseline = draw(view.baseline_runs, noise, of_trials=use)
    names = [name for name in now.order if now.losses[name] and name not in now.diverged]
    return {name: _of_seeds(view, name, now.losses[name], baseline) for name in names}


def _of_seeds(view: View, name: str, losses: BySeed, baseline: Baseline) -> Worth:
    trial, loss = view.trials[name], fmean(losses.values())
    tokens, runs = view.train_tokens(trial), len(losses)
    law = by_law(loss, baseline, tokens, runs)
    lines = widened(by_lines(loss, baseline, tokens, runs), law)
    return Worth(name, tokens, loss, runs, lines, law, searched_loss=trial.val_loss)


def worth_of_winner(view: View) -> Worth | None:
    """What the confirmed best is worth in data, with its interval; None where none is confirmed."""
    return next(iter(_confirmed_worth(view).values()), None)


def worth_of_loss(view: View, name: str, loss: float, tokens: int, runs: float) -> Worth:
    """What a loss on all of val is worth, whatever reached it.

    runs   that it is the mean of, or the mixture, so that noise between seeds counts for less
    """
    baseline = draw(view.baseline_runs, noise_of(view))
    law = by_law(loss, baseline, tokens, runs)
    lines = widened(by_lines(loss, baseline, tokens, runs), law)
    return Worth(name, tokens, loss, round(runs), lines, law)


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


def _by_epoch(
    trial: TrialView, view: View, points: BaselineCurve
) -> list[tuple[float, Multiplier]]:
    tokens = view.train_tokens(trial)
    losses = [(event["epoch"], float(event["val_loss"])) for event in trial.observations]
    return [(epoch, read_off(loss, points, tokens)) for epoch, loss in losses]


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
        "How many times its unique tokens the plain baseline needs for the same loss"
        f"{_intervals(figures.baseline)}; <a x and >b x lie outside what was measured.\n"
        f"{_chosen(figures)}\n"
        f"{figures.total_hours:.3g} {figures.hour} of training, the baseline not counted."
    )
    return "\n\n".join(parts)


def _between(baseline: Baseline) -> str:
    """What straight lines do to a curve, and what was done about it."""
    lines = "Lines between measured points lie above the curve, so that they read too much"
    if baseline.law is None:
        return f"{lines}: by how much,\na law would tell, which needs a third token count."
    if not baseline.noise_known:
        return f"{lines}: what\nthe law reads is less of that."
    return f"{lines}: their\ninterval is widened to hold what the law reads."


def _intervals(baseline: Baseline) -> str:
    if not baseline.noise_known:
        return ""
    return ", 95 % intervals\nof baseline noise and trial noise together"


def _chosen(figures: Figures) -> str:
    """What choosing does to these numbers, and to which of them."""
    if not any(worth.confirmed for worth in figures.trials):
        return "The best of many trials flatters itself: intervals do not cover choosing it."
    return (
        "Trials with fresh seeds have the mean loss of these, which had no part in choosing them; "
        "the\nothers have the search's own, and the lowest of many losses flatters itself."
    )


def _fit(law: PowerLaw, figures: Figures) -> str:
    """How well the law fits; intervals know noise, not a law that is the wrong one."""
    off = misfit(law, figures.baseline.curve)
    wrong = figures.noise.sd is not None and off > FAR * figures.noise.sd
    worse = "; the points do not follow it, trust the lines" if wrong else ""
    ends = ""
    if law.floor < SMALLEST_FLOOR:
        ends = "; its floor of 0 means only that these points do not show where losses end"
    return f"at most {off:.4f} nats off{worse}{ends}"


def _rows(shown: list[Worth], figures: Figures | None) -> list[list[str]]:
    """A table of `shown`; with the hours of each trial where `figures` has them."""
    rows = [["trial", "unique tokens", "runs", "val loss", "by lines", "by law"]]
    rows[0] += [figures.hour] if figures else []
    for worth in shown:
        runs = f"{worth.runs} fresh" if worth.confirmed else str(worth.runs)
        cells = [worth.name, f"{worth.tokens:,}", runs, f"{worth.val_loss:.4f}"]
        cells += [str(worth.lines), str(worth.law or "-")]
        rows.append(cells + ([f"{figures.hours[worth.name]:.3g}"] if figures else []))
    return rows


def _worth_data(worth: Worth) -> dict[str, Any]:
    return {**asdict(worth), "confirmed": worth.confirmed}


def efficiency_data(figures: Figures) -> dict[str, Any]:
    """Everything as plain data, for --json. Losses in nats per token."""
    return {
        "name": figures.name,
        "hours_of": figures.hour,
        "baseline": {
            "source": figures.source,
            "points": [list(point) for point in figures.baseline.curve],
            "law": asdict(figures.baseline.law) if figures.baseline.law else None,
        },
        "noise": asdict(figures.noise),
        "trials": [
            {**_worth_data(worth), "device_hours": figures.hours[worth.name]}
            for worth in figures.trials
        ],
        "by_unique_tokens": [_worth_data(worth) for worth in figures.recipes],
        "by_epoch": {
            name: [[epoch, worth.value, worth.side] for epoch, worth in curve]
            for name, curve in figures.epochs.items()
        },
        "by_device_hours": [
            [hours, worth.name, worth.lines.point.value] for hours, worth in figures.spent
        ],
    }
