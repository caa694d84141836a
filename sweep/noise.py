"""How much a final loss differs between runs of one recipe that differ in their seeds alone."""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import fmean


def pooled_deviation(groups: Iterable[Iterable[float]]) -> tuple[float, int]:
    """The standard deviation within groups, pooled, and its degrees of freedom.

    groups   numbers, such as the losses of one recipe's runs; those that are not finite are left
             out
    Not a number, with no degree of freedom, where no group has two.
    """
    squares, freedom = 0.0, 0
    for group in groups:
        finite = [number for number in group if math.isfinite(number)]
        if len(finite) > 1:
            mean = fmean(finite)
            squares += math.fsum((number - mean) ** 2 for number in finite)
            freedom += len(finite) - 1
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom
