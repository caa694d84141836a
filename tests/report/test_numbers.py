"""What is read off the surface: shares of the variance, what the noise leaves open, gaps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from run_folders import Ended, write_run
from sweeps import make_space

from sweep.journal import read_view
from sweep.report.facts import Facts, facts_of
from sweep.report.importance import importances
from sweep.report.slices import plateaus, rounded, slices_of
from sweep.report.svg import x_axis
from sweep.report.untried import untried
from sweep.search import Landscape
from sweep.space import Point, Space
from sweep.space.points import spread

SPACE = """
name: bowl
search:
  optim.lr: {min: 0.001, max: 0.1, log: true}
  gpt.dropout: {min: 0, max: 0.5}
  train.epochs: [1, 2, 4, 8]
"""


def bowl(folder: Path, count: int = 24) -> Facts:
    """A narrow bowl in the rate, nothing in dropout, and a little for more epochs."""
    made = []
    for lr, drop, epochs in spread(count, 3, seed=3):
        searched = {
            "optim.lr": 0.001 * 100**lr,
            "gpt.dropout": drop / 2,
            "train.epochs": 2 ** int(4 * epochs),
        }
        made.append(Ended(searched, 3 + 2 * (lr - 0.5) ** 2 - 0.02 * int(4 * epochs)))
    return facts_of(
        write_run(folder / "bowl", SPACE, made, noise=0.004),
        read_view(folder / "bowl" / "journal.jsonl"),
    )


def test_the_setting_that_moves_the_loss_has_the_largest_share(tmp_path: Path) -> None:
    surface = bowl(tmp_path).surface
    assert surface is not None

    first, *rest = importances(surface)

    assert first.setting == "optim.lr"
    assert first.total[0] > max(its.total[2] for its in rest)
    for its in (first, *rest):
        assert 0 <= its.total[0] <= its.total[1] <= its.total[2] <= 1
        assert its.alone[1] <= its.total[1]
    assert importances(surface) == [first, *rest]


@dataclass
class Known:
    """A surface that is known for certain, as a function of both settings' shares."""

    space: Space
    loss: Callable[[float, float], float]

    def can_train(self, point: Point) -> bool:
        return True

    def draws(self, points: Sequence[Point], count: int, rng: np.random.Generator) -> np.ndarray:
        at = [(float(p["gpt.dropout"]), float(p["gpt.stochastic_depth"])) for p in points]  # type: ignore[arg-type]
        return np.tile([self.loss(*shares) for shares in at], (count, 1))


@pytest.mark.parametrize(
    ("loss", "alone", "total"),
    [
        (lambda a, b: 3 * a + b, (0.9, 0.1), (0.9, 0.1)),  # variances of 9 to 1
        (lambda a, b: (a - 0.5) * (b - 0.5), (0.0, 0.0), (1.0, 1.0)),  # nothing alone
        (lambda a, b: a, (1.0, 0.0), (1.0, 0.0)),
    ],
    ids=["a sum", "a product", "one of two"],
)
def test_shares_are_those_of_functions_whose_variance_is_known(
    tmp_path: Path,
    loss: Callable[[float, float], float],
    alone: tuple[float, float],
    total: tuple[float, float],
) -> None:
    text = "search: {gpt.dropout: {min: 0, max: 1}, gpt.stochastic_depth: {min: 0, max: 1}}"
    space = make_space(tmp_path, text.replace("max: 1}", "max: 0.9}"))

    shares = {its.setting: its for its in importances(cast(Landscape, Known(space, loss_of(loss))))}

    for place, setting in enumerate(("gpt.dropout", "gpt.stochastic_depth")):
        its = shares[setting]
        assert its.total[1] == pytest.approx(total[place], abs=0.12)
        assert its.alone[1] == pytest.approx(alone[place], abs=0.12)
        assert its.total[0] <= total[place] + 0.01
        assert its.total[2] >= total[place] - 0.01


def loss_of(loss: Callable[[float, float], float]) -> Callable[[float, float], float]:
    """By shares of ranges that end at 0.9."""
    return lambda a, b: loss(a / 0.9, b / 0.9)


