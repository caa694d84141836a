"""Recorded curves as something to search: cells by settings, and the space they span."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from model.config import Value
from sweep.noise import pooled_deviation
from sweep.records import SEEDS
from sweep.replay.curves import Curve
from sweep.space import (
    BudgetConfig,
    Choice,
    Hyperparameter,
    PruneConfig,
    Range,
    SamplerConfig,
    Space,
)

Cell = tuple[Value | None, ...]  # values of Bank.names


@dataclass(frozen=True)
class Bank:
    """Curves by what was searched; repetitions with other seeds share a cell."""

    names: tuple[str, ...]  # settings that differ, seeds left out
    cells: Mapping[Cell, tuple[Curve, ...]]
    fixed: Mapping[str, Value] = field(default_factory=dict)
    seed_noise: float = math.nan  # nats between seeds, of a bank without repetitions

    def cell(self, settings: Mapping[str, Value]) -> Cell:
        """The recorded cell of `settings`; of those between recorded ones, the nearest."""
        asked = tuple(settings.get(name) for name in self.names)
        if asked in self.cells:
            return asked
        return min(self.cells, key=lambda cell: _distance(cell, asked))

    def repetition(self, order: int) -> dict[Cell, Curve]:
        """One curve of each cell, drawn by `order`: what one sweep could have seen."""
        draw = random.Random(order)
        return {cell: draw.choice(curves) for cell, curves in self.cells.items()}

    def loss(self, curve: Curve, mark: int) -> float:
        """The loss that the sweep minimises, nats per token: the EMA's if asked and recorded."""
        ema = curve.ema[mark]
        averaged = self.fixed.get("train.evaluate") == "ema" and not math.isnan(ema)
        return ema if averaged else curve.raw[mark]

    def final(self, curve: Curve) -> float:
        """The loss at the end; nan where the recording stops before it, inf if diverged."""
        if curve.diverged:
            return math.inf
        return self.loss(curve, -1) if curve.complete else math.nan

    def noise(self) -> float:
        """Standard deviation of final losses between seeds, in nats; nan where nobody knows it.

        Pooled over the repetitions; without any it is what the bank says of itself.
        """
        finals = ([self.final(curve) for curve in curves] for curves in self.cells.values())
        pooled = pooled_deviation(finals)[0]
        return self.seed_noise if math.isnan(pooled) else pooled

    def space(
        self,
        sampler: SamplerConfig,
        prune: PruneConfig,
        trials: int,
        ranges: bool = False,
    ) -> Space:
        """The search space of this bank; `ranges` searches numbers between their extremes."""
        budget = BudgetConfig(trials=trials, failures=10**9)
        hyperparameters = tuple(
            hp for name in self.names for hp in self._hyperparameters(name, ranges)
        )
        conditions_first = tuple(sorted(hyperparameters, key=lambda hp: bool(hp.when)))
        return Space(
            "replay", conditions_first, dict(self.fixed), budget, sampler=sampler, prune=prune
        )

    def _hyperparameters(self, name: str, ranges: bool) -> list[Hyperparameter]:
        """One hyperparameter, or alternatives where its values depend on a setting that is text."""
        column = self.names.index(name)
        values = {cell[column] for cell in self.cells}
        if not all(isinstance(value, int | float) for value in values if value is not None):
            return [Hyperparameter(name, _choice(values))]
        for parent, other in enumerate(self.names):
            kinds = {cell[parent] for cell in self.cells}
            if not all(isinstance(kind, str) for kind in kinds):
                continue
            by_kind = {k: {cell[column] for cell in self.cells if cell[parent] == k} for k in kinds}
            if any(some != values for some in by_kind.values()):
                return [
                    Hyperparameter(name, _domain(some, ranges), ((other, (str(kind),)),))
                    for kind, some in sorted(by_kind.items(), key=str)
                    if some != {None}
                ]
        return [Hyperparameter(name, _domain(values, ranges))]


def make_bank(
    curves: Iterable[Curve],
    fixed: Mapping[str, Value] | None = None,
    seed_noise: float = math.nan,
) -> Bank:
    """The bank of `curves`; `fixed` is what they share, `seed_noise` is in nats."""
    curves = list(curves)
    settings = dict.fromkeys(name for curve in curves for name in curve.settings)
    names = tuple(
        name
        for name in settings
        if name not in SEEDS and len({curve.settings.get(name) for curve in curves}) > 1
    )
    cells: dict[Cell, tuple[Curve, ...]] = {}
    for curve in curves:
        cell = tuple(curve.settings.get(name) for name in names)
        cells[cell] = (*cells.get(cell, ()), curve)
    shared = {n: v for n, v in curves[0].settings.items() if n not in (*names, *SEEDS)}
    return Bank(names, cells, {**(fixed or {}), **shared}, seed_noise)


def _choice(values: Iterable[Value | None]) -> Choice:
    present = [value for value in values if value is not None]
    return Choice(tuple(sorted(present, key=lambda v: (str(type(v)), v))))


def _domain(values: Iterable[Value | None], ranges: bool) -> Choice | Range:
    """Listed values; or, for `ranges`, from half a step below the least to half a step above."""
    choice = _choice(values)
    numbers = [float(v) for v in choice.values if isinstance(v, int | float)]
    if not ranges or len(numbers) < 2 or numbers[0] <= 0:
        return choice
    low = numbers[0] * (numbers[0] / numbers[1]) ** 0.5
    high = numbers[-1] * (numbers[-1] / numbers[-2]) ** 0.5
    return Range(low, high, log=True)


def _distance(cell: Cell, asked: Cell) -> float:
    total = 0.0
    for recorded, wanted in zip(cell, asked, strict=True):
        if recorded == wanted:
            continue
        if not isinstance(recorded, int | float) or not isinstance(wanted, int | float):
            total += 1e6
        elif min(recorded, wanted) <= 0:
            total += abs(recorded - wanted)
        else:
            total += abs(math.log(recorded / wanted))
    return total
