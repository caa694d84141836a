"""The best recipes of one or several runs as points for laws, and the laws through them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from statistics import fmean

from model.config import SETTINGS, ConfigError, Value, trial_cost
from sweep.errors import SweepError
from sweep.folder import ENSEMBLE
from sweep.noise import pooled_deviation
from sweep.records import SEEDS, Event, Proposal
from sweep.results.bootstrap import Noise
from sweep.results.efficiency import best_of_sizes
from sweep.results.efficiency_report import noise_of
from sweep.results.laws import (
    MEMBERS,
    PARAMETERS,
    TOKENS,
    Law,
    Measured,
    law_over,
    law_over_epochs,
)
from sweep.results.ranking import ranking
from sweep.view import TrialView, View


@dataclass(frozen=True)
class Candidate:
    """A recipe of one of the runs, and where it stands on each axis."""

    measured: Measured
    parameters: int
    tokens: int
    epochs: float
    losses: tuple[float, ...]  # of its runs, which differ in their seeds


@dataclass(frozen=True)
class LawsOfRuns:
    """Every law that the points suffice for, and why the others are not there."""

    names: tuple[str, ...]
    laws: tuple[Law, ...]
    refused: tuple[str, ...]  # a line each


def laws_of(
    views: Mapping[str, View],
    where: Mapping[str, Value] | None = None,
    members: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> LawsOfRuns:
    """The laws of these runs together, which need the same validation tokens.

    views     by name
    where     settings that a trial must have to count
    members   (members, nats per token) of ensembles, by name
    Raises SweepError if runs cannot be compared, or if no law has points enough.
    """
    _same_tokens(views)
    candidates = _candidates(views, where or {})
    if where and not candidates:
        wanted = ", ".join(f"{name}={value}" for name, value in where.items())
        raise SweepError(f"no complete trial has {wanted}", code=1)
    noise = _noise(views, candidates)
    fits = [
        *_over_parameters(candidates, noise),
        law_over(TOKENS, "", _best(candidates, lambda c: c.tokens), noise),
        *_over_baselines(views, noise),
        law_over_epochs(_cells(candidates), noise),
    ]
    for name, curve in (members or {}).items():
        points = [Measured(x, loss, f"any {x:g}") for x, loss in sorted(curve)]
        fits.append(law_over(MEMBERS, name, points, Noise(None)))  # all are of the same members
    if not members:
        fits.append(f"{MEMBERS}: needs what sweep ensemble writes, and 4 members")
    refused = tuple(fit for fit in fits if isinstance(fit, str))
    laws = tuple(fit for fit in fits if isinstance(fit, Law))
    if not laws:
        raise SweepError(
            f"{' and '.join(views)}: no law, the points do not suffice",
            refused,
            hint="A grid over gpt.scale, data.train_tokens or train.epochs has the best recipe at "
            "each value; search_spaces/scale.yaml is one.",
        )
    return LawsOfRuns(tuple(views), laws, refused)


def members_of(name: str, folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Losses of 1, 2, ... members, as `sweep ensemble` left them in a run folder; by whose.

    Raises SweepError if the file is damaged.
    """
    path = folder / ENSEMBLE
    if not path.exists():
        return {}
    try:
        curves = json.loads(path.read_text()).get("curves", [])  # the first versions had none
        return {
            f"{name}, {curve['of']}": list(enumerate(map(float, curve["losses"]), 1))
            for curve in curves
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SweepError(
            f"cannot read {path}: {error}", hint=f"Write it again: sweep ensemble {folder}"
        ) from None


def _same_tokens(views: Mapping[str, View]) -> None:
    """Raises SweepError if the losses of two runs are of different validation tokens."""
    (first, head), *others = [(name, view.header) for name, view in views.items()]
    for name, header in others:
        ours, theirs = (_val_digest(its) for its in (head, header))
        if header["data"] == head["data"] or (ours and ours == theirs):
            continue
        both = bool(ours and theirs)  # journals of earlier versions have that of all tokens alone
        digests = (ours, theirs) if both else (head["data"], header["data"])
        raise SweepError(
            f"losses on different {'validation ' if both else ''}tokens cannot be compared",
            [f"{of}: {digest}" for of, digest in zip((first, name), digests, strict=True)],
            hint="Runs count as one that read one corpus with the same splits, tokenizer and "
            "data.val_tokens.",
        )


def _val_digest(header: Event) -> str:
    return str((header.get("text") or {}).get("val_digest", ""))


def _candidates(views: Mapping[str, View], where: Mapping[str, Value]) -> list[Candidate]:
    """The recipes of all runs that have what is asked for, lowest loss first.

    Runs that differ in their seeds alone are runs of one recipe, whichever sweep they are of.
    """
    pooled: dict[str, tuple[str, View, TrialView, dict[int, float]]] = {}
    for run, view in views.items():
        for recipe in ranking(view):
            trial = recipe.trials[0]
            if not all(_same(_setting(trial, name), value) for name, value in where.items()):
                continue
            kept = {name: v for name, v in trial.settings.items() if name not in SEEDS}
            kept["data.train_tokens"] = view.train_tokens(trial)
            first = pooled.setdefault(json.dumps(kept, sort_keys=True), (run, view, trial, {}))
            first[3].update(recipe.by_seed)
    candidates = [
        _candidate(run if len(views) > 1 else "", view, trial, list(losses.values()))
        for run, view, trial, losses in pooled.values()
    ]
    return sorted(candidates, key=lambda candidate: candidate.measured.loss)


def _candidate(run: str, view: View, trial: TrialView, losses: list[float]) -> Candidate:
    """Of one recipe, named by the first of its runs."""
    try:
        cost = trial_cost(trial.settings)
    except ConfigError as error:
        raise SweepError(f"trial {run}/{trial.name} cannot be read", error.problems) from None
    searched = {name: v for name, v in trial.searched.items() if name not in SEEDS}
    tokens = view.train_tokens(trial)
    measured = Measured(
        0.0,
        fmean(losses),
        f"{run}/{trial.name}".lstrip("/"),
        len(losses),
        str(Proposal(searched)),
        tokens=tokens,
    )
    epochs = float(_setting(trial, "train.epochs"))  # type: ignore[arg-type]
    return Candidate(measured, cost.parameters, tokens, epochs, tuple(losses))


def _setting(trial: TrialView, name: str) -> Value | None:
    return trial.settings.get(name, SETTINGS[name].default)


def _same(value: object, wanted: Value) -> bool:
    """Whether a setting is what was asked for; numbers to six digits, as ranges are inexact."""
    if isinstance(value, int | float) and isinstance(wanted, int | float):
        return math.isclose(value, wanted, rel_tol=1e-6)
    return value == wanted


def _noise(views: Mapping[str, View], candidates: Sequence[Candidate]) -> Noise:
    """The noise between seeds that is known best: measured most often, else stated, else not."""
    kinds = [noise_of(view) for view in views.values()]
    if len(views) > 1:
        deviation, freedom = pooled_deviation(candidate.losses for candidate in candidates)
        kinds += [Noise(deviation, freedom, "measured")] if freedom else []
    return max(kinds, key=lambda noise: (noise.freedom, noise.sd is not None))


def _best(candidates: Sequence[Candidate], x_of: Callable[[Candidate], float]) -> list[Measured]:
    """The best recipe at each x, x rising."""
    groups = groupby(sorted(candidates, key=x_of), key=x_of)  # sorting keeps the lowest loss first
    best = []
    for x, group in groups:
        here = [candidate.measured for candidate in group]
        best.append(replace(here[0], x=float(x), among=len(here)))
    return best


def _over_parameters(candidates: Sequence[Candidate], noise: Noise) -> list[Law | str]:
    """At each budget of unique tokens where several sizes were trained, else at the smallest."""
    by_tokens = {
        tokens: _best([c for c in candidates if c.tokens == tokens], lambda c: c.parameters)
        for tokens in sorted({c.tokens for c in candidates})
    }
    if not by_tokens:
        return [law_over(PARAMETERS, "", [], noise)]
    several = {tokens: points for tokens, points in by_tokens.items() if len(points) > 1}
    return [
        law_over(PARAMETERS, f"{tokens:,} unique tokens", points, noise)
        for tokens, points in (several or dict(list(by_tokens.items())[:1])).items()
    ]


def _over_baselines(views: Mapping[str, View], noise: Noise) -> list[Law | str]:
    """Of the plain baseline of each run; the same runs in two sweeps count once."""
    names: dict[tuple[tuple[float, float], ...], str] = {}
    for run, view in views.items():
        if curve := tuple(best_of_sizes(view.baseline_runs)):
            names.setdefault(curve, f" of {run}" if len(views) > 1 else "")
    return [
        law_over(
            TOKENS,
            f"plain baseline{name}",
            [Measured(tokens, loss, "baseline") for tokens, loss in curve],
            noise,
        )
        for curve, name in names.items()
    ]


def _cells(candidates: Sequence[Candidate]) -> list[Measured]:
    """The best recipe at each number of unique tokens and epochs."""
    return [
        cell
        for tokens in sorted({c.tokens for c in candidates})
        for cell in _best([c for c in candidates if c.tokens == tokens], lambda c: c.epochs)
    ]
