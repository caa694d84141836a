"""How sure the difference of two runs is, from their losses on the same stretches of text.

Runs of a sweep predict the same validation tokens. Most of a loss's error is that some text is
harder than other text, which a difference leaves out: it is judged by how much it differs itself
from text to text (Miller 2024, 2411.00640, section 4, of models that answer the same questions),
over clusters of tokens, as the tokens of one document are alike. C clusters, S seeds.

Seeds are the other half. A difference of two runs has a part of its seeds, a part of the text and a
part of both together, as in a layout of S seeds x C clusters; the spread over seeds has the last
part in it, and so has the spread over text, so that once it is taken off (the quasi-F ratio of
Clark, The Language-as-Fixed-Effect Fallacy, 1973, has the same sum in its denominator).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model.clusters import Clusters, Variance, clustered

ClustersBySeed = Mapping[int, Clusters]


def total(*parts: Variance) -> Variance:
    """Of a sum of independent parts.

    A part counts by its share of the whole in 1 / freedom. Satterthwaite (Biometrics Bulletin,
    1946) takes the shares' squares, which is more freedom: with a part known from two seeds, his
    95 % intervals missed 9 % of differences of none in simulation, these 5 %.
    """
    value = math.fsum(part.value for part in parts)
    if not 0 < value < math.inf:
        return Variance(value, max(min(part.freedom for part in parts), 1.0))
    lost = math.fsum(part.value / value / part.freedom for part in parts)
    return Variance(value, 1 / lost if lost else math.inf)


def comparable(runs: Sequence[Clusters | None]) -> bool:
    """Whether all of them have kept their losses, by the same clusters."""
    first = runs[0]
    return first is not None and all(
        run is not None and run.tokens == first.tokens and run.kind == first.kind for run in runs
    )


def text_of_pairs(a: ClustersBySeed, b: ClustersBySeed) -> Variance | None:
    """Of the mean difference b - a over the seeds both have: what other text would add to seeds.

    None where a run has kept nothing. With one seed all that the text shows, which has a part of
    the seeds in it.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds or not comparable([its[seed] for its in (a, b) for seed in seeds]):
        return None
    difference_SC = np.array([b[seed].loss_C - a[seed].loss_C for seed in seeds])
    token_C = a[seeds[0]].token_C
    both = _within(difference_SC, token_C) / len(seeds) if len(seeds) > 1 else 0.0
    return _less(clustered(difference_SC.mean(axis=0), token_C), both)


def text_of_recipes(
    a: Sequence[Clusters], b: Sequence[Clusters], within: float = 0.0
) -> Variance | None:
    """Of the difference of two recipes' means, whose runs share no seed.

    within   what the noise floor has of the text in it already, for each run: see `text_in_seeds`
    None where a run has kept nothing.
    """
    if not (a and b and comparable([*a, *b])):
        return None
    mean_C, other_C = map(_mean_by_stretches, (a, b))
    return _less(clustered(other_C - mean_C, a[0].token_C), within * (1 / len(a) + 1 / len(b)))


def _mean_by_stretches(runs: Sequence[Clusters]) -> np.ndarray:
    """Of one run, as nearly all searches have it, without a copy: thousands are asked for."""
    if len(runs) == 1:
        return runs[0].loss_C
    return np.asarray(np.mean([run.loss_C for run in runs], axis=0))


def text_in_seeds(groups: Iterable[Sequence[Clusters]]) -> float:
    """The variance of one run's loss by text, between runs of one recipe, pooled over recipes.

    It is a part of the noise floor: seeds are compared on one text. 0 where nothing was kept.
    """
    squares, freedom = 0.0, 0
    for runs in groups:
        if len(runs) > 1 and comparable(runs):
            loss_SC = np.array([run.loss_C for run in runs])
            squares += _within(loss_SC, runs[0].token_C) * (len(runs) - 1)
            freedom += len(runs) - 1
    return squares / freedom if freedom else 0.0


def _within(loss_SC: np.ndarray, token_C: np.ndarray) -> float:
    """The variance by text of what tells one of S rows from the others."""
    rows = len(loss_SC)
    return clustered(loss_SC - loss_SC.mean(axis=0), token_C).value * rows / (rows - 1)


def _less(variance: Variance, counted: float) -> Variance:
    """`variance` without what is counted elsewhere."""
    return Variance(max(0.0, variance.value - counted), variance.freedom)
