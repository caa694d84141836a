"""What a sweep will take, before anything is spent: by trial, and in all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from statistics import fmean
from typing import Any

from model.config import SETTINGS, ConfigError, Cost, Value, trial_cost
from sweep.errors import SweepError
from sweep.format import GIGABYTE
from sweep.space.baseline import baseline_points, baseline_settings
from sweep.space.constraint import violations
from sweep.space.grid import grid_points
from sweep.space.points import corners, draws
from sweep.space.settings import PruneConfig
from sweep.space.space import Space
from sweep.space.speed import Speed
from sweep.space.trunks import ladder_gain

DRAWS, CORNERS = 300, 1024
QUARTILES = {"first quartile": 0.25, "median": 0.5, "third quartile": 0.75}
SCALE = "gpt.scale"
STOPPED = 0.5  # of the trials that may be pruned
BYTES_A_TOKEN = 2  # of a log-probability


@dataclass(frozen=True)
class Row:
    """One trial that the space may propose."""

    label: str
    searched: Mapping[str, Value]
    settings: Mapping[str, Value]
    cost: Cost


@dataclass(frozen=True)
class Plan:
    """What is expected of a sweep; FLOPs and tokens are those of training."""

    trials: int
    seeds: int  # that each proposal is trained with
    rows: tuple[Row, ...]  # cheapest and dearest corner, quartiles between them
    drawn: tuple[Cost, ...]  # of trials drawn at random that keep the constraints
    infeasible: float  # share of random proposals that break one: never trained
    untrainable: float  # share that cannot be trained: those trials would fail
    baseline: tuple[tuple[str, Cost], ...]  # what each run is, and its cost
    pruned: float  # share of the search's FLOPs that pruning is expected to leave
    assumption: str  # behind that
    sharing: float = 1.0  # x less training of a recipe that is tried at each epoch count


def plan(space: Space) -> Plan:
    """What `space` comes to. Raises SweepError if no trial of it can be trained."""
    rows, broken, impossible = [], 0, 0
    sampled = draws(space.hyperparameters, DRAWS)
    for chosen in sampled:
        try:
            row = _row("", chosen, space)
        except ConfigError:
            impossible += 1
            continue
        if row is None:
            broken += 1
        else:
            rows.append(row)
    extremes = _trainable(list(islice(corners(space.hyperparameters), CORNERS)), space) + rows
    if not rows:
        raise SweepError(f"{space.name} proposes nothing that can be trained and keeps constraints")
    trials = _trials(space)
    left, assumption = pruning(space.prune, trials, _strata(space), _whole(space, "train.evals"))
    return Plan(
        trials=trials,
        seeds=space.repeat,
        rows=_chosen(rows, extremes),
        drawn=tuple(row.cost for row in rows),
        infeasible=broken / len(sampled),
        untrainable=impossible / len(sampled),
        baseline=_baseline(space),
        pruned=left,
        assumption=assumption,
        sharing=ladder_gain(space) if space.trial.share_trunks else 1.0,
    )


def pruning(config: PruneConfig, trials: int, strata: int, evals: int) -> tuple[float, str]:
    """Share of the search's compute that is left by pruning, and what that assumes."""
    if config.rule == "none":
        return 1.0, "nothing is pruned"
    whole = min(trials, strata * config.startup_trials)
    at = min(1.0, math.ceil(config.grace * evals) / evals)
    left = (whole + (trials - whole) * (1 - STOPPED * (1 - at))) / trials
    return left, (
        f"prune.rule {config.rule}, assuming that {STOPPED:.0%} of trials after the first {whole} "
        f"stop at {at:.0%} of their schedule"
    )


def totals(expected: Plan, speed: Speed) -> dict[str, dict[str, float]]:
    """Expected tokens, FLOPs and seconds of one trial after the other, by part of the sweep."""
    mean = {
        "tokens": fmean(cost.tokens for cost in expected.drawn),
        "flops": fmean(cost.flops for cost in expected.drawn),
        "seconds": fmean(speed.seconds(cost) for cost in expected.drawn),
    }
    whole = {key: expected.trials * value for key, value in mean.items()}
    pruned = {key: expected.pruned * value for key, value in whole.items()}
    baseline = {
        "tokens": float(sum(cost.tokens for _, cost in expected.baseline)),
        "flops": sum(cost.flops for _, cost in expected.baseline),
        "seconds": sum(speed.seconds(cost) for _, cost in expected.baseline),
    }
    return {
        "search, nothing pruned": whole,
        "search, pruned": pruned,
        "baseline": baseline,
        "all, pruned": {key: pruned[key] + baseline[key] for key in pruned},
    }


