"""What the loss surface makes of losses in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.search.kernel import Places
from sweep.search.surrogate import Evidence, fit, likeliest, softened


def places(x_ND: np.ndarray, kinds_NG: np.ndarray | None = None) -> Places:
    count = len(x_ND)
    kinds = np.zeros((count, 0), dtype=np.int64) if kinds_NG is None else kinds_NG
    return Places(x_ND, kinds, np.zeros(count), np.zeros((count, 0)))


def evidence(axes: int, count: int, noise: float = 0.004) -> Evidence:
    """Losses of a bowl in the first two axes."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-1, 1, (count, axes))
    losses = 0.3 * (x[:, 0] - 0.3) ** 2 + 0.1 * (x[:, 1] + 0.5) ** 2
    return Evidence(places(x), losses + noise * draw.standard_normal(count), np.zeros(count))


def test_axes_that_do_not_matter_get_little_relevance() -> None:
    axes = likeliest(evidence(axes=8, count=60)).axes_D

    assert min(axes[:2]) > 2 * max(axes[2:])


def test_a_group_of_kinds_that_does_not_matter_gets_little_relevance() -> None:
    told, draw = evidence(axes=2, count=60), np.random.default_rng(2)
    kinds = draw.integers(0, 2, (60, 2))
    losses = told.losses_N + 0.1 * kinds[:, 0]
    at = Places(told.places.x_ND, kinds, told.places.expected_N, told.places.doubt_NB)

    groups = likeliest(Evidence(at, losses, told.errors_N)).groups_G

    assert groups[0] > 2 * groups[1]


def test_the_noise_is_learned() -> None:
    quiet, loud = (likeliest(evidence(2, 80, noise)).noise for noise in (0.002, 0.03))

    assert quiet < 0.006
    assert loud == pytest.approx(0.03, rel=0.4)


def test_the_surface_finds_the_bottom_of_a_bowl_it_has_not_seen() -> None:
    told = evidence(axes=2, count=30)
    surrogate = fit(told, likeliest(told))
    bottom, elsewhere = np.array([[0.3, -0.5]]), np.array([[-0.8, 0.8]])

    mean, variance, _ = surrogate.mean_and_variance(places(np.vstack([bottom, elsewhere])))

    assert mean[0] == pytest.approx(0.0, abs=0.01)
    assert mean[1] == pytest.approx(0.3 * 1.1**2 + 0.1 * 1.3**2, abs=0.06)
    assert variance[0] < variance[1]


def test_a_loss_that_is_only_forecast_counts_by_its_error() -> None:
    told = evidence(axes=2, count=12)
    at = places(np.array([[0.9, 0.9]]))
    scales = likeliest(told)
    before = float(fit(told, scales).mean(at)[0])

    def after(error: float) -> float:
        forecast = Evidence(at, np.array([before - 0.2]), np.array([error]))
        return float(fit(told + forecast, scales).mean(at)[0])

    assert after(0.001) < after(0.1) < after(1.0) < before + 0.01
    assert after(1.0) == pytest.approx(before, abs=0.02)


def test_what_was_expected_wrongly_is_unlearned() -> None:
    """A bowl about the far end, steeper than the one that is there, is refuted by eight trials."""
    x = np.linspace(-1, 1, 8)[:, None]
    losses = 0.2 * (x[:, 0] + 0.6) ** 2
    rise = 0.3 * (x[:, 0] - 0.8) ** 2
    doubt = np.stack([0.7 * rise, 0.6 * (x[:, 0] - 0.8)], axis=1)
    at = Places(x, np.zeros((8, 0), dtype=np.int64), rise, doubt)
    told = Evidence(at, losses, np.zeros(8))

    mean = fit(told, likeliest(told)).mean(at)

    assert mean == pytest.approx(losses, abs=0.01)


def test_walls_are_lowered_and_keep_their_order() -> None:
    losses = np.array([3.0, 3.01, 3.5, 8.0])

    low = softened(losses)

    assert low[:2] == pytest.approx(losses[:2], abs=0.001)
    assert low[3] < 4.0
    assert list(np.argsort(low)) == [0, 1, 2, 3]
