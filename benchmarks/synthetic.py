"""Searches on made-up losses in closed form, over spaces of 2 to 14 real settings.

    OPENBLAS_NUM_THREADS=1 python benchmarks/synthetic.py --orders 8
    OPENBLAS_NUM_THREADS=1 python benchmarks/synthetic.py --only ours --spaces 12 --workers 64
    OPENBLAS_NUM_THREADS=1 python benchmarks/synthetic.py --time 16,400,1500 --only ours

A loss is 2.9 nats at its optimum, which `order` draws anywhere in the space, and rises in bowls of
drawn steepness, steeper on one side, along a drawn valley of rate and decay; categories differ by
some hundredths. "far" spaces have it at few epochs and little decay, far from where ours expects
it; of "4 + 8 irrelevant" settings 4 matter, drawn. "Crooked" losses are no parabolas: each rises
with a drawn power from 1 to 4 of the distance, and the best of two settings moves with another.
"Walls": a little above the best rate and epoch count losses rise by whole nats. "Lists": all but
two of the settings are listed. "Kinds": a rate for each of two optimizers, with bests of their own,
and a setting that one of them lacks. Trials see 0.004 nats of noise between seeds.

Each order is a search of 60 trials, or of three to a worker if that is more, by workers that take
as long as a trial has FLOPs. Regret is how far the best trial lies above the optimum, both without
noise: median and worst over orders, and each relative to TPE's. Compute is the FLOPs until as good
as TPE ended in that order, relative to the FLOPs after which TPE was: median and worst.

Nothing is stopped early, because there are no curves: Hyperband and ASHA would be random and TPE.
CMA-ES draws categories at random, its default. `--time` measures instead what a proposal costs
after so many finished trials of 12 settings: CPU of the first, which imports and looks at the
space, and the median of the 12 after it, with Optuna's part.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import numpy as np
import optuna
from stock import cma_es, gaussian_process, random_draws, tpe

from model.config import MULTIPLIER, Value, trial_flops
from sweep.format import table
from sweep.session.distributions import distribution, suggest
from sweep.session.samplers import make_sampler
from sweep.space import Choice, Hyperparameter, PruneConfig, Range, SamplerConfig, Space
from sweep.space.hyperparameter import is_number
from sweep.space.points import Point, at_share, draws, share_of

OPTIMUM, NOISE = 2.9, 0.004  # nats
TRIALS = 60
FIXED: dict[str, Value] = {"data.train_tokens": 32_769}
MAIN: dict[str, Choice | Range] = {
    "optim.lr": Range(0.001, 0.1, log=True),
    MULTIPLIER: Range(1.0, 64.0, log=True),
    "train.epochs": Range(1, 32, log=True, whole=True),
    "gpt.scale": Range(0.5, 4.0, log=True),
}
EXTRA: dict[str, Choice | Range] = {
    "gpt.dropout": Range(0.0, 0.5),
    "optim.beta2": Range(0.9, 0.999),
    "optim.beta1": Range(0.8, 0.98),
    "optim.warmup": Range(0.0, 0.3),
    "optim.final_rate": Range(0.0, 0.5),
    "optim.grad_clip": Range(0.1, 10.0, log=True),
    "gpt.stochastic_depth": Range(0.0, 0.3),
    "gpt.qk_norm": Choice((False, True)),
    "gpt.x0": Choice((False, True)),
    "optim.rest_lr": Range(0.0005, 0.05, log=True),
    "gpt.mlp_expansion": Range(1.0, 8.0, log=True),
    "gpt.mlp": Choice(("gelu", "relu2", "swiglu")),
}
KIND, KINDS = "optim.name", ("adamw", "muon")
FAR = {MULTIPLIER: 0.15, "train.epochs": 0.25, "optim.lr": 0.3}  # share below which the best lies


@dataclass(frozen=True)
class Shape:
    """What a family of losses has in common."""

    main: int  # settings of MAIN
    extra: int = 0  # and of EXTRA
    relevant: int | None = None  # of all these; None: every one
    far: bool = False
    crooked: bool = False
    walls: bool = False
    kinds: bool = False
    lists: bool = False


SHAPES = {
    "2": Shape(2),
    "4": Shape(4),
    "4, far": Shape(4, far=True),
    "4 + 8 irrelevant": Shape(4, 8, relevant=4),
    "12": Shape(4, 8),
    "12, far": Shape(4, 8, far=True),
    "14": Shape(4, 10),
    "6, crooked": Shape(4, 2, crooked=True),
    "10, crooked": Shape(4, 6, crooked=True),
    "5, walls": Shape(4, 1, walls=True),
    "8, lists": Shape(4, 4, lists=True),
    "7, kinds": Shape(4, 3, kinds=True),
}
POWERS = (1.0, 1.5, 2.0, 3.0, 4.0)
WALL, STEEP, DIVERGED = 0.12, 15.0, 7.0  # share above the best; nats per share from there; nats
ALL_LISTS: dict[str, Choice] = {
    "optim.lr": Choice((0.001, 0.003, 0.01, 0.03, 0.1)),
    MULTIPLIER: Choice((1, 2, 4, 8, 16, 32, 64)),
    "gpt.dropout": Choice((0.0, 0.1, 0.2, 0.3)),
    "gpt.qk_norm": Choice((False, True)),
    "gpt.mlp": Choice(("gelu", "relu2", "swiglu")),
    "optim.beta2": Choice((0.9, 0.95, 0.99)),
}


@dataclass(frozen=True)
class Loss:
    """One loss: a rise along each number, a table for each list; all by parameter."""

    space: Space
    optimum: Mapping[str, float]  # share of each range
    steepness: Mapping[str, float]  # nats from one end to the other, about
    powers: Mapping[str, float]  # of the distance
    moves: Mapping[str, tuple[str, float]]  # by how much another's distance moves the optimum
    tables: Mapping[str, Mapping[Value, float]]  # nats of each value of a list
    walls: tuple[str, ...] = ()

    def __call__(self, point: Point) -> float:
        """Nats per token, without noise."""
        active = [hp for hp in self.space.hyperparameters if hp.active(point)]
        off = {
            hp.parameter: share_of(hp.domain, point[hp.setting]) - self.optimum[hp.parameter]
            for hp in active
            if hp.parameter in self.optimum
        }
        loss = OPTIMUM
        for name, away in off.items():
            if name in self.moves:
                other, by = self.moves[name]
                away += by * off.get(other, 0.0)
            rise = 0.25 * abs(2 * away) ** self.powers[name]  # equal for all, half a range away
            loss += self.steepness[name] * rise * (1.6 if away > 0 else 1.0)
            if name in self.walls:
                loss += STEEP * max(0.0, away - WALL)
        tables = (self.tables.get(hp.parameter, {}).get(point[hp.setting], 0.0) for hp in active)
        return min(loss + sum(tables), DIVERGED)


def _hyperparameters(shape: Shape) -> tuple[Hyperparameter, ...]:
    every: dict[str, Choice | Range] = {**MAIN, **EXTRA}
    names = [*list(MAIN)[: shape.main], *list(EXTRA)[: shape.extra]]
    if shape.lists:
        names = [*ALL_LISTS, "train.epochs", "gpt.scale"]
        every |= ALL_LISTS
    all_ = [Hyperparameter(name, every[name]) for name in names]
    if shape.kinds:
        adamw, muon = (((KIND, (kind,)),) for kind in KINDS)
        rates = Range(0.0003, 0.03, log=True), Range(0.005, 0.5, log=True)
        all_ = [
            Hyperparameter(KIND, Choice(KINDS)),
            *(hp for hp in all_ if hp.setting not in ("optim.lr", "optim.beta2")),
            Hyperparameter("optim.lr", rates[0], adamw),
            Hyperparameter("optim.lr", rates[1], muon),
            Hyperparameter("optim.beta2", EXTRA["optim.beta2"], adamw),
        ]
    return tuple(all_)


def make_loss(shape: Shape, order: int) -> Loss:
    """The loss of that shape that `order` draws."""
    seed = [order, shape.main, shape.extra, int(shape.far), shape.relevant or 0]
    draw = np.random.default_rng(seed)
    hyperparameters = _hyperparameters(shape)
    domains = {hp.parameter: hp.domain for hp in hyperparameters}
    names = list(domains)
    matter = set(names)
    if shape.relevant is not None:
        matter = set(draw.choice(names, shape.relevant, replace=False).tolist())
    optimum = dict(zip(names, draw.uniform(0.1, 0.9, len(names)), strict=True))
    if shape.far:
        optimum |= {name: draw.uniform(0, below) for name, below in FAR.items()}
    steepness = dict(zip(names, 0.6 * np.exp(draw.normal(0, 0.5, len(names))), strict=True))
    tables = {}
    for name, domain in domains.items():
        if isinstance(domain, Choice) and not all(is_number(v) for v in domain.values):
            values = {value: abs(draw.normal(0, 0.06)) for value in domain.values}
            best = min(values.values())
            tables[name] = {v: (at - best) * (name in matter) for v, at in values.items()}
            del optimum[name]
        elif isinstance(domain, Choice):  # the best is one of the values
            optimum[name] = share_of(domain, at_share(domain, optimum[name]))
    steepness = {name: steep * (name in matter) for name, steep in steepness.items()}
    valley = draw.uniform(0, 1) * ("optim.lr" in matter)  # else the rate would matter by the decay
    moves = {MULTIPLIER: ("optim.lr", valley)}
    powers = dict.fromkeys(names, 2.0)
    if shape.crooked:
        powers = {name: float(draw.choice(POWERS)) for name in names}
        one, other, third = draw.choice(list(optimum), 3, replace=False).tolist()
        moves |= {one: (other, draw.normal(0, 0.7)), other: (third, draw.normal(0, 0.7))}
    space = Space("synthetic", hyperparameters, FIXED)
    space = replace(space, prune=PruneConfig(rule="none"))
    walls = ("optim.lr", "train.epochs") if shape.walls else ()
    return Loss(space, optimum, steepness, powers, moves, tables, walls)


Sampler = Callable[[Space, int, int], optuna.samplers.BaseSampler | None]  # None: the one before


def _ours(expect: bool) -> Sampler:
    def sampler(space: Space, order: int, asked: int) -> optuna.samplers.BaseSampler:
        config = SamplerConfig(seed=order, expect=expect)
        return make_sampler(config, asked, replace(space, sampler=config))

    return sampler


def _stock(make: Callable[[int], optuna.samplers.BaseSampler]) -> Sampler:
    return lambda space, order, asked: None if asked else make(order)


TPE = "Optuna TPE"
METHODS: dict[str, Sampler] = {
    TPE: _stock(tpe),
    "ours": _ours(expect=True),
    "ours, expecting nothing": _ours(expect=False),
    "CMA-ES": _stock(cma_es),
    "random": _stock(random_draws),
    "Optuna GP": _stock(gaussian_process),
}


@dataclass(frozen=True)
class Found:
    """A search: its best trial so far, whenever there was a better one."""

    bests: tuple[tuple[float, float], ...]  # FLOPs that all had spent, regret in nats
    seconds: float  # CPU of a proposal

    @property
    def regret(self) -> float:
        return self.bests[-1][1]

    def flops_to(self, regret: float) -> float:
        return next((flops for flops, best in self.bests if best <= regret), math.inf)


def search(shape: str, method: str, workers: int, order: int) -> Found:
    """One search in virtual time: a worker does one FLOP per unit of it."""
    loss = make_loss(SHAPES[shape], order)
    noise = np.random.default_rng([order, 99])
    study = optuna.create_study()
    due: list[tuple[float, int, optuna.Trial, float]] = []
    now = flops = seconds = 0.0
    trials, asked, best = max(TRIALS, 3 * workers), 0, math.inf
    bests: list[tuple[float, float]] = []
    while True:
        while len(due) < workers and asked < trials:
            began = time.process_time()
            study.sampler = METHODS[method](loss.space, order, asked) or study.sampler
            trial = study.ask()
            point = suggest(trial, loss.space.hyperparameters)
            seconds += time.process_time() - began
            cost = trial_flops({**FIXED, **point})
            heapq.heappush(due, (now + cost, asked, trial, loss(point)))
            flops, asked = flops + cost, asked + 1
        if not due:
            return Found(tuple(bests), seconds / asked)
        now, _, trial, ended = heapq.heappop(due)
        study.tell(trial, ended + noise.normal(0, NOISE))
        if ended < best:
            best = ended
            bests.append((flops - sum(end - now for end, *_ in due), best - OPTIMUM))


def _search(task: tuple[str, str, int, int]) -> Found:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return search(*task)


HEADER = [
    *("space", "method", "regret", "worst", "of TPE's", "worst of TPE's"),
    *("compute", "worst", "ms a proposal"),
]


def line(shape: str, method: str, some: Sequence[Found], stock: Sequence[Found]) -> list[str]:
    """A row of the table; `stock` are TPE's searches of the same orders."""
    regrets, theirs = [s.regret for s in some], [s.regret for s in stock]
    ratios = [
        mine.flops_to(other.regret) / other.flops_to(other.regret)
        for mine, other in zip(some, stock, strict=True)
    ]
    return [
        *(shape, method, f"{median(regrets):.4f}", f"{max(regrets):.4f}"),
        f"{median(regrets) / median(theirs):.2f}",
        f"{max(regrets) / max(theirs):.2f}",
        *("-" if math.isinf(r) else f"{r:.2f}" for r in (median(ratios), max(ratios))),
        f"{1000 * sum(s.seconds for s in some) / len(some):.0f}",
    ]


