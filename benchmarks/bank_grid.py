"""The grid of a bank: its runs, the order they are trained in, and which get more seeds."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from model.config.config import MULTIPLIER
from model.config.setting import Value

SEED = "train.seed"
SEEDS = 3  # of each repeated cell, the grid's own included
BEST = 6  # so many of the best cells are repeated

Cell = Mapping[str, Value]


@dataclass(frozen=True)
class Grid:
    """What is trained: settings that all runs share, and the values of those that differ."""

    shared: Mapping[str, Value]
    epochs: tuple[int, ...]
    scales: tuple[float, ...]
    decays: tuple[float, ...]
    rates: Mapping[str, tuple[float, ...]]  # peak learning rates by optimizer


SHARED: Mapping[str, Value] = {
    "gpt.context": 64,
    "train.evals": 20,
    "train.ema_epochs": 0.3,
    "train.evaluate": "raw",
    "train.log_probs": "no",
}
GRIDS = {
    "small": Grid(
        shared={
            **SHARED,
            "data.tokenizer": "bpe",
            "data.vocabulary": 1024,
            "data.train_tokens": 24_577,
            "data.val_tokens": 4_097,
            "data.test_tokens": 4_097,
            "gpt.layers": 2,
            "gpt.width": 64,
            "optim.rest_lr": 0.016,
            "train.batch_tokens": 512,
            "train.precision": "fp32",
            "train.compile": "no",
        },
        epochs=(2, 4, 8, 16),
        scales=(0.5, 1.0, 2.0),
        decays=(2.0, 6.0, 18.0, 54.0),
        rates={"adamw": (0.008, 0.016), "muon": (0.016, 0.032)},
    ),
    "large": Grid(
        shared={
            **SHARED,
            "data.tokenizer": "gpt2",
            "data.train_tokens": 800_000,
            "data.val_tokens": 65_537,
            "data.test_tokens": 65_537,
            "gpt.layers": 6,
            "gpt.width": 384,
            "gpt.head_width": 64,
            "gpt.context": 256,
            "optim.rest_lr": 0.004,
            "train.batch_tokens": 8_192,
        },
        epochs=(2, 4, 8, 16),
        scales=(0.5, 1.0, 4.0),
        decays=(2.0, 6.0, 18.0, 54.0),
        rates={"adamw": (0.002, 0.004), "muon": (0.004, 0.008)},
    ),
}


def cells(grid: Grid) -> list[dict[str, Value]]:
    """Every cell once, in rounds: each has every length and size once, with recipes all different.

    A recipe is an optimizer, a rate and a decay. Wherever training stops, all of them are there
    nearly as often.
    """
    recipes = [
        (name, rate, decay)
        for name, rates in grid.rates.items()
        for rate, decay in product(rates, grid.decays)
    ]
    shapes = list(product(grid.epochs, grid.scales))
    ahead = random.Random(0).sample(range(len(recipes)), len(shapes))
    return [
        {
            "train.epochs": epochs,
            "gpt.scale": scale,
            "optim.name": name,
            "optim.lr": rate,
            MULTIPLIER: decay,
            SEED: 0,
        }
        for turn in range(len(recipes))
        for (epochs, scale), by in zip(shapes, ahead, strict=True)
        for name, rate, decay in [recipes[(turn + by) % len(recipes)]]
    ]


def repeats(grid: Grid, finals: Mapping[str, float]) -> list[dict[str, Value]]:
    """More seeds of the first round, which spans the grid, and of the best of those in `finals`."""
    every = cells(grid)
    spanning = every[: len(grid.epochs) * len(grid.scales)]
    best = sorted((cell for cell in every if title(cell) in finals), key=lambda c: finals[title(c)])
    chosen = [*(cell for cell in best[:BEST] if cell not in spanning), *spanning]
    return [{**cell, SEED: seed} for seed in range(1, SEEDS) for cell in chosen]


def title(cell: Cell) -> str:
    """Names a run's files."""
    return "-".join(f"{v:g}" if isinstance(v, float) else str(v) for v in cell.values())