def test_a_steep_setting_is_known_closely_and_a_flat_one_hardly(tmp_path: Path) -> None:
    facts = bowl(tmp_path)

    flat = {its.setting: its for its in plateaus(facts, slices_of(facts))}

    rate, dropout = flat["optim.lr"], flat["gpt.dropout"]
    assert 0.004 < rate.low < 0.01 < rate.high < 0.025
    assert dropout.high - dropout.low > 0.2
    assert "are within the noise)" in str(rate)


def test_the_surface_passes_through_what_was_seen_with_its_walls_as_high_as_they_are(
    tmp_path: Path,
) -> None:
    facts = bowl(tmp_path)
    assert facts.surface is not None
    worst = facts.complete[-1]

    mean, low, high = facts.surface.band([worst.searched])

    assert mean[0] == pytest.approx(worst.val_loss, abs=0.1)
    assert low[0] < mean[0] < high[0]
    assert 0 <= facts.surface.gain < 0.05


def test_draws_of_the_surface_have_its_mean_and_its_spread(tmp_path: Path) -> None:
    surface = bowl(tmp_path, count=8).surface
    assert surface is not None
    points = [{"optim.lr": lr, "gpt.dropout": 0.1, "train.epochs": 4} for lr in (0.001, 0.01)]

    draws = surface.draws(points, 4000, np.random.default_rng(0))

    behind, error = surface.behind(points[1:], points[0])
    assert (draws[:, 1] - draws[:, 0]).mean() == pytest.approx(behind[0], abs=0.1 * error[0])
    assert (draws[:, 1] - draws[:, 0]).std() == pytest.approx(error[0], rel=0.1)


@pytest.mark.parametrize(
    ("value", "low", "high", "short"),
    [
        (0.0361, 0.02, 0.06, 0.04),  # one digit is enough
        (0.0361, 0.035, 0.037, 0.036),
        (0.0361, 0.0361, 0.0361, 0.0361),
        (15.53, 13.0, 23.0, 16),
        (8, 4.0, 8.0, 8),
    ],
)
def test_a_value_is_given_with_as_few_digits_as_the_noise_allows(
    value: float, low: float, high: float, short: float
) -> None:
    assert rounded(value, low, high) == short


def test_values_parts_and_pairs_that_no_trial_had_are_named(tmp_path: Path) -> None:
    text = """
search:
  optim.lr: {min: 0.001, max: 0.1, log: true}
  train.epochs: [1, 2, 4]
  optim.name: [adamw, muon]
  gpt.mlp: [gelu, swiglu]
"""
    made = [
        Ended(
            {
                "optim.lr": 0.001 * 1.3**n,
                "train.epochs": 1 + n % 2,
                "optim.name": "muon" if n % 2 else "adamw",
                "gpt.mlp": "gelu" if n % 2 else "swiglu",
            },
            3.0,
        )
        for n in range(9)
    ]
    folder = write_run(tmp_path / "gaps", text, made)

    assert untried(make_space(tmp_path, text), read_view(folder / "journal.jsonl").searches()) == [
        "optim.lr between 0.01 and 0.1",
        "train.epochs 4",
        "optim.name adamw with gpt.mlp gelu",
        "optim.name muon with gpt.mlp swiglu",
    ]


@pytest.mark.parametrize(
    ("values", "log", "texts"),
    [
        ([0, 100], False, ["0", "25", "50", "75", "100"]),
        ([0.001, 0.1], True, ["0.001", "0.002", "0.005", "0.01", "0.02", "0.05", "0.1"]),
        ([2.5, 2.5], False, ["2.4", "2.45", "2.5", "2.55", "2.6"]),
        ([1e12, 1e16], True, ["1e12", "1e13", "1e14", "1e15", "1e16"]),
        ([math.nan], False, None),
        ([math.nan], True, None),
    ],
)
def test_axes_have_round_numbers_whatever_they_show(
    values: list[float], log: bool, texts: list[str] | None
) -> None:
    axis = x_axis("label", values, log)

    told = [text for _, text in axis.ticks()]
    assert told
    assert texts is None or told == texts
