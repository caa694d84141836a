"""How much compute samplers need until they have tried a setting as good as the best.

One trial after another, none stopped early, so that proposals alone are compared. On recorded runs
(a bank, `--bank FILE`) or on made-up losses in closed form, which have the optimum inside, on a
valley of equal decay timescale, over-fitting beyond it, and optimizers with rates of their own:

    python benchmarks/proposals.py --orders 30 surface tpe gp random
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import optuna

from model.config.config import MULTIPLIER
from model.config.cost import trial_flops
from model.config.setting import Value
from sweep.search.features import (
    EPOCHS,
    PARAMETERS,
    RATE,
    TAU,
    features,
)
from sweep.session.distributions import suggest
from sweep.session.samplers import make_sampler
from sweep.space.hyperparameter import Choice, Hyperparameter
from sweep.space.points import key
from sweep.space.settings import SamplerConfig
from sweep.space.space import Space

LEVELS: dict[str, tuple[Value, ...]] = {
    "optim.name": ("adamw", "muon"),
    "optim.lr": (0.008, 0.032),
    MULTIPLIER: (2.0, 6.0, 18.0, 54.0),
    "train.epochs": (1, 2, 4, 8, 16),
    "gpt.scale": (0.5, 1.0, 4.0),
}
SEED = "train.seed"
RUNS_AT_MOST = 3  # times as many trials as there are settings


@dataclass(frozen=True)
class Recorded:
    """Final losses of every setting, one a seed, and what a run costs."""

    space: Space
    losses: Mapping[tuple[tuple[str, Value], ...], tuple[float, ...]]
    flops: Mapping[tuple[tuple[str, Value], ...], float]
    floor: float  # nats: settings closer than this to the best are as good

    @property
    def goal(self) -> float:
        return min(map(fmean, self.losses.values())) + self.floor


def closed_form(seed: int) -> Recorded:
    """A landscape whose constants `seed` draws, with noise between runs of 0.004 nats."""
    draw = np.random.default_rng(seed)
    fixed: dict[str, Value] = {"data.train_tokens": 32_769, "optim.muon_scale": "rms"}
    hyperparameters = tuple(Hyperparameter(name, Choice(values)) for name, values in LEVELS.items())
    tau, rate = -1.7 + draw.normal(0, 0.5), draw.normal(0, 0.5)
    of_muon = {
        "rate": draw.normal(0, 0.5),
        "tau": draw.normal(0, 0.4),
        "loss": draw.normal(-0.03, 0.03),
    }
    gain, overfit = 0.04 * math.exp(draw.normal(0, 0.4)), draw.normal(0, 0.7)
    steep = 0.05 * math.exp(draw.normal(0, 0.3))
    losses, flops = {}, {}
    for values in itertools.product(*LEVELS.values()):
        point = dict(zip(LEVELS, values, strict=True))
        at, muon = features({**fixed, **point}), point["optim.name"] == "muon"
        t = at[TAU] - tau - muon * of_muon["tau"]
        r = at[RATE] - math.log2(0.016 * 64) - rate - muon * of_muon["rate"]
        size, epochs = at[PARAMETERS] - math.log2(98_368), at[EPOCHS]
        pressure = epochs - 3 + 0.5 * size + 0.8 * t + overfit
        loss = 3.4 + 0.35 * 2 ** (-0.9 * epochs) - gain * size + muon * of_muon["loss"]
        loss += steep * math.log1p(math.exp(1.2 * pressure)) ** 1.5 + 0.03 * min(t, 0) ** 2
        loss += 0.035 * (1.6 * max(r, 0) ** 2 + min(r, 0) ** 2)
        losses[key(point)] = tuple(loss + draw.normal(0, 0.004, 2))
        flops[key(point)] = trial_flops({**fixed, **point})
    return Recorded(Space("closed form", hyperparameters, fixed), losses, flops, floor=0.01)


def of_bank(path: Path) -> Recorded:
    """A bank's final losses; the floor is twice the standard deviation between its seeds."""
    import json

    import pyarrow.parquet as pq

    table = pq.read_table(path)
    shared = json.loads((table.schema.metadata or {}).get(b"about", b"{}"))
    names = [n for n in table.column_names if "." in n and n != SEED]
    losses: dict[tuple[tuple[str, Value], ...], list[float]] = {}
    flops = {}
    for row in table.to_pylist():
        at = key({name: row[name] for name in names})
        losses.setdefault(at, []).append(row["raw"][-1])
        flops[at] = row["flops"]
    hyperparameters = [
        hp
        for name in ["optim.name", *names]
        for hp in _hyperparameters(name, [dict(k) for k in losses])
    ]
    spreads = [np.var(v, ddof=1) for v in losses.values() if len(v) > 1 and np.isfinite(v).all()]
    floor = 2 * math.sqrt(fmean(spreads)) if spreads else 0.01
    space = Space(path.stem, tuple(dict.fromkeys(hyperparameters)), shared.get("settings", {}))
    return Recorded(space, {at: tuple(v) for at, v in losses.items()}, flops, floor)


