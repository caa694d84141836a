"""Mixing runs as probabilities, against mixtures that are known."""

from __future__ import annotations

import numpy as np
import pytest

from sweep.predictions import mixture
from sweep.predictions.member_curve import member_curve

OFFSETS = np.arange(0, 40_001, 1000)  # forty documents
DRAWN = 40_000  # targets


def members(rng: np.random.Generator, count: int, outcomes: int = 8) -> np.ndarray:
    """Log-probabilities (K, V) of so many members over `outcomes` tokens."""
    return np.log(rng.dirichlet(np.ones(outcomes), count))


def drawn_from(rng: np.random.Generator, log_KV: np.ndarray, weights: list[float]) -> np.ndarray:
    """What members say (K, N) of tokens drawn from their mixture."""
    tokens_N = rng.choice(log_KV.shape[1], DRAWN, p=np.array(weights) @ np.exp(log_KV))
    return log_KV[:, tokens_N]


def test_learned_weights_recover_the_mixture_that_drew_the_tokens() -> None:
    rng = np.random.default_rng(0)
    log_probs_KN = drawn_from(rng, members(rng, 3), [0.6, 0.3, 0.1])

    weight_K = mixture.learned(log_probs_KN)

    assert weight_K == pytest.approx([0.6, 0.3, 0.1], abs=0.04)
    assert weight_K.sum() == pytest.approx(1)


def test_no_other_weights_are_better_than_learned_ones() -> None:
    rng = np.random.default_rng(1)
    log_probs_KN = drawn_from(rng, members(rng, 4), [0.25] * 4)
    lowest = mixture.loss(log_probs_KN, mixture.learn(log_probs_KN))

    others = rng.dirichlet(np.ones(4), 10)

    assert lowest <= min(mixture.loss(log_probs_KN, other) for other in others)
    assert lowest <= mixture.loss(log_probs_KN, mixture.greedy(log_probs_KN)) + mixture.TOLERANCE


@pytest.mark.parametrize("seed", range(5))
def test_greedy_selection_is_never_worse_than_the_best_member_where_it_chooses(seed: int) -> None:
    rng = np.random.default_rng(seed)
    log_probs_KN = np.log(rng.uniform(0.01, 0.6, (5, 400)))

    best = -log_probs_KN.mean(axis=1).max()

    assert mixture.loss(log_probs_KN, mixture.greedy(log_probs_KN)) <= best
    assert mixture.greedy_picks(log_probs_KN)[0] == int(log_probs_KN.mean(axis=1).argmax())


def test_a_member_that_knows_nothing_new_gets_nothing() -> None:
    rng = np.random.default_rng(2)
    log_probs_KN = drawn_from(rng, members(rng, 2), [0.5, 0.5])
    worse_KN = np.vstack([log_probs_KN, log_probs_KN[0] - 1])

    assert mixture.learned(worse_KN)[2] == 0
    assert mixture.greedy(worse_KN)[2] == 0


def test_a_token_that_a_member_ruled_out_stays_possible_in_the_mixture() -> None:
    """The least number of float16 stands for it on the disk."""
    log_probs_KN = np.array([[-65504.0, -1.0], [-2.0, -3.0]], dtype=np.float32)

    mixed_N = mixture.mixed(log_probs_KN, np.array([0.5, 0.5]))

    assert mixed_N[0] == pytest.approx(-2 + np.log(0.5))
    assert np.isfinite(mixture.learned(log_probs_KN)).all()


def test_the_curve_of_alike_members_ends_where_what_they_share_does() -> None:
    """Each sees the truth through noise of its own: what is left of it falls as 1 / K."""
    rng = np.random.default_rng(3)
    truth_N = np.log(rng.uniform(0.1, 0.9, DRAWN))
    log_probs_KN = truth_N + 0.4 * rng.normal(size=(8, DRAWN))

    curve = member_curve([f"{k}" for k in range(8)], log_probs_KN, OFFSETS)

    assert curve is not None
    mean = 0.4**2 / 2  # of the logarithm of a mean of endlessly many log-normal numbers
    assert curve.limit == pytest.approx(-truth_N.mean() - mean, abs=0.002)
    assert curve.misfit < 0.002
    assert curve.gain == pytest.approx((mean, mean), abs=0.003)
    assert list(curve.losses) == sorted(curve.losses, reverse=True)


def test_two_members_make_no_curve() -> None:
    assert member_curve(["a", "b"], np.zeros((2, DRAWN)), OFFSETS) is None