def proposals_cpu(method: str, trials: int) -> tuple[float, float]:
    """CPU seconds of the first proposal after `trials` random ones, and the median of 12 more."""
    loss, order = make_loss(SHAPES["12"], 0), 0
    parameters = loss.space.hyperparameters
    study = optuna.create_study()
    for point in draws(parameters, trials):
        params = {hp.parameter: point[hp.setting] for hp in parameters}
        study.add_trial(
            optuna.trial.create_trial(
                params=params,
                distributions={hp.parameter: distribution(hp) for hp in parameters},
                value=loss(point),
            )
        )
    # A stock sampler is made by its first proposal.
    study.sampler = METHODS[method](loss.space, order, 0) or study.sampler
    seconds = []
    for asked in range(trials, trials + 13):
        began = time.process_time()
        study.sampler = METHODS[method](loss.space, order, asked) or study.sampler
        trial = study.ask()
        point = suggest(trial, parameters)
        seconds.append(time.process_time() - began)
        study.tell(trial, loss(point))
    return seconds[0], median(seconds[1:])


def time_proposals(arguments: argparse.Namespace) -> None:
    rows = [["method", *(f"{trials} trials" for trials in arguments.time)]]
    for method in [TPE, *(m for m in METHODS if m != TPE and m in (arguments.only or METHODS))]:
        costs = [proposals_cpu(method, trials) for trials in arguments.time]
        rows.append([method, *(f"{1e3 * a:.0f} ms, then {1e3 * b:.0f}" for a, b in costs)])
    print(table(rows))


