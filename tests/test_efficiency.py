from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.efficiency import falling, measured, multiplier

# Best of sizes at each token count, from the data-efficiency table of qlabs-eng/slowrun.
SLOWRUN = [
    (200e6, 3.703),
    (400e6, 3.370),
    (600e6, 3.200),
    (800e6, 3.123),
    (1000e6, 3.046),
    (2000e6, 2.892),
]


@pytest.mark.parametrize(
    ("loss", "expected"), [(3.402, "3.81x"), (3.264, "5.25x"), (3.195, "6.13x"), (2.987, "13.83x")]
)
def test_slowruns_published_multipliers_come_out(loss: float, expected: str) -> None:
    assert str(multiplier(loss, SLOWRUN, 100_000_000)) == expected


def test_outside_the_measured_points_the_side_is_told() -> None:
    baseline = [(100, 3.0), (200, 2.5), (800, 2.0)]

    assert str(multiplier(3.1, baseline, 100)) == "<1x"
    assert str(multiplier(1.9, baseline, 100)) == ">8x"
    assert str(multiplier(math.nan, baseline, 100)) == "<1x"
    assert multiplier(1.9, baseline, 100).value == 8


def test_a_measured_point_is_worth_itself() -> None:
    baseline = [(100, 3.0), (200, 2.5), (800, 2.0)]

    assert [str(multiplier(loss, baseline, 100)) for _, loss in baseline] == [
        "1.00x",
        "2.00x",
        "8.00x",
    ]


def test_noise_upwards_does_not_make_more_data_worse() -> None:
    assert falling([(1, 3.0), (2, 3.1), (4, 2.5)]) == [(1, 3.0), (2, 3.0), (4, 2.5)]
    assert str(multiplier(3.0, [(1, 3.0), (2, 3.1), (4, 2.5)], 1)) == "1.00x"


def test_unmeasured_points_are_left_out() -> None:
    assert measured([(2, 2.0), (1, 3.0), (4, math.nan)]) == [(1, 3.0), (2, 2.0)]


@given(
    st.lists(st.floats(1, 5), min_size=1, max_size=6),
    st.floats(0.5, 6),
    st.floats(0.5, 6),
)
def test_a_lower_loss_is_never_worth_less(losses: list[float], a: float, b: float) -> None:
    baseline = [(100.0 * 2**i, loss) for i, loss in enumerate(losses)]

    low, high = (multiplier(loss, baseline, 100) for loss in sorted((a, b)))

    assert low.value >= high.value