def disk(space: Space, expected: Plan) -> tuple[float, float]:
    """Bytes that the sweep leaves, as expected, and most that one trial needs more while it runs.

    Of search trials beyond the best ones, log-probabilities are deleted, and weights if `keep` says
    so; a shared trunk is kept as long as there is room for it.
    """
    trials, keep = expected.trials, space.keep
    log_probs = BYTES_A_TOKEN * _whole(space, "data.val_tokens")
    baseline = [cost for _, cost in expected.baseline]
    of_trial = max(0.0, fmean(cost.disk for cost in expected.drawn) - log_probs)
    weights = trials * of_trial + sum(cost.disk - log_probs for cost in baseline)
    if keep.best:
        weights = min(trials, keep.best) * of_trial
    if keep.max_gb:
        weights = min(weights, keep.max_gb * GIGABYTE)
    kept = weights + (min(trials, space.trial.keep_log_probs) + len(baseline)) * log_probs
    kept += space.trial.share_trunks * space.trial.trunk_room * GIGABYTE
    more = [cost.disk_while_running for cost in (*baseline, *(row.cost for row in expected.rows))]
    return max(0.0, kept), max(more)


def as_data(expected: Plan, speed: Speed) -> dict[str, Any]:
    """The plan as plain data, for --json."""
    return {
        "trials": expected.trials,
        "seeds": expected.seeds,
        "infeasible": expected.infeasible,
        "untrainable": expected.untrainable,
        "speed": speed.source,
        "pruning": {"left": expected.pruned, "assumption": expected.assumption},
        "sharing": expected.sharing,
        "measured_memory": speed.memory,
        "points": [
            {
                "point": row.label,
                "searched": dict(row.searched),
                **asdict(row.cost),
                "seconds": speed.seconds(row.cost),
            }
            for row in expected.rows
        ],
        "baseline": [
            {"run": label, **asdict(cost), "seconds": speed.seconds(cost)}
            for label, cost in expected.baseline
        ],
        "total": {
            part.replace(", ", "_").replace(" ", "_"): spent
            for part, spent in totals(expected, speed).items()
        },
    }


def _baseline(space: Space) -> tuple[tuple[str, Cost], ...]:
    runs = []
    for point in baseline_points(space):
        size = f", scale {point.scale}" if point.scale is not None else ""
        label = f"{point.multiple}x{size}"
        runs.append((label, trial_cost(baseline_settings(space, point), space.trial.width)))
    return tuple(runs)


def _row(label: str, chosen: Mapping[str, Value], space: Space) -> Row | None:
    """None if it breaks a constraint. Raises ConfigError if it cannot be trained."""
    settings = {**space.fixed, **chosen}
    cost = trial_cost(settings, space.trial.width)
    beyond = violations(settings, space.constraints)
    return None if any(v > 0 for v in beyond.values()) else Row(label, chosen, settings, cost)


def _trainable(points: Sequence[Mapping[str, Value]], space: Space) -> list[Row]:
    rows = []
    for chosen in points:
        try:
            row = _row("", chosen, space)
        except ConfigError:
            continue
        if row is not None:
            rows.append(row)
    return rows


def _chosen(drawn: Sequence[Row], extremes: Sequence[Row]) -> tuple[Row, ...]:
    """The cheapest and the dearest trial there may be, and quartiles of those drawn."""
    by_cost = sorted(drawn, key=lambda row: row.cost.flops)
    between = [
        Row(label, row.searched, row.settings, row.cost)
        for label, share in QUARTILES.items()
        for row in [by_cost[round(share * (len(by_cost) - 1))]]
    ]
    cheapest = min(extremes, key=lambda row: row.cost.flops)
    # Of equally dear ones the one that needs most memory: that is the one to know of.
    dearest = max(extremes, key=lambda row: (row.cost.flops, row.cost.memory))
    return (
        Row("cheapest", cheapest.searched, cheapest.settings, cheapest.cost),
        *between,
        Row("dearest", dearest.searched, dearest.settings, dearest.cost),
    )


def _trials(space: Space) -> int:
    """Those of the budget, or all that a grid has: it ends when each of its points was tried."""
    most = space.budget.trials
    if space.sampler.name != "grid":
        return most
    points = grid_points(space.hyperparameters, space.sampler.step, space.sampler.seed)
    kept = sum(
        not any(v > 0 for v in violations({**space.fixed, **p}, space.constraints).values())
        for p in points[: most if not space.constraints else None]
    )
    return max(1, min(most, (kept + len(space.points)) * space.repeat))


def _strata(space: Space) -> int:
    """Groups of peers within which trials are compared, as far as lists tell."""
    groups: dict[str, set[Value]] = {name: set() for name in space.prune.peers}
    for chosen in islice(corners(space.hyperparameters), CORNERS):
        for name in groups:
            groups[name].add(chosen.get(name, ""))
    return math.prod(max(1, len(values)) for values in groups.values())


def _whole(space: Space, name: str) -> int:
    """The value of a whole number that no trial varies."""
    value: Any = space.fixed.get(name, SETTINGS[name].default)
    return int(value)
