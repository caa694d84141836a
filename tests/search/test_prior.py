from __future__ import annotations

from dataclasses import replace

from model.config.config import MULTIPLIER, Config
from sweep.search.features import features
from sweep.search.prior import expectation
from sweep.space.hyperparameter import Choice, Hyperparameter, Range
from sweep.space.points import Point
from sweep.space.space import Space

HYPERPARAMETERS = (
    Hyperparameter("train.epochs", Choice((1, 2, 4, 8, 16, 32))),
    Hyperparameter("gpt.scale", Choice((0.5, 1.0, 4.0))),
    Hyperparameter("optim.lr", Range(0.001, 0.1, log=True)),
    Hyperparameter(MULTIPLIER, Range(0.5, 200.0, log=True)),
)
SPACE = Space("small", HYPERPARAMETERS, {"data.train_tokens": 65_537})


def rises(space: Space, *points: Point) -> list[float]:
    return expectation([features({**space.fixed, **point}) for point in points])[0].tolist()


def test_the_best_is_expected_where_the_field_found_it() -> None:
    """At the same rate: decay a few octaves off, or few epochs, are expected to be worse."""
    point = {"train.epochs": 16, "gpt.scale": 1.0, "optim.lr": 0.016}
    steps = Config.from_settings({**SPACE.fixed, **point}).steps_per_epoch
    best = 1 / (0.29 * 0.016 * 0.1 * steps)
    there, strong, weak = ({**point, MULTIPLIER: best * factor} for factor in (1.0, 8.0, 1 / 8))
    short = {**there, "train.epochs": 2}

    at_best, *elsewhere = rises(SPACE, there, strong, weak, short)

    assert at_best < 0.001
    assert min(elsewhere) > 0.1


def test_nothing_is_expected_of_text_in_plenty() -> None:
    plenty = replace(SPACE, fixed={"data.train_tokens": 500_000_000})
    point = {"train.epochs": 1, "gpt.scale": 0.5, "optim.lr": 0.016, MULTIPLIER: 1.0}

    assert rises(plenty, point) == [0.0]
    assert rises(SPACE, point)[0] > 0.1
