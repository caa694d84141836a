"""What stays of a network that is made smaller, and how large that is; without building it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from model.config import ConfigError, GPTConfig, parameters, scaled


@dataclass(frozen=True)
class Kept:
    """What stays of each layer, by number from 0: a layer with neither heads nor units is gone.

    heads   key and value heads, each with the query heads that share it
    """

    heads: tuple[tuple[int, ...], ...]
    units: tuple[tuple[int, ...], ...]

    @property
    def layers(self) -> tuple[int, ...]:
        """Those of which something is left."""
        left = zip(self.heads, self.units, strict=True)
        return tuple(layer for layer, (heads, units) in enumerate(left) if heads or units)

    def without_layers(self, layers: Sequence[int]) -> Kept:
        """Nothing of `layers`, the rest as it is."""
        gone = set(layers)
        return Kept(
            tuple(() if layer in gone else own for layer, own in enumerate(self.heads)),
            tuple(() if layer in gone else own for layer, own in enumerate(self.units)),
        )


def whole(gpt: GPTConfig) -> Kept:
    """All there is of a network."""
    gpt = scaled(gpt)
    heads = (count // gpt.queries_per_kv for count in gpt.layer_heads)
    return Kept(tuple(map(_first, heads)), tuple(map(_first, gpt.layer_units)))


def _first(count: int) -> tuple[int, ...]:
    return tuple(range(count))


def shrunk_config(gpt: GPTConfig, kept: Kept) -> GPTConfig:
    """The settings of what `kept` leaves of a network; what only training needs is left out.

    Raises ConfigError if nothing is left.
    """
    if not kept.layers:
        raise ConfigError(["the plan leaves no layer; keep a head or a unit somewhere"])
    # Its weights are its own now, and a block that only training needs is not kept.
    gpt = replace(
        scaled(gpt), mtp="no", init="", init_digest="", heads_by_layer="", units_by_layer=""
    )
    alike = whole(gpt)
    heads = [gpt.queries_per_kv * len(own) for own in kept.heads]
    units = [len(own) for own in kept.units]
    return replace(
        gpt,
        heads_by_layer="" if kept.heads == alike.heads else " ".join(map(str, heads)),
        units_by_layer="" if kept.units == alike.units else " ".join(map(str, units)),
    )


def share_of_parameters(gpt: GPTConfig, kept: Kept, vocabulary: int) -> float:
    """How many of all parameters `kept` leaves, embeddings and head among them."""
    before = parameters(scaled(gpt), vocabulary)
    return parameters(shrunk_config(gpt, kept), vocabulary) / before
