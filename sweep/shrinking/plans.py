"""Plans that bring a network down to a size: each strategy alone, and several at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.config import ConfigError, GPTConfig, parameters, scaled
from model.trained.kept import Kept, share_of_parameters, shrunk_config, whole
from sweep.shrinking.strategies import (
    LAYERS,
    UNITS,
    layers_in_order,
    without_heads,
    without_units,
)

if TYPE_CHECKING:
    from model.trained.importance import Importance

HEAD_SHARES = (0.0, 0.25, 0.5)  # of the heads that are left, in plans that take several things out
DEPTHS = 6  # different numbers of layers that plans leave out, at most


@dataclass(frozen=True)
class Candidate:
    """One plan."""

    strategy: str  # in words: what goes, and by which rule
    kept: Kept
    share: float  # of all parameters that it leaves
    alone: bool  # whether it is one strategy by itself

    @property
    def layers(self) -> int:
        """How many it leaves."""
        return len(self.kept.layers)

    @property
    def in_words(self) -> str:
        """Heads and units of each layer, - where there are none."""
        heads = [str(len(own)) if own else "-" for own in self.kept.heads]
        units = [str(len(own)) if own else "-" for own in self.kept.units]
        return f"heads {' '.join(heads)}; units {' '.join(units)}"


@dataclass(frozen=True, eq=False)
class Network:
    """What plans are made for."""

    gpt: GPTConfig
    vocabulary: int
    importance: Importance

    def candidate(self, strategy: str, kept: Kept, alone: bool = False) -> Candidate:
        return Candidate(
            strategy, kept, share_of_parameters(self.gpt, kept, self.vocabulary), alone
        )


def smallest_share(network: Network) -> float:
    """What no plan can take out: all parameters but those of one hidden unit, or of one head."""
    start = whole(network.gpt)
    none = ((),) * len(start.heads)
    has_units = any(start.units)
    one = ((0,), *none[1:])
    kept = Kept(none, one) if has_units else Kept(one, none)
    return share_of_parameters(network.gpt, kept, network.vocabulary)


def candidates(network: Network, size: float) -> list[Candidate]:
    """Plans that leave at most `size` of all parameters, and little less where they can.

    First those of one strategy alone. Raises ConfigError if there is none.
    """
    plans: dict[Kept, Candidate] = {}
    for plan in (*_alone(network, size), *_together(network, size)):
        if plan.share <= size:
            plans.setdefault(plan.kept, plan)
    if not plans:
        raise ConfigError(
            [
                f"--size: no plan leaves as little as {size:g} of the parameters; all but layers "
                f"are {smallest_share(network):.2f} of them and stay"
            ]
        )
    return list(plans.values())


def _alone(network: Network, size: float) -> Iterator[Candidate]:
    """As much of one kind as it takes; rules that take out the same are one plan."""
    start = whole(network.gpt)
    rules: dict[Kept, list[str]] = {}
    for strategy in LAYERS:
        order = layers_in_order(strategy, start.layers, network.importance.layers)
        fewer = (start.without_layers(order[:count]) for count in range(len(order)))
        small = next((kept for kept in fewer if network.candidate("", kept).share <= size), None)
        if small is not None:
            rules.setdefault(small, []).append(strategy)
    for kept, names in rules.items():
        count = len(start.layers) - len(kept.layers)
        words = f"{_layers(count)} by {' or '.join(names)}" if count else "nothing"
        yield network.candidate(words, kept, alone=True)
    heads = sum(map(len, start.heads))
    for count in range(heads + any(start.units)):
        kept = without_heads(start, count / max(1, heads), network.importance)
        plan = network.candidate(f"{count} of {heads} heads by importance", kept, alone=True)
        if plan.share <= size:
            yield plan
            break
    for strategy in UNITS:
        less = _with_units_for(network, start, size, strategy)
        if less is not None:
            yield network.candidate(_units(start, less, strategy), less, alone=True)


def _together(network: Network, size: float) -> Iterator[Candidate]:
    """Layers by one rule, then heads, then as many units as it takes."""
    start = whole(network.gpt)
    for strategy in LAYERS:
        order = layers_in_order(strategy, start.layers, network.importance.layers)
        counts = [
            count
            for count in range(len(order))
            if network.candidate("", start.without_layers(order[:count])).share > size
        ]
        for count in counts[:: max(1, math.ceil(len(counts) / DEPTHS))]:
            for share in HEAD_SHARES:
                fewer = without_heads(
                    start.without_layers(order[:count]), share, network.importance
                )
                for rule in UNITS:
                    small = _with_units_for(network, fewer, size, rule)
                    if small is None or small is fewer:  # so many heads are more than it takes
                        continue
                    parts = [f"{_layers(count)} by {strategy}"] if count else []
                    parts += [f"{share:.0%} of heads"] if share else []
                    yield network.candidate(", ".join([*parts, _units(fewer, small, rule)]), small)


def _with_units_for(network: Network, kept: Kept, size: float, strategy: str) -> Kept | None:
    """`kept` less as many units as it takes to be of `size`; None if there are not as many."""
    there = sum(map(len, kept.units))
    gpt = scaled(network.gpt)
    matrices = 3 if gpt.mlp == "swiglu" else 2
    each = matrices * gpt.width + gpt.bias * (matrices - 1)
    over = parameters(shrunk_config(gpt, kept), network.vocabulary) - size * parameters(
        gpt, network.vocabulary
    )
    count = max(0, math.ceil(over / each))
    if count and count >= there:
        return None
    return without_units(kept, count, strategy, network.importance) if count else kept


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"


def _units(before: Kept, after: Kept, strategy: str) -> str:
    there, left = (sum(map(len, kept.units)) for kept in (before, after))
    return f"{(there - left) / max(1, there):.0%} of units by {strategy}"
