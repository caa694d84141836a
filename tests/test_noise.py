"""The deviation between seeds that intervals, noise floors and replays go by."""

from __future__ import annotations

import math

import pytest

from sweep.noise import pooled_deviation


def test_deviations_are_pooled_within_groups_by_their_degrees_of_freedom() -> None:
    """Sums of squares 0.02 with one degree and 2.0 with two; single losses tell nothing."""
    deviation, freedom = pooled_deviation([[3.0, 3.2], [1.0, 2.0, 3.0], [5.0], []])

    assert (deviation, freedom) == (pytest.approx(math.sqrt(2.02 / 3)), 3)


def test_a_loss_that_is_no_number_is_left_out() -> None:
    assert pooled_deviation([[math.inf, 3.0, 3.2, math.nan], [math.inf, 1.0]]) == (
        pytest.approx(0.1 * 2**0.5),
        1,
    )


def test_without_repeats_there_is_no_deviation() -> None:
    deviation, freedom = pooled_deviation([[3.0], []])

    assert math.isnan(deviation)
    assert freedom == 0
