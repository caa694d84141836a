from __future__ import annotations

import math
import random

import numpy as np
import pytest
from fakes import fake_curves

from sweep.search.forecast import (
    Snapshot,
    correct,
    predict,
    ridge,
)

HALF = 4  # index of the mark at half of the schedule


def snapshot(number: int) -> Snapshot:
    curve = CURVES[number]
    return Snapshot(curve.settings, curve.raw[HALF], curve.final)


CURVES = fake_curves()
SHUFFLED = random.Random(1).sample(range(len(CURVES)), len(CURVES))
FINISHED = [snapshot(number) for number in SHUFFLED[:32]]
LEFT_OUT = [snapshot(number) for number in SHUFFLED[32:]]


def error(found: list[float]) -> float:
    finals = np.array([trial.final for trial in LEFT_OUT])
    return float(np.sqrt(np.mean((np.array(found) - finals) ** 2)))


@pytest.mark.parametrize("forecast", [correct, predict])
def test_a_forecast_is_nearer_to_the_end_than_the_loss_now(forecast: object) -> None:
    """Even less the mean drop that remains: drops differ by decay and epochs."""
    found = [forecast(trial, FINISHED).loss for trial in LEFT_OUT]  # type: ignore[operator]
    drop = np.mean([trial.final - trial.now for trial in FINISHED])
    plain = [float(trial.now + drop) for trial in LEFT_OUT]

    assert error(found) < 0.3 * error(plain)


@pytest.mark.parametrize("forecast", [correct, predict])
def test_the_error_of_a_forecast_is_about_what_it_says(forecast: object) -> None:
    told = [forecast(trial, FINISHED) for trial in LEFT_OUT]  # type: ignore[operator]
    within = [
        abs(found.loss - trial.final) < 2 * found.error
        for found, trial in zip(told, LEFT_OUT, strict=True)
    ]

    assert sum(within) >= 0.85 * len(within)


def test_few_finished_trials_make_an_uncertain_forecast() -> None:
    few, many = predict(LEFT_OUT[5], FINISHED[:5]), predict(LEFT_OUT[5], FINISHED)

    assert few.error > many.error


def test_settings_nobody_tried_make_an_uncertain_forecast() -> None:
    strange = Snapshot({**LEFT_OUT[0].settings, "train.epochs": 4096}, LEFT_OUT[0].now)

    assert predict(strange, FINISHED).error > 3 * predict(LEFT_OUT[0], FINISHED).error


def test_a_diverged_trial_has_no_future_and_teaches_nothing() -> None:
    diverged = Snapshot(LEFT_OUT[0].settings, math.inf, math.inf)

    assert predict(diverged, FINISHED).loss == math.inf
    assert predict(LEFT_OUT[1], [*FINISHED, diverged]) == predict(LEFT_OUT[1], FINISHED)


def test_a_forecast_needs_two_finished_trials() -> None:
    with pytest.raises(ValueError, match="needs two finished trials, got 1"):
        predict(LEFT_OUT[0], FINISHED[:1])


def test_settings_that_a_condition_leaves_out_are_no_obstacle() -> None:
    partly = [
        Snapshot({k: v for k, v in trial.settings.items() if i % 2 or k != "optim.lr"}, *ends)
        for i, trial in enumerate(FINISHED)
        for ends in [(trial.now, trial.final)]
    ]

    assert math.isfinite(predict(LEFT_OUT[0], partly).loss)


def test_ridge_finds_a_line_that_is_there() -> None:
    x_NK = np.random.default_rng(0).normal(size=(40, 3))
    value, wrong = ridge(x_NK, 2 + x_NK @ [1.0, -2.0, 0.0], np.array([1.0, 1.0, 1.0]))

    assert value == pytest.approx(1.0, abs=0.02)
    assert wrong < 0.05
