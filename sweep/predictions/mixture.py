"""Several runs mixed as probabilities: how much of each, chosen on tokens that nothing is told of.

The log-probabilities of the true tokens are all it takes. K members, N targets.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Expectation maximisation ends once no other weights can be better by more than that: see `learn`.
TOLERANCE = 1e-5  # nats
MOST_STEPS = 3000
LEAST = 0.01  # of the whole, that a member must be worth to be kept
PICKS = 64  # of greedy selection, at most
PICKS_EACH = 3  # for each member, at most


def mixed(log_probs_KN: np.ndarray, weight_K: np.ndarray) -> np.ndarray:
    """The log-probability (N,) of each target under the weighted mean of the members, nats."""
    used = np.flatnonzero(weight_K)
    terms = (log_probs_KN[k] + np.log(weight_K[k]) for k in used)
    total_N: np.ndarray = next(terms).astype(np.float64)
    for term_N in terms:
        np.logaddexp(total_N, term_N, out=total_N)
    return total_N


def as_weights(weights: Sequence[float]) -> np.ndarray:
    """Weights as an array (K,)."""
    return np.array(weights, dtype=np.float64)


def loss(log_probs_KN: np.ndarray, weight_K: np.ndarray) -> float:
    """Of the mixture, nats per token."""
    return -float(mixed(log_probs_KN, weight_K).mean())


def uniform(log_probs_KN: np.ndarray) -> np.ndarray:
    """Every member alike."""
    return np.full(len(log_probs_KN), 1 / len(log_probs_KN))


def greedy_picks(log_probs_KN: np.ndarray) -> list[int]:
    """Members in the order in which forward selection takes them, some more than once.

    Each pick is the one that makes the mean of all picks best (Caruana et al., Ensemble selection
    from libraries of models, ICML 2004). The first is the best member.
    """
    chance_KN, members = _chances(log_probs_KN), len(log_probs_KN)
    sum_N, picks = np.zeros(log_probs_KN.shape[1]), list[int]()
    for _ in range(min(PICKS, PICKS_EACH * members)):
        pick = int(np.argmax([np.log(sum_N + chance_N).mean() for chance_N in chance_KN]))
        sum_N += chance_KN[pick]
        picks.append(pick)
    return picks


def weights_of(picks: list[int], members: int) -> np.ndarray:
    """How much of each member so many picks come to."""
    return np.asarray(np.bincount(picks, minlength=members) / len(picks))


def greedy(log_probs_KN: np.ndarray) -> np.ndarray:
    """The weights after as many greedy picks as were best: never worse than the best member."""
    picks = greedy_picks(log_probs_KN)
    each = [weights_of(picks[: n + 1], len(log_probs_KN)) for n in range(len(picks))]
    return min(each, key=lambda weight_K: loss(log_probs_KN, weight_K))


def learned(log_probs_KN: np.ndarray) -> np.ndarray:
    """The weights of the lowest loss, but for members that are worth less than 1 %."""
    weight_K = learn(log_probs_KN)
    kept = np.flatnonzero(weight_K >= LEAST)
    again_K = np.zeros(len(weight_K))
    again_K[kept] = learn(log_probs_KN[kept])
    return again_K


def learn(log_probs_KN: np.ndarray) -> np.ndarray:
    """Weights by expectation maximisation for a mixture whose parts are known.

    A step multiplies each weight by how much more likely, on average, its member is than the
    mixture. The loss is convex in the weights, so the largest of these factors less 1 bounds what
    any other weights could gain: the steps end there.
    """
    chance_KN = _chances(log_probs_KN)
    weight_K = uniform(log_probs_KN)
    for _ in range(MOST_STEPS):
        factor_K = (chance_KN / (weight_K @ chance_KN)).mean(axis=1)
        weight_K = weight_K * factor_K
        if factor_K.max() - 1 < TOLERANCE:
            break
    return np.asarray(weight_K / weight_K.sum())


def _chances(log_probs_KN: np.ndarray) -> np.ndarray:
    """Probabilities, as shares of the largest at each target, which changes no choice."""
    return np.asarray(np.exp(log_probs_KN.astype(np.float64) - log_probs_KN.max(axis=0)))
