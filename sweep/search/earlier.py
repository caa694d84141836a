"""Trials of earlier sweeps as evidence: of surfaces that are more or less like this one.

Each earlier sweep is a task of its own in one Gaussian process over all (Bonilla et al. 2007,
"Multi-task Gaussian Process Prediction"): a level of its own, its own noise, and a likeness to this
sweep's surface that the trials decide, so that a sweep that was unlike this one fades.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from model.config import ConfigError, Value
from sweep.records import SEEDS
from sweep.search.coordinates import NARROW, Pool, pool_of
from sweep.search.features import features, in_octaves, is_kind
from sweep.search.kernel import LEVEL, Array, Places
from sweep.search.surrogate import Evidence, fit, likeliest, softened
from sweep.space import Hyperparameter, Point, Space
from sweep.space.points import snapped

FARTHEST = 3.0  # half widths of an axis from its middle, beyond which a trial says nothing here
MOST = 96  # trials of all earlier sweeps: half of each the best, the others evenly from the rest
SPEAKING = 12  # trials that can tell whether losses follow from settings
LEAST_NOISE = 1e-4  # nats
MERE = (0.5, 0.7, 0.85, 1.0, 1.15)  # standard deviations, of losses that do not, to choose from
FEWEST = 16  # of each, where there are many
CENTRES = 4  # best trials of each, around which candidates are looked for
# Why a trial says nothing here.
UNNAMED = "without a value for each setting searched here"
UNTRAINABLE = "with settings that cannot be trained here"
TOO_FAR = "far outside what is searched here"
MERE_NOISE = "as their losses do not follow from their settings"
BEYOND = "as the surface takes no more"
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # compared as an object: a proposal asks again with the same
class EarlierSweep:
    """Trials of an earlier sweep that finished, or runs of others."""

    name: str
    trials: tuple[EarlierTrial, ...]


@dataclass(frozen=True)
class EarlierTrial:
    """What the trainer was given, empty where that is not known, and nats per token at the end."""

    settings: Mapping[str, Value]
    loss: float


@dataclass(frozen=True, eq=False)
class Lessons:
    """What earlier sweeps teach a space."""

    pool: Pool  # with the axes in which only their trials differ
    evidence: Evidence
    centres: tuple[Point, ...]  # the nearest points of the space to their best
    trials: tuple[int, ...]  # of each that count
    left_out: tuple[Counter[str], ...]  # trials of each that say nothing here, by reason


def lessons(space: Space, earlier: tuple[EarlierSweep, ...]) -> Lessons:
    """What `earlier` sweeps teach about `space`."""
    return _lessons(pool_of(space), space.hyperparameters, earlier)


@lru_cache(maxsize=8)  # every proposal asks again
def _lessons(
    pool: Pool, hyperparameters: tuple[Hyperparameter, ...], earlier: tuple[EarlierSweep, ...]
) -> Lessons:
    problems = [[_problem(trial) for trial in sweep.trials] for sweep in earlier]
    trainable = [
        [trial for trial, problem in zip(sweep.trials, some, strict=True) if not problem]
        for sweep, some in zip(earlier, problems, strict=True)
    ]
    pool = _widened(pool, [[t.settings for t in trials] for trials in trainable])
    evidence, centres, counts, left_out = _nothing(pool), [], [], []
    most = max(FEWEST, MOST // len(earlier))
    for number, (trials, some) in enumerate(zip(trainable, problems, strict=True), 1):
        places = pool.place_settings([t.settings for t in trials])
        near = np.abs(places.x_ND).max(axis=1, initial=0.0) <= FARTHEST
        reasons = Counter([*filter(None, some), *[TOO_FAR] * int((~near).sum())])
        losses = np.array([t.loss for t in trials], dtype=float)
        rows = _kept(losses, np.flatnonzero(near), most)
        if len(rows) and _is_noise(_evidence(places, losses, rows, number=1)):
            reasons[MERE_NOISE], rows = int(near.sum()), rows[:0]
        elif len(rows) < near.sum():
            reasons[BEYOND] = int(near.sum()) - len(rows)
        counts.append(len(rows))
        left_out.append(+reasons)
        if not len(rows):
            continue
        evidence += _evidence(places, losses, rows, number)
        best = rows[np.argsort(losses[rows], kind="stable")][:CENTRES]
        centres += [_nearest(hyperparameters, trials[n].settings) for n in best]
    return Lessons(pool, evidence, tuple(p for p in centres if p), tuple(counts), tuple(left_out))


def _problem(trial: EarlierTrial) -> str:
    """Why a trial cannot be placed; empty if it can."""
    try:
        features(trial.settings)
    except ConfigError:
        return UNTRAINABLE
    return "" if trial.settings else UNNAMED


def _evidence(places: Places, losses_N: Array, rows: Rows, number: int) -> Evidence:
    """Those `rows` as trials of the earlier sweep of that number."""
    kept = replace(places[rows], sweeps=np.full(len(rows), number))
    return Evidence(kept, softened(losses_N[rows]), np.zeros(len(rows)))


def _is_noise(evidence: Evidence) -> bool:
    """Whether losses of one earlier sweep are as likely if nothing that we see decides them."""
    count, losses_N = len(evidence.losses_N), evidence.losses_N
    if count < SPEAKING:
        return False
    off = losses_N - np.median(losses_N)
    alternatives = []
    for share in MERE:
        noise = max(share * float(losses_N.std()), LEAST_NOISE)
        lower = np.linalg.cholesky(LEVEL**2 + noise**2 * np.eye(count))
        white = np.linalg.solve(lower, off)
        alternatives.append(0.5 * white @ white + np.log(np.diag(lower)).sum())
    return bool(fit(evidence, likeliest(evidence)).surprise(count) >= min(alternatives))


def _nothing(pool: Pool) -> Evidence:
    return Evidence(pool.place([]), np.zeros(0), np.zeros(0))


def _kept(losses_N: Array, near: Rows, most: int) -> Rows:
    """Up to `most` of the rows `near`: half of them the best, the others evenly from the rest."""
    if len(near) <= most:
        return near
    order = near[np.argsort(losses_N[near], kind="stable")]
    rest = np.sort(order[most // 2 :])
    evenly = rest[np.linspace(0, len(rest) - 1, most - most // 2).astype(int)]
    return np.sort(np.concatenate([order[: most // 2], evenly]))


def _nearest(hyperparameters: Sequence[Hyperparameter], settings: Mapping[str, Value]) -> Point:
    """The point of the space nearest to `settings`; empty where a value has none near it."""
    point: dict[str, Value] = {}
    for hp in hyperparameters:
        if hp.active(point):
            value = snapped(hp.domain, settings[hp.setting]) if hp.setting in settings else None
            if value is None:
                return {}
            point[hp.setting] = value
    return point


def _widened(pool: Pool, sweeps: Sequence[Sequence[Mapping[str, Value]]]) -> Pool:
    """The pool with an axis, or a group of kinds, for all in which trials of one sweep differ.

    What all trials of a sweep have in common needs none: it is part of how unlike they are.
    """
    own = {**pool.fixed, **(pool.points[0] if pool.points else {})}
    searched = [*pool.searched, *_differing(sweeps)]
    here = features(own, searched)
    halves, centres = dict(pool.halves), dict(pool.centres)
    levels = {group: dict(values) for group, values in pool.levels.items()}
    for sweep in sweeps:
        placed = [features(settings, searched) for settings in sweep]
        names = dict.fromkeys(name for at in placed for name in at)
        for name in names:
            if is_kind(name):
                group = name.partition("=")[0]
                kinds = {n for at in [here, *placed] for n in at if n.partition("=")[0] == group}
                if group in levels or len(kinds) > 1:
                    known = levels.setdefault(group, {})
                    for kind in sorted(kinds):
                        known.setdefault(kind, len(known))
            elif name not in halves and len({at[name] for at in placed if name in at}) > 1:
                groups = "", *levels.get("optim.name", ())  # of the rate
                centres[name] = dict.fromkeys(groups, here[name])
                reach = max(abs(at[name] - here[name]) for at in placed if name in at)
                halves[name] = max(reach, NARROW / 2 if in_octaves(name) else 0.0)
    return replace(
        pool,
        axes=tuple(halves),
        centres=centres,
        halves=halves,
        levels=levels,
        searched=tuple(searched),
    )


def _differing(sweeps: Sequence[Sequence[Mapping[str, Value]]]) -> list[str]:
    """Settings in which trials of one sweep differ."""
    names: dict[str, None] = {}
    for sweep in sweeps:
        for name in dict.fromkeys(name for settings in sweep for name in settings):
            if name not in SEEDS and len({settings.get(name) for settings in sweep}) > 1:
                names[name] = None
    return list(names)
