"""What trials of earlier sweeps do to proposals, where that can be said by hand."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from model.config.setting import Value
from sweep.search.acquisition import propose
from sweep.search.coordinates import pool_of
from sweep.search.earlier import (
    BEYOND,
    MERE_NOISE,
    MOST,
    TOO_FAR,
    UNNAMED,
    UNTRAINABLE,
    EarlierSweep,
    EarlierTrial,
    lessons,
)
from sweep.search.kernel import Places
from sweep.search.seen import Seen, learn
from sweep.search.surrogate import Evidence, likeliest
from sweep.space.hyperparameter import Choice, Hyperparameter, Range, as_number
from sweep.space.points import Point, drawn, spread
from sweep.space.settings import SamplerConfig
from sweep.space.space import Space

BEST = 0.01  # rate at which losses are lowest
SAMPLER = SamplerConfig(explore=0.0, cost_weight=0.0, expect=False)
SPACE = Space(
    "rates",
    (
        Hyperparameter("optim.lr", Range(0.001, 0.1, log=True)),
        Hyperparameter("optim.beta2", Range(0.9, 0.999)),
    ),
    {"data.train_tokens": 65_537},
    sampler=SAMPLER,
)


def loss(point: Point, best: float = BEST) -> float:
    return 3.0 + 0.08 * math.log2(as_number(point["optim.lr"]) / best) ** 2


def earlier(best: float = BEST, count: int = 16, **settings: Value) -> EarlierSweep:
    """Trials on another text, whose losses lie half a nat higher."""
    fixed = {"data.train_tokens": 65_537, **settings}
    return EarlierSweep(
        "before",
        tuple(
            EarlierTrial({**fixed, **point}, loss(point, best) + 0.5)
            for point in (drawn(SPACE.hyperparameters, at) for at in spread(count, 2, seed=0))
        ),
    )


def proposed(seen: list[Seen], *sweeps: EarlierSweep) -> Point:
    suggestion = propose(SPACE, seen, np.random.default_rng(0), sweeps)
    assert suggestion is not None
    return suggestion.point


def octaves_off(point: Point, best: float = BEST) -> float:
    return abs(math.log2(as_number(point["optim.lr"]) / best))


def trial(rate: float, best: float = BEST) -> Seen:
    point: dict[str, Value] = {"optim.lr": rate, "optim.beta2": 0.95}
    return Seen(point, loss(point, best))


@pytest.mark.parametrize("best", [0.003, 0.04])
def test_the_first_proposal_is_near_the_best_of_an_earlier_sweep(best: float) -> None:
    assert octaves_off(proposed([], earlier(best)), best) < 0.6 < octaves_off(proposed([]), best)


def test_a_sweep_that_was_elsewhere_is_outvoted_by_a_few_trials() -> None:
    seen = [trial(rate) for rate in (0.002, 0.005, 0.01, 0.02, 0.05)]

    assert octaves_off(proposed(seen, earlier(best=0.08))) < 0.7


def test_nothing_is_expected_to_be_gained_before_a_trial_of_this_sweep_has_ended() -> None:
    """What an earlier sweep reached is no best to improve upon."""
    rng = np.random.default_rng(0)

    first = propose(SPACE, [], rng, (earlier(),))
    later = propose(SPACE, [trial(0.01), trial(0.02)], rng, (earlier(),))

    assert first is not None
    assert later is not None
    assert math.isnan(first.gain)
    assert later.gain > 0


def test_how_alike_an_earlier_sweep_was_is_learned() -> None:
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (60, 1))
    sweeps = np.repeat([1, 0], [36, 24])
    places = Places(x, np.zeros((60, 0), dtype=np.int64), np.zeros(60), np.zeros((60, 0)), sweeps)

    def unlike(moved: float) -> float:
        bottoms = np.where(sweeps == 1, moved, 0.4)
        losses = 0.4 * (x[:, 0] - bottoms) ** 2 + 0.003 * draw.standard_normal(60)
        return float(likeliest(Evidence(places, losses, np.zeros(60))).unlike_S[0])

    assert unlike(moved=-0.9) > 2 * unlike(moved=0.4)


def test_trials_that_mislead_are_left_to_themselves() -> None:
    """Their surface is this one upside down: with it, the losses seen here are unlikely."""
    good = earlier()
    bad = replace(good, trials=tuple(replace(t, loss=8.0 - t.loss) for t in good.trials))
    seen = [trial(rate) for rate in (0.0015, 0.003, 0.006, 0.012, 0.024, 0.048, 0.09)]

    def sweeps_used(sweep: EarlierSweep) -> set[int]:
        taught = lessons(SPACE, (sweep,))
        return set(learn(SPACE, taught.pool, seen, taught.evidence).places.sweeps_N.tolist())

    assert sweeps_used(good) == {0, 1}
    assert sweeps_used(bad) == {0}


def test_what_only_the_earlier_sweep_searched_does_not_blur_what_it_teaches() -> None:
    """Each step of dropout cost it 0.2 nats; here dropout is fixed."""
    sweep = earlier(best=0.03, count=24)
    dropped = tuple(
        EarlierTrial({**t.settings, "gpt.dropout": 0.1 * (n % 4)}, t.loss + 0.2 * (n % 4))
        for n, t in enumerate(sweep.trials)
    )

    assert octaves_off(proposed([], replace(sweep, trials=dropped)), 0.03) < 1.0


def test_values_that_are_not_searched_here_are_kinds_of_their_own() -> None:
    names: tuple[Value, ...] = ("adamw", "muon", "lion")
    space = replace(
        SPACE,
        hyperparameters=(Hyperparameter("optim.name", Choice(names[:2])), *SPACE.hyperparameters),
    )
    trials = [EarlierTrial({"optim.name": name, "optim.lr": 0.01}, 3.0) for name in names]

    taught = lessons(space, (EarlierSweep("before", tuple(trials)),))

    assert taught.trials == (3,)
    assert len(set(taught.evidence.places.kinds_NG[:, 0].tolist())) == 3


def test_trials_that_cannot_be_placed_are_left_out_and_counted() -> None:
    good = earlier(count=4)
    bad = [
        EarlierTrial({}, 3.0),
        EarlierTrial({"optim.lr": -0.01}, 3.0),
        EarlierTrial({"optim.lr": 0.01, "optim.beta2": 0.5}, 3.0),
    ]

    taught = lessons(SPACE, (replace(good, trials=(*good.trials, *bad)),))

    assert taught.trials == (4,)
    assert taught.left_out == (Counter({UNNAMED: 1, UNTRAINABLE: 1, TOO_FAR: 1}),)


def test_of_many_trials_the_best_half_and_some_from_all_over_count() -> None:
    sweep = earlier(count=120)

    taught = lessons(SPACE, (sweep,))

    best = sorted(t.loss for t in sweep.trials)[: MOST // 2]
    assert taught.trials == (MOST,)
    assert taught.left_out == (Counter({BEYOND: 120 - MOST}),)
    assert sum(taught.evidence.losses_N <= best[-1]) >= MOST // 2


def test_losses_that_do_not_follow_from_settings_teach_nothing() -> None:
    """As if an export's column was something else; nothing seen here speaks against it yet."""
    good = earlier()
    losses = np.random.default_rng(1).permutation([t.loss for t in good.trials]).tolist()
    dealt = [replace(t, loss=at) for t, at in zip(good.trials, losses, strict=True)]

    taught = lessons(SPACE, (good, replace(good, trials=tuple(dealt))))

    assert taught.trials == (16, 0)
    assert taught.left_out == (Counter(), Counter({MERE_NOISE: 16}))


def test_a_space_of_its_own_has_the_places_it_had_without_earlier_sweeps() -> None:
    pool, widened = pool_of(SPACE), lessons(SPACE, (earlier(),)).pool

    assert widened.axes == pool.axes
    assert np.array_equal(widened.places.x_ND, pool.places.x_ND)
