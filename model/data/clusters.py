"""Which validation targets are judged together, because a run does equally well on all of them.

Documents, where there are enough of them: tokens of one document are alike, as are questions about
one text in other benchmarks (Miller 2024, 2411.00640, section 2.2). With few clusters, or a few
that hold most tokens, errors come out too small: "few" begins somewhere between 20 and 50 (Cameron
and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015, section VI). There the text is
cut into equal blocks, whose means stand for it as batch means do in simulations; they speak for
more of the same texts, not for others.

The rule looks at the tokens alone, so that all runs on them have the same clusters.
D documents, C clusters.
"""

from __future__ import annotations

import numpy as np

from model.clusters import Clusters

DOCUMENTS, BLOCKS = "documents", "blocks"
# Neighbouring documents count as one beyond that: a journal stays small, and an error known with
# 127 degrees of freedom is known to 6 %.
MOST = 128
FEWEST = 20  # documents of equal length that those there are must be worth
# Longer blocks are more alike among themselves: on 65,536 tokens of one text the error of a paired
# difference was 0.0050 by 256 blocks, 0.0057 by 64, 0.0069 by 32 and 0.0077 by 16.
BLOCKS_AT_MOST = 32
TOKENS_IN_A_BLOCK = 64  # at least


def by_cluster(losses_N: np.ndarray, offsets_D: np.ndarray) -> Clusters:
    """The losses of the N targets of a split, whose documents begin at `offsets_D`, by cluster.

    Target i is token i + 1. The last offset is the length of the split.
    """
    kind, begin_C = clusters(np.asarray(offsets_D), len(losses_N))
    tokens_C = np.diff(np.append(begin_C, len(losses_N)))
    losses_C = np.add.reduceat(losses_N, begin_C, dtype=np.float64) / tokens_C
    # 1e-6 nats is far below what any text can tell, and half the digits.
    return Clusters(kind, tuple(tokens_C.tolist()), tuple(np.round(losses_C, 6).tolist()))


def clusters(offsets_D: np.ndarray, targets: int) -> tuple[str, np.ndarray]:
    """Of what kind the clusters are, and at which target each begins."""
    # The first token of all is no target: what it begins, the next one begins.
    begin_D = np.unique(np.maximum(offsets_D[:-1] - 1, 0)) if len(offsets_D) > 1 else np.zeros(1)
    begin_D = begin_D[begin_D < targets].astype(np.int64)
    tokens_D = np.diff(np.append(begin_D, targets))
    if targets**2 < FEWEST * int((tokens_D**2).sum()):
        blocks = min(BLOCKS_AT_MOST, max(1, targets // TOKENS_IN_A_BLOCK))
        return BLOCKS, np.arange(blocks) * targets // blocks
    if len(begin_D) <= MOST:
        return DOCUMENTS, begin_D
    cluster_D = (2 * begin_D + tokens_D) * MOST // (2 * targets)  # by where its middle lies
    return DOCUMENTS, begin_D[np.diff(cluster_D, prepend=-1) > 0]