def _hyperparameters(name: str, points: list[dict[str, Value]]) -> list[Hyperparameter]:
    """The values of a setting in the bank, by optimizer where those have values of their own."""
    by_optimizer: dict[Value, set[Value]] = {}
    for point in points:
        by_optimizer.setdefault(point["optim.name"], set()).add(point[name])
    if name == "optim.name" or len({frozenset(v) for v in by_optimizer.values()}) == 1:
        return [Hyperparameter(name, Choice(tuple(sorted({p[name] for p in points}))))]  # type: ignore[type-var]
    return [
        Hyperparameter(name, Choice(tuple(sorted(values))), (("optim.name", (optimizer,)),))  # type: ignore[type-var]
        for optimizer, values in sorted(by_optimizer.items())  # type: ignore[type-var]
    ]


def compute_to_goal(recorded: Recorded, config: SamplerConfig) -> tuple[float, int]:
    """Share of the whole grid's FLOPs, and trials, until a setting at the goal is tried."""
    space = replace(recorded.space, sampler=config)
    study = optuna.create_study()
    whole, spent = sum(recorded.flops.values()), 0.0
    for asked in range(RUNS_AT_MOST * len(recorded.losses)):
        study.sampler = make_sampler(config, asked, space)
        trial = study.ask()
        at = key(suggest(trial, space.hyperparameters))
        if at not in recorded.losses:  # a bank still being made
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            continue
        spent += recorded.flops[at]
        seeds = recorded.losses[at]
        loss = seeds[(config.seed + asked) % len(seeds)]
        study.tell(trial, loss if math.isfinite(loss) else 20.0)
        if fmean(seeds) <= recorded.goal:
            return spent / whole, asked + 1
    return spent / whole, RUNS_AT_MOST * len(recorded.losses)


def _one(task: tuple[str | None, dict[str, Value], int]) -> tuple[float, int]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    bank, options, order = task
    recorded = of_bank(Path(bank)) if bank else closed_form(order)
    return compute_to_goal(recorded, SamplerConfig(seed=order, **options))  # type: ignore[arg-type]


def _options(text: str) -> dict[str, Value]:
    """`surface,cost_weight=0` as fields of SamplerConfig."""
    name, *rest = text.split(",")
    pairs = (part.split("=") for part in rest)
    values = {k: {"true": True, "false": False}.get(v) for k, v in ()}
    for field, value in pairs:
        values[field] = value == "true" if value in ("true", "false") else float(value)
    return {"name": name, **values}


def _tables(samplers: list[str], bank: str | None, orders: int, jobs: int) -> Iterator[str]:
    yield f"{'sampler':34} {'q25':>7} {'median':>7} {'q75':>7} {'mean':>7} {'trials':>7} {'s':>6}"
    with ProcessPoolExecutor(jobs) as pool:
        for text in samplers:
            began = time.perf_counter()
            tasks = [(bank, _options(text), order) for order in range(orders)]
            results = list(pool.map(_one, tasks))
            shares, trials = zip(*results, strict=True)
            low, middle, high = (100 * q for q in np.quantile(shares, [0.25, 0.5, 0.75]))
            yield (
                f"{text:34} {low:6.2f}% {middle:6.2f}% {high:6.2f}% {100 * fmean(shares):6.2f}% "
                f"{np.median(trials):7.0f} {time.perf_counter() - began:6.0f}"
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("samplers", nargs="+", help="names, with options: surface,cost_weight=0")
    parser.add_argument("--bank", help="Parquet file of recorded curves; without: closed form")
    parser.add_argument("--orders", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=1)
    arguments = parser.parse_args()
    for line in _tables(arguments.samplers, arguments.bank, arguments.orders, arguments.jobs):
        print(line, flush=True)
