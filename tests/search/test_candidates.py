"""Where the next trial may be looked for."""

from __future__ import annotations

import numpy as np
import pytest

from model.config.config import MULTIPLIER
from sweep.search.candidates import Source
from sweep.search.coordinates import DRAWN, flops_of, pool_of
from sweep.search.seen import OPEN, Seen, learn
from sweep.search.surrogate import USED
from sweep.space.hyperparameter import Choice, Hyperparameter, Range
from sweep.space.points import drawn, spread
from sweep.space.space import Space

RANGES = Space(
    "ranges",
    (
        Hyperparameter("optim.lr", Range(0.001, 0.1, log=True)),
        Hyperparameter(MULTIPLIER, Range(1.0, 64.0, log=True)),
        Hyperparameter("gpt.mlp", Choice(("gelu", "relu2", "swiglu"))),
    ),
    {"data.train_tokens": 32_769},
)
LISTS = Space("lists", (Hyperparameter("train.epochs", Choice((1, 2, 4))),))


def test_the_pool_of_a_small_space_is_all_of_it_and_nothing_moves() -> None:
    source = Source(LISTS, pool_of(LISTS), [Seen({"train.epochs": 2}, 3.0)])

    assert not source.moves
    assert [p["train.epochs"] for p in source.pool().points] == [1, 4]


def test_a_small_space_that_was_tried_whole_is_open_again() -> None:
    seen = [Seen({"train.epochs": n}, 3.0) for n in (1, 2, 4)]

    assert len(Source(LISTS, pool_of(LISTS), seen).pool()) == 3


def test_steps_stay_in_the_space_can_be_trained_and_are_new() -> None:
    centre = {"optim.lr": 0.1, MULTIPLIER: 64.0, "gpt.mlp": "relu2"}
    source = Source(RANGES, pool_of(RANGES), [Seen(centre, 3.0)])

    near = source.near([centre], 64, np.random.default_rng(0))

    assert len(near) > 32
    assert centre not in near.points
    for point, flops in zip(near.points, near.flops_C, strict=True):
        assert all(hp.domain.has(point[hp.setting]) for hp in RANGES.hyperparameters)
        assert flops == flops_of(RANGES, point) > 0
    assert {point["gpt.mlp"] for point in near.points} == {"gelu", "relu2", "swiglu"}
    rates = [point["optim.lr"] for point in near.points]
    assert 8 < sum(rate == pytest.approx(0.1, rel=1e-6) for rate in rates) < len(rates)


def test_the_surface_goes_through_so_many_trials_however_many_there_are() -> None:
    pool, draw = pool_of(RANGES), np.random.default_rng(0)
    points = [drawn(RANGES.hyperparameters, share) for share in spread(USED + 100, 3, seed=1)]
    ended = [Seen(point, float(3 + draw.random())) for point in points]
    running = [Seen(point, None, running=True) for point in pool.points[: OPEN + 20]]

    surrogate = learn(RANGES, pool, ended + running)

    assert len(pool.points) == DRAWN
    assert surrogate.ended == USED + OPEN
    best = min(ended, key=lambda s: s.loss or 0.0)
    assert float(surrogate.mean(pool.place([best.point]))[0]) == pytest.approx(3.0, abs=0.5)