def compare(arguments: argparse.Namespace) -> None:
    methods = [TPE, *(m for m in METHODS if m != TPE and m in (arguments.only or METHODS))]
    results = []
    with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        for workers in arguments.workers:
            rows = []
            for shape in arguments.spaces or SHAPES:
                found: dict[str, list[Found]] = {}
                for method in methods:
                    tasks = [(shape, method, workers, order) for order in range(arguments.orders)]
                    found[method] = list(pool.map(_search, tasks))
                    rows.append(line(shape, method, found[method], found[TPE]))
                    print("  ".join([f"{workers} workers", *rows[-1]]), file=sys.stderr, flush=True)
                    regrets = [s.regret for s in found[method]]
                    results.append([workers, *rows[-1], regrets])
                    if arguments.json:
                        arguments.json.write_text(json.dumps(results, indent=1))
            print(f"\n{workers} workers\n{table([HEADER, *rows])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", action="append", choices=METHODS, help="beside TPE")
    parser.add_argument("--spaces", action="append", choices=SHAPES)
    parser.add_argument("--workers", type=_numbers, default=[1, 8])
    parser.add_argument(
        "--time", type=_numbers, metavar="TRIALS", help="of proposals, nothing else"
    )
    parser.add_argument("--json", type=Path, help="where to write every figure")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    (time_proposals if arguments.time else compare)(arguments)


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


if __name__ == "__main__":
    main()
