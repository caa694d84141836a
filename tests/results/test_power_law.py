from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.results.power_law import PowerLaw, fit_law, fit_laws, misfit

BASE = 209_715_200  # tokens of Kim et al.'s smallest corpus
KIM = PowerLaw(1.92, (3.74974 - 1.92) * BASE**0.232, 0.232)  # through their standard recipe's loss


@pytest.mark.parametrize(("loss", "expected"), [(3.43, 2.29), (3.17, 5.17), (3.74974, 1.0)])
def test_kims_multipliers_come_out_of_inverting_the_law(loss: float, expected: float) -> None:
    assert KIM.reach(loss) / BASE == pytest.approx(expected, abs=0.005)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 3), st.floats(0.1, 1.0), st.floats(0.3, 3), st.integers(4, 8))
def test_a_law_fitted_to_exact_points_recovers_its_constants(
    floor: float, exponent: float, above: float, count: int
) -> None:
    law = PowerLaw(floor, above * 1e6**exponent, exponent)
    points = [(1e6 * 2**i, law.loss(1e6 * 2**i)) for i in range(count)]

    fitted = fit_law(points)

    assert fitted is not None
    assert fitted.exponent == pytest.approx(exponent, rel=1e-2)
    assert fitted.floor == pytest.approx(floor, abs=1e-2)
    assert misfit(fitted, points) < 1e-4


def test_one_odd_point_does_not_bend_the_law() -> None:
    points = [(BASE * 2.0**i, KIM.loss(BASE * 2.0**i)) for i in range(8)]
    points[3] = (points[3][0], points[3][1] + 0.2)

    fitted = fit_law(points)

    assert fitted is not None
    assert fitted.exponent == pytest.approx(0.232, abs=0.01)
    assert misfit(fitted, points) == pytest.approx(0.2, abs=0.01)


def test_no_law_rises_with_data() -> None:
    """Draws of a noisy baseline may; the law nearest to them is flat."""
    _, scale_B, _ = fit_laws(np.array([1e6, 2e6, 4e6]), np.array([[2.0, 2.5, 3.0]]))

    assert scale_B[0] == 0


def test_a_loss_that_no_data_reaches_needs_endless_data() -> None:
    assert KIM.reach(1.92) == math.inf
    assert math.isnan(KIM.reach(math.nan))


@pytest.mark.parametrize("points", [[(1, 3.0), (2, 2.5)], [(1, 3.0), (2, 3.1), (4, 3.0)]])
def test_too_few_points_or_none_that_fall_have_no_law(points: list[tuple[float, float]]) -> None:
    assert fit_law(points) is None


def test_a_power_law_without_floor_is_found_where_the_curve_steepens() -> None:
    """Nothing predicts text below zero nats: the floor stays there."""
    fitted = fit_law([(1e5, 3.18), (2e5, 2.96), (4e5, 2.71), (8e5, 2.39)])

    assert fitted is not None
    assert fitted.floor == 0
