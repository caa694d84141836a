"""What to take out of a network of so many layers, heads and units, by each known strategy.

Layers: top, bottom, alternate, symmetric and by contribution as in Poor Man's BERT (2004.03844);
heads by importance (1905.10650); units by the size of their weights or by gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from model.config import ConfigError
from model.trained.kept import Kept

if TYPE_CHECKING:
    import numpy as np

    from model.trained.importance import Importance

LAYERS = ("top", "bottom", "alternate", "symmetric", "contribution")
HEADS = ("importance",)
UNITS = ("gradient", "magnitude")


def layers_in_order(strategy: str, there: Sequence[int], turned_L: np.ndarray) -> list[int]:
    """The layers `there` in the order in which `strategy` drops them.

    turned_L   what each layer contributes, of all layers by number
    """
    count = len(there)
    last = list(range(count))
    orders: dict[str, Callable[[], list[int]]] = {
        "top": lambda: last[::-1],
        "bottom": lambda: last,
        # Every other one from the last but one down, which leaves layers that lie apart.
        "alternate": lambda: [*last[-2::-2], *last[-1::-2]] if count > 1 else last,
        # From the middle outwards: as many stay at the bottom as at the top.
        "symmetric": lambda: sorted(last, key=lambda at: (abs(at - (count - 1) / 2), -at)),
        "contribution": lambda: sorted(last, key=lambda at: turned_L[there[at]]),
    }
    return [there[at] for at in orders[strategy]()]


def without_heads(kept: Kept, share: float, importance: Importance) -> Kept:
    """`kept` less the least important heads, `share` of all that are left in it."""
    scores = [importance.heads[layer] for layer in range(len(kept.heads))]
    count = round(share * sum(map(len, kept.heads)))
    return _replaced(kept, heads=_without(kept.heads, scores, count))


def without_units(kept: Kept, count: int, strategy: str, importance: Importance) -> Kept:
    """`kept` less `count` units: by gradient over all layers, by magnitude evenly in each.

    How large weights are does not compare layers; what the loss says to first order does.
    """
    if strategy == "gradient":
        return _replaced(kept, units=_without(kept.units, importance.units, count))
    there = sum(map(len, kept.units))
    units, left = [], count
    for own, scores in zip(kept.units, importance.magnitudes, strict=True):
        gone = round(left * len(own) / there) if there else 0
        left, there = left - gone, there - len(own)
        units.append(_best(own, scores, len(own) - gone))
    return _replaced(kept, units=tuple(units))


def _without(
    own: Sequence[tuple[int, ...]], scores: Sequence[np.ndarray], count: int
) -> tuple[tuple[int, ...], ...]:
    """What is left of each layer once the `count` lowest of all layers have gone."""
    ranked = sorted(
        (float(scores[layer][part]), layer, part)
        for layer, parts in enumerate(own)
        for part in parts
    )
    gone = {(layer, part) for _, layer, part in ranked[:count]}
    return tuple(
        tuple(part for part in parts if (layer, part) not in gone)
        for layer, parts in enumerate(own)
    )


def _best(parts: Sequence[int], scores: np.ndarray, count: int) -> tuple[int, ...]:
    highest = sorted(parts, key=lambda part: (-float(scores[part]), part))[:count]
    return tuple(sorted(highest))


def _replaced(
    kept: Kept,
    heads: tuple[tuple[int, ...], ...] | None = None,
    units: tuple[tuple[int, ...], ...] | None = None,
) -> Kept:
    made = Kept(kept.heads if heads is None else heads, kept.units if units is None else units)
    if not made.layers:
        raise ConfigError(["the plan leaves no layer; keep a head or a unit somewhere"])
    return made
