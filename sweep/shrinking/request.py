"""What a user asks to be taken out, and what of a network that is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from model.config import ConfigError, GPTConfig, did_you_mean, read_number
from model.trained.kept import Kept, whole
from sweep.shrinking.plans import Candidate, Network
from sweep.shrinking.strategies import (
    HEADS,
    LAYERS,
    UNITS,
    layers_in_order,
    without_heads,
    without_units,
)

EPOCHS = 1.0  # of the fine-tune
RATE = 0.3  # its peak, of that of the run
FINALISTS = 4


@dataclass(frozen=True, kw_only=True)
class Request:
    """How small, or what goes; and how what is left is trained on."""

    size: float = 0.0  # of all parameters, at most; 0: what the words below say
    layers: str = ""  # strategy:count, or numbers from 1
    heads: str = ""  # strategy:share
    units: str = ""  # strategy:share
    epochs: float = EPOCHS  # of the fine-tune; 0: none
    rate: float = RATE  # of the run's peak
    finalists: int = FINALISTS  # plans that are fine-tuned for a while before one is chosen
    compare: bool = False  # each strategy alone is among them

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def problems(self) -> list[str]:
        """What can be said before any network is opened."""
        problems = []
        words = [word for word in (self.layers, self.heads, self.units) if word]
        if bool(self.size) == bool(words):
            problems.append("give either --size, or what goes: --layers, --heads, --units")
        if self.size and not 0 < self.size <= 1:
            problems.append(f"--size: a share of the parameters, above 0 to 1, got {self.size:g}")
        if self.compare and not self.size:
            problems.append("--compare: is of plans of one --size")
        if self.epochs < 0 or (self.epochs > 1 and self.epochs != int(self.epochs)):
            problems.append(
                f"--epochs: 0 for none, a part of one or whole ones, got {self.epochs:g}"
            )
        if not 0 < self.rate <= 10:
            problems.append(f"--rate: a share of the run's, above 0 to 10, got {self.rate:g}")
        if self.finalists < 1:
            problems.append(f"--finalists: at least 1, got {self.finalists}")
        for read in (self._read_layers, self._read_heads, self._read_units):
            try:
                read()
            except ConfigError as error:
                problems += error.problems
        return problems

    def _read_layers(self) -> tuple[str, list[int]]:
        """A strategy and how many, or no strategy and the numbers from 0."""
        if not self.layers:
            return "", []
        name, colon, count = self.layers.partition(":")
        if colon:
            _check_strategy("--layers", name, LAYERS)
            if not count.isdecimal():
                raise ConfigError([f"--layers: {name}: and how many, as {name}:2; got {count!r}"])
            return name, [int(count)]
        numbers = [word.strip() for word in self.layers.split(",")]
        if not all(word.isdecimal() and int(word) > 0 for word in numbers):
            raise ConfigError(
                [
                    f"--layers: a strategy and a count, as top:2, or numbers from 1, as 2,5; got "
                    f"{self.layers!r} (strategies: {', '.join(LAYERS)})"
                ]
            )
        return "", sorted({int(word) - 1 for word in numbers})

    def _read_heads(self) -> tuple[str, float]:
        return _strategy_and_share("--heads", self.heads, HEADS)

    def _read_units(self) -> tuple[str, float]:
        return _strategy_and_share("--units", self.units, UNITS)

    def plan(self, network: Network) -> Candidate:
        """What the words say of a network. Raises ConfigError if nothing would be left."""
        kept, gone = whole(network.gpt), []
        strategy, numbers = self._read_layers()
        if self.layers:
            kept = kept.without_layers(_layers(strategy, numbers, network))
            gone.append(f"layers {self.layers}")
        _refuse_nothing(kept, "--layers", self.layers)
        _, share = self._read_heads()
        if self.heads:
            kept = without_heads(kept, share, network.importance)
            gone.append(f"{share:.0%} of heads")
        _refuse_nothing(kept, "--heads", self.heads)
        strategy, share = self._read_units()
        if self.units:
            count = round(share * sum(map(len, kept.units)))
            kept = without_units(kept, count, strategy, network.importance)
            gone.append(f"{share:.0%} of units by {strategy}")
        return network.candidate(", ".join(gone), kept, alone=len(gone) == 1)


def _layers(strategy: str, numbers: list[int], network: Network) -> list[int]:
    there = whole(network.gpt).layers
    if strategy:
        if numbers[0] > len(there):
            raise ConfigError([f"--layers: there are {len(there)} layers, got {numbers[0]}"])
        return layers_in_order(strategy, there, network.importance.layers)[: numbers[0]]
    missing = [str(number + 1) for number in numbers if number not in there]
    if missing:
        raise ConfigError(
            [
                f"--layers: there is no layer {', '.join(missing)}, only "
                f"{', '.join(str(layer + 1) for layer in there)}"
            ]
        )
    return numbers


def _refuse_nothing(kept: Kept, option: str, word: str) -> None:
    if not kept.layers:
        raise ConfigError([f"{option}: {word} leaves no layer; keep one at least"])


def _strategy_and_share(option: str, word: str, strategies: tuple[str, ...]) -> tuple[str, float]:
    """`gradient:30%`, or a share alone, which is by the first strategy."""
    if not word:
        return "", 0.0
    name, colon, share = word.partition(":")
    if not colon:
        name, share = strategies[0], word
    _check_strategy(option, name, strategies)
    try:
        number = read_number(share, "", share=True)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        left = "; none would be left" if number >= 1 else ""
        raise ConfigError(
            [f"{option}: a share from 0 to below 1, as {name}:0.25, got {share!r}{left}"]
        )
    return name, number


def _check_strategy(option: str, name: str, strategies: tuple[str, ...]) -> None:
    if name not in strategies:
        raise ConfigError(
            [
                f"{option}: there is no strategy {name!r}, only {', '.join(strategies)}"
                f"{did_you_mean(name, strategies)}"
            ]
        )


def unsuitable(gpt: GPTConfig, request: Request) -> list[str]:
    """What of a request no plan for this network can do."""
    there = whole(gpt)
    problems = []
    if request.heads and not any(there.heads):
        problems.append("--heads: the network has no attention")
    if request.units and not any(there.units):
        problems.append("--units: the network has no MLP")
    return problems
