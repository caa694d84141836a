"""Which text a sweep reads, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.config import SETTINGS, Config, ConfigError, DataConfig
from sweep.space.space import BUDGET, Space

if TYPE_CHECKING:
    from model.data.extent import Extent


@dataclass(frozen=True)
class Corpus:
    """A text, the training tokens that trials read of it, and those there are."""

    source: str
    smallest: int
    largest: int
    there: int | None  # None where nobody has counted them yet
    val_digest: str = ""  # of what losses are of: equal where those of two sweeps can be compared

    def __str__(self) -> str:
        asked = f"{self.smallest:,}"
        if self.largest > self.smallest:
            asked += f" to {self.largest:,}"
        if self.there is None:
            return f"text: {self.source}, {asked} training tokens"
        share = 100 * self.largest / max(1, self.there)
        percent = f"{share:.1f} %" if share >= 10 else f"{share:.2g} %"
        part = percent if self.largest < self.there else "all"
        return f"text: {self.source}, {asked} of {self.there:,} training tokens ({part})"


def corpus(space: Space) -> Corpus:
    """The text that `space` names. Nothing is fetched, prepared or written.

    Raises ConfigError if it is not there, or too short for what the trials and the baseline ask.
    """
    from model.data import extent  # numpy and pyarrow, which `sweep --help` needs not wait for

    smallest, largest = space.budgets
    multiples = {multiple: multiple * smallest for multiple in space.baseline.multiples}
    most = max(largest, *multiples.values(), 0)
    data = Config.from_settings({**space.fixed, BUDGET: most}).data
    text = extent.look_at(data)
    held_out = data.val_tokens + data.text_test_tokens
    short = _short(text, most, held_out)
    if short:
        asked = f"{BUDGET}: {most:,} asked"
        if most > largest:
            asked = f"baseline.multiples: {max(multiples)}x are {most:,} tokens"
        raise ConfigError([f"{asked}, but {short}"])
    return Corpus(text.source, smallest, largest, text.train, text.val_digest)


def count_all(fixed: Mapping[str, object]) -> tuple[int, bool]:
    """Training tokens of the text that `fixed` names, and whether they were counted.

    Not counted, they are at most so many. Raises ConfigError where the size of files says nothing.
    """
    from model.data import extent

    data = with_any_tokens(fixed)
    text = extent.look_at(data)
    if text.train is not None:
        return text.train, True
    if text.most is None:
        raise ConfigError(
            [f"{BUDGET}: all is known once {text.source} is prepared: sweep data prepare"]
        )
    held_out = data.val_tokens + data.text_test_tokens
    if text.most - held_out < 2:
        raise ConfigError(
            [
                f"data.path: {text.source} has at most {text.most:,} tokens, of which "
                f"val and test take {held_out:,}; lower data.val_tokens and "
                "data.test_tokens"
            ]
        )
    return text.most - held_out, False


def with_any_tokens(fixed: Mapping[str, object]) -> DataConfig:
    """Where the text that `fixed` names is, for whoever will see how much there is of it."""
    chosen = {name: value for name, value in fixed.items() if name in SETTINGS and name != BUDGET}
    values: dict[str, Any] = {
        key: SETTINGS[name].check(value)
        for name, value in chosen.items()
        for part, _, key in [name.partition(".")]
        if part == "data"
    }
    return DataConfig(**values, train_tokens=2)


def _short(text: Extent, asked: int, held_out: int) -> str:
    """Why there are fewer than `asked` tokens to train on; empty if there may be enough."""
    if text.train is not None:
        there = f"{text.source} has {text.train:,} left beside val and test"
        return there if text.train < asked else ""
    if text.most is not None and text.most < asked + held_out:
        return f"{text.source} has at most {text.most:,} tokens, {held_out:,} of which are held out"
    return ""
