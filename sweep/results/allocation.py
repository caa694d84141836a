"""Which finalists get the next runs: optimal computing budget allocation.

After Chen, Lin, Yücesan and Chick (Discrete Event Dynamic Systems 2000), for a simulation whose
replications share random numbers, as finalists share seeds: the runs of a rival in inverse
proportion to the square of its gap to the leader, and the leader as many as the rival that has
most, because only seeds that both have compare them. The losses of the search have no part in it:
simulated, they made the choice worse, as the best of many flatter themselves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from sweep.results.sequential import Effects

# Standard deviations: rivals nearer to the leader than that are as near as that.
NEAREST = 0.3
TINY = 1e-12  # nats: a gap for those without one where nothing is random


def next_runs(of: Effects, runs: Mapping[str, int], more: int, most: int) -> list[str]:
    """The finalists that get the next `more` runs, in this order; fewer if `most` is reached.

    runs   that each has been given
    most   that one may get

    Each goes to the one that is furthest behind its share ("most starving": Chen and Lee 2011).
    """
    counts = {name: runs[name] for name in of.level}
    shares = _shares(of)
    total = sum(counts.values()) + more
    chosen = []
    for _ in range(more):
        able = [name for name in shares if counts[name] < most]
        if not able:
            break
        name = max(able, key=lambda name: shares[name] * total - counts[name])
        counts[name] += 1
        chosen.append(name)
    return chosen


def _shares(of: Effects) -> dict[str, float]:
    """Of all runs, by finalist."""
    lowest = of.level[of.leader]
    nearest = 0.0 if math.isnan(of.noise.deviation) else NEAREST * of.noise.deviation
    weights = {
        name: max(level - lowest, nearest, TINY) ** -2
        for name, level in of.level.items()
        if name != of.leader
    }
    weights[of.leader] = max(weights.values(), default=1.0)
    total = sum(weights.values())
    return {name: weights[name] / total for name in of.level}
