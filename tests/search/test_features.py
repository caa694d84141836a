from __future__ import annotations

import math

import pytest

from model.config.config import MULTIPLIER
from model.config.presets import PRESETS, TIMESCALE
from sweep.search.features import (
    EPOCHS,
    PARAMETERS,
    RATE,
    TAU,
    features,
    in_octaves,
    is_kind,
)


def test_trials_of_equal_rate_times_decay_have_the_same_timescale() -> None:
    one = features({"optim.lr": 0.01, MULTIPLIER: 4.0})
    other = features({"optim.lr": 0.02, MULTIPLIER: 2.0})

    assert one[TAU] == pytest.approx(other[TAU])
    assert other[RATE] == pytest.approx(one[RATE] + 1)


def test_decay_given_as_timescale_is_the_same_coordinate() -> None:
    assert features({TIMESCALE: 0.5})[TAU] == pytest.approx(-1.0)


def test_no_decay_is_a_long_timescale_and_no_infinite_one() -> None:
    found = features({MULTIPLIER: 0.0, "train.epochs": 4})[TAU]

    assert math.isfinite(found)
    assert found > features({MULTIPLIER: 1.0, "train.epochs": 4})[TAU]


def test_the_optima_of_kim_et_al_stay_put_in_timescale_and_rate_times_width() -> None:
    """Their decay varies fourfold over these four networks, their rate threefold."""
    kim = [features(PRESETS[f"kim-{size}"].settings) for size in ("150m", "300m", "600m", "1.4b")]

    for name in (TAU, RATE):
        found = [about[name] for about in kim]
        assert max(found) - min(found) < 1.2, name
    assert kim[0][EPOCHS] == 4
    assert kim[3][PARAMETERS] > kim[0][PARAMETERS]


def test_a_rate_that_scales_with_the_matrix_counts_without_the_width() -> None:
    shape = {"optim.name": "muon", "optim.muon_scale": "shape"}

    assert features({**shape, "gpt.width": 64})[RATE] == features({**shape, "gpt.width": 256})[RATE]
    assert features({"gpt.width": 64})[RATE] < features({"gpt.width": 256})[RATE]


def test_other_searched_settings_get_coordinates_of_their_own() -> None:
    searched = ["optim.name", "gpt.dropout", "optim.rest_lr", "optim.lr"]
    found = features({"optim.name": "muon", "gpt.dropout": 0.1, "optim.rest_lr": 0.25}, searched)

    assert found["optim.name=muon"] == 1
    assert found["gpt.dropout"] == pytest.approx(0.1)
    assert found["optim.rest_lr"] == -2
    assert "optim.lr" not in found
    assert is_kind("optim.name=muon")
    assert in_octaves("optim.rest_lr")
    assert in_octaves(TAU)
    assert not in_octaves("gpt.dropout")
