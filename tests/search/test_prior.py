from __future__ import annotations

from dataclasses import replace

from model.config.config import MULTIPLIER, Config
from model.config.presets import TIMESCALE
from sweep.search.prior import PUBLISHED, expected_rise, first_points
from sweep.space.hyperparameter import Choice, Hyperparameter, Range
from sweep.space.space import Space

HYPERPARAMETERS = (
    Hyperparameter("train.epochs", Choice((1, 2, 4, 8, 16, 32))),
    Hyperparameter("gpt.scale", Choice((0.5, 1.0, 4.0))),
    Hyperparameter("optim.lr", Range(0.001, 0.1, log=True)),
    Hyperparameter(MULTIPLIER, Range(0.5, 200.0, log=True)),
)
SPACE = Space("small", HYPERPARAMETERS, {"data.train_tokens": 65_537})


def test_published_decay_is_a_timescale_of_a_quarter_to_half_an_epoch() -> None:
    """Literature: within 0.195 and 0.52 epochs over all of Kim et al.'s 16 cells."""
    assert len(PUBLISHED) == 17
    assert all(0.19 < fact.timescale < 0.53 for fact in PUBLISHED)


def test_first_points_lie_inside_the_space() -> None:
    points = first_points(SPACE)

    assert 1 <= len(points) <= 3
    for point in points:
        assert point.keys() == {hp.setting for hp in HYPERPARAMETERS}
        assert all(hp.domain.has(point[hp.setting]) for hp in HYPERPARAMETERS)


def test_they_have_the_published_timescale_at_the_space_s_own_batches() -> None:
    for point in first_points(SPACE):
        config = Config.from_settings({**SPACE.fixed, **point})
        assert 0.15 < config.optim.decay_timescale < 0.7


def test_decay_searched_as_timescale_is_taken_over_as_such() -> None:
    hyperparameters = (*HYPERPARAMETERS[:3], Hyperparameter(TIMESCALE, Range(0.05, 5.0, log=True)))

    points = first_points(replace(SPACE, hyperparameters=hyperparameters))

    assert points
    assert all(0.19 < float(point[TIMESCALE]) < 0.53 for point in points)  # type: ignore[arg-type]


def test_text_in_plenty_has_no_prior_from_scarce_text() -> None:
    """A thousand times the text in as many batches: only tokens per parameter differ."""
    plenty = {"data.train_tokens": 65_536_001, "train.batch_tokens": 1_024_000}

    assert first_points(replace(SPACE, fixed=plenty)) == ()


def test_a_single_epoch_has_no_prior_from_many() -> None:
    hyperparameters = (Hyperparameter("train.epochs", Choice((1, 2))), *HYPERPARAMETERS[1:])

    assert first_points(replace(SPACE, hyperparameters=hyperparameters)) == ()


def test_decay_that_is_not_searched_near_the_published_has_no_prior() -> None:
    hyperparameters = (*HYPERPARAMETERS[:3], Hyperparameter(MULTIPLIER, Choice((0.5, 1.0))))

    assert first_points(replace(SPACE, hyperparameters=hyperparameters)) == ()


def test_an_optimizer_nobody_published_gets_none() -> None:
    fixed = {**SPACE.fixed, "optim.name": "lion"}

    assert first_points(replace(SPACE, fixed=fixed)) == ()


def test_the_best_is_expected_where_the_field_found_it() -> None:
    """At the same rate: decay a few octaves off, or few epochs, are expected to be worse."""
    point = {"train.epochs": 16, "gpt.scale": 1.0, "optim.lr": 0.016}
    steps = Config.from_settings({**SPACE.fixed, **point}).steps_per_epoch
    best = 1 / (0.29 * 0.016 * 0.1 * steps)
    there, strong, weak = ({**point, MULTIPLIER: best * factor} for factor in (1.0, 8.0, 1 / 8))
    short = {**there, "train.epochs": 2}

    found = expected_rise(SPACE, [there, strong, weak, short])

    assert found[0] < 0.001
    assert min(found[1:]) > 0.1


def test_nothing_is_expected_of_text_in_plenty() -> None:
    plenty = replace(SPACE, fixed={"data.train_tokens": 500_000_000})
    point = {"train.epochs": 1, "gpt.scale": 0.5, "optim.lr": 0.016, MULTIPLIER: 1.0}

    assert expected_rise(plenty, [point]) == [0.0]
    assert expected_rise(SPACE, [point])[0] > 0.1
