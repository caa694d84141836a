"""The kernel of the loss surface, against differences and sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.search.kernel import Kernel, Places, Scales, covariance, variance

AXES, GROUPS = 3, 2
LOGS = np.log([0.4, 0.5, 0.02, 0.8, 0.7, 0.8, 1.1, 0.6, 0.4])


def places(count: int) -> Places:
    draw = np.random.default_rng(0)
    return Places(
        draw.uniform(-1, 1, (count, AXES)),
        draw.integers(0, 2, (count, GROUPS)),
        np.zeros(count),
        0.05 * draw.standard_normal((count, 1)),
    )


def test_slopes_are_those_of_small_differences() -> None:
    at, draw, step = places(20), np.random.default_rng(1), 1e-5
    weight = draw.standard_normal((20, 20))
    weight += weight.T

    def weighted(logs: np.ndarray) -> float:
        kernel = Kernel(Scales.from_logs(logs, AXES), at, at)
        return float((kernel.covariance * weight).sum())

    slopes = Kernel(Scales.from_logs(LOGS, AXES), at, at).slopes(weight)
    without_noise = [n for n in range(len(LOGS)) if n != 2]
    steps = (step * np.eye(len(LOGS))[n] for n in without_noise)
    differences = [(weighted(LOGS + s) - weighted(LOGS - s)) / (2 * step) for s in steps]

    assert slopes == pytest.approx(differences, rel=1e-5, abs=1e-6)


def test_the_variance_is_the_diagonal_of_the_covariance() -> None:
    at, scales = places(20), Scales.from_logs(LOGS, AXES)

    assert variance(scales, at) == pytest.approx(np.diag(covariance(scales, at, at)))


def test_points_that_differ_along_an_axis_of_no_relevance_are_alike() -> None:
    scales = Scales.from_logs(np.append(LOGS[:4], np.log([0.7, 1e-9, 0.7, 0.6, 0.4])), AXES)
    at = places(2)
    x = at.x_ND.copy()
    x[1] = x[0] + [0.0, 1.5, 0.0]
    same = Places(x, at.kinds_NG[[0, 0]], at.expected_N, np.zeros((2, 0)))

    both = covariance(scales, same, same)

    assert both[0, 1] == pytest.approx(both[0, 0])
