from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from fakes import fake_curves
from hypothesis import given
from hypothesis import strategies as st

from model.config import Value
from sweep.search.forecast import Forecast, Snapshot, expected_final

HALF = 4  # index of the mark at half of the schedule
CURVES = fake_curves()
SHUFFLED = random.Random(1).sample(CURVES, len(CURVES))
EVERY = [Snapshot(c.settings, c.raw[HALF], c.final) for c in SHUFFLED]
FINISHED, LEFT_OUT = EVERY[:32], EVERY[32:]


def expected(trial: Snapshot, finished: list[Snapshot]) -> Forecast:
    forecast = expected_final(trial, finished)
    assert forecast is not None
    return forecast


def test_a_forecast_is_nearer_to_the_end_than_the_loss_now() -> None:
    """Even less the mean drop that remains: drops differ by decay and epochs."""
    drop = np.mean([trial.final - trial.now for trial in FINISHED])
    wrong = [expected(trial, FINISHED).loss - trial.final for trial in LEFT_OUT]
    plain = [trial.now + drop - trial.final for trial in LEFT_OUT]

    assert np.linalg.norm(wrong) < 0.1 * np.linalg.norm(plain)


def test_the_error_of_a_forecast_is_about_what_it_says() -> None:
    """The standard deviation of surprises is near 1, also after few trials."""
    draw = random.Random(5)
    every = [_bowl(draw) for _ in range(80)]
    for count in (10, 20, 40):
        surprises = [
            (forecast.loss - trial.final) / forecast.error
            for trial in every[40:]
            if (forecast := expected_final(trial, every[:count]))
        ]

        assert len(surprises) > 20
        assert 0.25 < float(np.sqrt(np.mean(np.square(surprises)))) < 1.4


def test_no_forecast_is_surer_than_seeds_differ() -> None:
    again = [replace(trial, final=trial.now - 1) for trial in FINISHED]

    assert expected(LEFT_OUT[0], again).error >= 0.004


def test_nothing_is_expected_of_a_cycle_by_trials_that_have_none() -> None:
    cycles = {"optim.schedule": "cyclic", "optim.cycles": 4}
    falls_once = [replace(s, settings={**s.settings, "optim.schedule": "linear"}) for s in FINISHED]
    cyclic = [replace(s, settings={**s.settings, **cycles}) for s in FINISHED]
    one = replace(LEFT_OUT[0], settings={**LEFT_OUT[0].settings, **cycles})

    assert expected_final(one, falls_once) is None
    assert expected(one, [*falls_once, *cyclic]) == expected(one, cyclic)


def test_few_finished_trials_make_an_uncertain_forecast() -> None:
    assert expected(LEFT_OUT[5], FINISHED[:8]).error > expected(LEFT_OUT[5], FINISHED).error


def test_a_diverged_trial_has_no_future_and_teaches_nothing() -> None:
    diverged = Snapshot(LEFT_OUT[0].settings, math.inf, math.inf)

    assert expected(diverged, FINISHED).loss == math.inf
    assert expected(LEFT_OUT[1], [*FINISHED, diverged]) == expected(LEFT_OUT[1], FINISHED)


@pytest.mark.parametrize(
    "otherwise",
    [
        {"train.epochs": 4096},  # far outside
        {"optim.name": "lion"},  # a value that none had
        {"gpt.dropout": 0.2},  # a setting that none had
        {"optim.lr": None},  # without one that all had
    ],
)
def test_what_no_finished_trial_was_like_has_no_forecast(otherwise: dict[str, Value]) -> None:
    settings = {**LEFT_OUT[0].settings, **otherwise}
    strange = {name: value for name, value in settings.items() if value is not None}

    assert expected_final(replace(LEFT_OUT[0], settings=strange), FINISHED) is None
    assert expected_final(LEFT_OUT[0], FINISHED)


def test_a_value_is_known_once_two_finished_trials_had_it() -> None:
    def drops_out(trial: Snapshot) -> Snapshot:
        return replace(trial, settings={**trial.settings, "gpt.norm": "layer"})

    plain = [replace(t, settings={**t.settings, "gpt.norm": "rms"}) for t in FINISHED]

    assert expected_final(drops_out(LEFT_OUT[0]), [drops_out(plain[0]), *plain[1:]]) is None
    assert expected_final(drops_out(LEFT_OUT[0]), [*map(drops_out, plain[:2]), *plain[2:]])


def test_seeds_are_no_novelty() -> None:
    other = replace(LEFT_OUT[0], settings={**LEFT_OUT[0].settings, "train.seed": 77})

    assert expected_final(other, FINISHED) == expected_final(LEFT_OUT[0], FINISHED)


def test_too_few_finished_trials_expect_nothing() -> None:
    assert expected_final(LEFT_OUT[0], FINISHED[:2]) is None


def test_settings_that_a_condition_leaves_out_are_no_obstacle() -> None:
    partly = [
        replace(trial, settings={k: v for k, v in trial.settings.items() if i % 2 or k != RATE})
        for i, trial in enumerate(FINISHED)
    ]

    assert math.isfinite(expected(LEFT_OUT[0], partly).loss)


RATE = "optim.lr"


@given(number=st.integers(0, len(LEFT_OUT) - 1), order=st.randoms(use_true_random=False))
def test_the_order_of_finished_trials_is_irrelevant(number: int, order: random.Random) -> None:
    shuffled = order.sample(FINISHED[:12], 12)
    forecasts = [expected_final(LEFT_OUT[number], f) for f in (FINISHED[:12], shuffled)]

    assert forecasts[0] == forecasts[1]


def test_a_thousand_finished_trials_are_as_good_as_their_best() -> None:
    """Forecasts rest on a part of them; what they know stays exact near the best."""
    draw = random.Random(3)
    many = [_bowl(draw) for _ in range(600)]
    best = sorted(many, key=lambda trial: trial.final)[:20]
    rest = [trial for trial in many if trial not in best]
    wrong = [expected(trial, rest).loss - trial.final for trial in best]

    assert float(np.sqrt(np.mean(np.square(wrong)))) < 0.02


def _bowl(draw: random.Random) -> Snapshot:
    """A trial in six settings of which two matter; strong decay has more to fall."""
    settings: dict[str, Value] = {
        "optim.lr": 2.0 ** draw.uniform(-9, -5),
        "optim.weight_decay_multiplier": 2.0 ** draw.uniform(0, 5),
        **{name: draw.uniform(0.8, 0.99) for name in ("optim.beta1", "optim.beta2")},
        "optim.grad_clip": draw.uniform(0.5, 2),
        "gpt.dropout": draw.choice([0.0, 0.1, 0.2]),
    }
    rate, decay = (math.log2(float(settings[name])) for name in [*settings][:2])  # type: ignore[arg-type]
    final = 3 + 0.05 * (rate + 7) ** 2 + 0.03 * (decay - 2) ** 2 + draw.gauss(0, 0.004)
    return Snapshot(settings, final + 0.3 + 0.04 * decay + draw.gauss(0, 0.004), final)
