from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.records import BaselineRun
from sweep.results.efficiency import (
    best_of_sizes,
    falling,
    multiplier,
    within,
)
from sweep.space.baseline import SLOWRUN, table_runs

SLOWRUN_CURVE = best_of_sizes(table_runs([SLOWRUN]))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (3.402, "3.81x"),
        (3.264, "5.25x"),
        (3.195, "6.13x"),
        (2.987, "13.83x"),
        (3.166, "6.88x"),
        (3.045, "10.06x"),
        (3.71, "<2x"),
        (2.89, ">20x"),
    ],
)
def test_slowruns_published_multipliers_come_out(loss: float, expected: str) -> None:
    assert str(multiplier(loss, SLOWRUN_CURVE, 100_000_000)) == expected


def test_slowruns_curve_is_the_best_of_its_sizes() -> None:
    assert SLOWRUN_CURVE[:2] == [(200_000_000, 3.703), (400_000_000, 3.370)]


def test_outside_the_measured_points_the_side_is_told() -> None:
    baseline = [(100, 3.0), (200, 2.5), (800, 2.0)]

    assert str(multiplier(3.1, baseline, 100)) == "<1x"
    assert str(multiplier(1.9, baseline, 100)) == ">8x"
    assert str(multiplier(math.nan, baseline, 100)) == "<1x"
    assert multiplier(1.9, baseline, 100).value == 8
    assert [str(within(n, baseline, 100)) for n in (99, 150, 900)] == ["<1x", "1.50x", ">8x"]


def test_a_measured_point_is_worth_itself() -> None:
    baseline = [(100, 3.0), (200, 2.5), (800, 2.0)]

    assert [str(multiplier(loss, baseline, 100)) for _, loss in baseline] == [
        "1.00x",
        "2.00x",
        "8.00x",
    ]
    assert [str(within(n, baseline, 100)) for n, _ in baseline] == ["1.00x", "2.00x", "8.00x"]


def test_noise_upwards_does_not_make_more_data_worse() -> None:
    assert falling([(1, 3.0), (2, 3.1), (4, 2.5)]) == [(1, 3.0), (2, 3.0), (4, 2.5)]
    assert str(multiplier(3.0, [(1, 3.0), (2, 3.1), (4, 2.5)], 1)) == "1.00x"


def test_repeats_are_averaged_before_the_best_size_is_chosen() -> None:
    """The luckiest of several seeds would make the baseline too strong."""
    runs = [BaselineRun(1, 3.0, 0.5), BaselineRun(1, 3.4, 0.5), BaselineRun(1, 3.1, 2.0)]

    assert best_of_sizes([*runs, BaselineRun(2, math.nan)]) == [(1, 3.1)]


@given(
    st.lists(st.floats(1, 5), min_size=1, max_size=6),
    st.floats(0.5, 6),
    st.floats(0.5, 6),
)
def test_a_lower_loss_is_never_worth_less(losses: list[float], a: float, b: float) -> None:
    baseline = [(100.0 * 2**i, loss) for i, loss in enumerate(losses)]

    low, high = (multiplier(loss, baseline, 100) for loss in sorted((a, b)))

    assert low.value >= high.value
