"""Where the user expects the best is tried first, and counts as far as the trials let it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from model.config.config import MULTIPLIER
from sweep.search.acquisition import propose
from sweep.search.coordinates import pool_of
from sweep.search.seen import Seen
from sweep.space.hyperparameter import Choice, Hyperparameter, Prior, Range
from sweep.space.points import Point
from sweep.space.settings import SamplerConfig
from sweep.space.space import Space

RATES = tuple(0.001 * 2 ** (n / 2) for n in range(14))  # to 0.09
BEST = RATES[9]  # 0.023
FIELD = SamplerConfig(explore=0.0)
NO_FIELD = SamplerConfig(explore=0.0, expect=False)


def space_with(prior: Prior | None, sampler: SamplerConfig = NO_FIELD) -> Space:
    hyperparameters = (
        Hyperparameter("optim.lr", Choice(RATES), prior=prior),
        Hyperparameter("gpt.dropout", Choice((0.0, 0.1, 0.2, 0.3))),
    )
    return Space("rates", hyperparameters, {"train.epochs": 4}, sampler=sampler)


def loss(point: Point) -> float:
    octaves = math.log2(float(point["optim.lr"]) / BEST)
    return 3 + 0.06 * octaves**2 + (float(point["gpt.dropout"]) - 0.1) ** 2


def searched(space: Space, trials: int) -> list[Point]:
    rng, seen = np.random.default_rng(0), list[Seen]()
    for _ in range(trials):
        suggestion = propose(space, seen, rng)
        assert suggestion is not None
        seen.append(Seen(suggestion.point, loss(suggestion.point)))
    return [trial.point for trial in seen]


def expected(space: Space, *points: Point) -> list[float]:
    rises = pool_of(space).place(points).expected_N
    return [float(rise) for rise in rises - rises[0]]


@pytest.mark.parametrize("sampler", [FIELD, NO_FIELD])
def test_the_first_proposals_lie_near_where_the_user_expects_the_best(
    sampler: SamplerConfig,
) -> None:
    """Without a prior the ends of the range come first."""
    points = searched(space_with(Prior(BEST, 2.0, factor=True), sampler), 4)
    without = searched(space_with(None, sampler), 4)

    def octaves(point: Point) -> float:
        return abs(math.log2(float(point["optim.lr"]) / BEST))

    assert max(map(octaves, points)) <= 2
    assert max(map(octaves, without)) > 2


@pytest.mark.parametrize("sampler", [FIELD, NO_FIELD])
def test_trials_outweigh_a_prior_that_is_wrong(sampler: SamplerConfig) -> None:
    """The best is 16 times where the user was sure to find it."""
    points = searched(space_with(Prior(RATES[1], 1.5, factor=True), sampler), 14)

    assert min(map(loss, points)) < 3.03


def test_losses_are_expected_to_rise_with_the_distance_in_units_of_within() -> None:
    space = space_with(Prior(RATES[6], 2.0, factor=True))
    at, half, double, far = ({"optim.lr": RATES[n], "gpt.dropout": 0.1} for n in (6, 4, 8, 12))

    _, below, above, beyond = expected(space, at, half, double, far)

    assert below == pytest.approx(above)
    assert 0.03 < above < 0.05 < beyond
    doubts = pool_of(space).place([at, double]).doubt_NB
    assert doubts[0].tolist() == [0.0, 0.0]
    assert (doubts[1] > 0.03).all()


def test_a_prior_of_what_has_no_order_favours_one_value() -> None:
    kinds = Hyperparameter("optim.name", Choice(("adamw", "muon", "lion")), prior=Prior("muon"))
    space = replace(space_with(None), hyperparameters=(kinds,))

    _, adamw, lion = expected(space, *({"optim.name": name} for name in ("muon", "adamw", "lion")))

    assert adamw == lion > 0.03


def test_a_prior_holds_where_its_condition_does() -> None:
    rates = Range(0.001, 0.1, log=True)
    hyperparameters = (
        Hyperparameter("optim.name", Choice(("adamw", "muon"))),
        Hyperparameter("optim.lr", rates, (("optim.name", ("adamw",)),)),
        Hyperparameter(
            "optim.lr", rates, (("optim.name", ("muon",)),), prior=Prior(0.05, 2.0, factor=True)
        ),
    )
    space = replace(space_with(None), hyperparameters=hyperparameters)
    low, high = ({"optim.lr": lr} for lr in (0.005, 0.05))

    assert expected(space, {"optim.name": "adamw"} | high, {"optim.name": "adamw"} | low)[1] == 0
    assert expected(space, {"optim.name": "muon"} | high, {"optim.name": "muon"} | low)[1] > 0.1


def test_the_users_word_on_decay_or_epochs_replaces_that_of_the_field() -> None:
    """At a rate of 0.01, 16 times the usual decay and 2 epochs are far from the field's optima."""
    epochs = Choice((2, 16))
    decays = Range(0.5, 200.0, log=True)
    point = {"optim.lr": 0.01, "train.epochs": 2, MULTIPLIER: 1.0}
    rates = Hyperparameter("optim.lr", Range(0.001, 0.1, log=True))

    def rise(decay: Prior | None, count: Prior | None) -> float:
        hyperparameters = (
            rates,
            Hyperparameter("train.epochs", epochs, prior=count),
            Hyperparameter(MULTIPLIER, decays, prior=decay),
        )
        space = Space("decay", hyperparameters, {"data.train_tokens": 65_537}, sampler=FIELD)
        return float(pool_of(space).place([point]).expected_N[0])

    stated = Prior(1.0, 4.0, factor=True), Prior(2, 2.0, factor=True)
    assert rise(*stated) == 0
    assert 0 < rise(stated[0], None) < rise(None, None)
    assert 0 < rise(None, stated[1]) < rise(None, None)


def test_the_users_rate_stands_for_decay_where_only_the_rate_moves_it() -> None:
    space = space_with(Prior(BEST, 2.0, factor=True), FIELD)
    point = {"optim.lr": BEST, "gpt.dropout": 0.1}

    placed = pool_of(replace(space, fixed={"train.epochs": 16})).place([point])

    assert placed.expected_N.tolist() == [0.0]
