"""The network that a trial trained, to generate with and to score text by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import ConfigError
from sweep.errors import SweepError

if TYPE_CHECKING:
    from model.training.trained import Trained


@dataclass(frozen=True)
class Score:
    """What a text costs a network, as a document by itself."""

    loss: float  # nats per token
    bits_per_byte: float


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network on the CPU, with the weights that its trial was evaluated with."""

    trial: str
    trained: Trained

    def generate(
        self, prompt: str, max_new_tokens: int = 100, temperature: float = 1.0, seed: int = 0
    ) -> str:
        """The text that follows `prompt`; temperature 0 always takes the likeliest token."""
        from model.trained.generate import continuation

        return continuation(self.trained, prompt, max_new_tokens, temperature, seed)

    def stream(
        self,
        prompt: str,
        max_new_tokens: int = 100,
        temperature: float = 1.0,
        seed: int = 0,
        top_k: int = 0,
    ) -> Iterator[str]:
        """The same in pieces, as they are written; `top_k` 0 draws from all tokens."""
        from model.trained.generate import stream
        from model.trained.sampling import Sampling

        asked = Sampling(tokens=max_new_tokens, temperature=temperature, top_k=top_k, seed=seed)
        return stream(self.trained, prompt, asked)

    def score(self, text: str) -> Score | None:
        """What `text` costs; None if it has no token to predict."""
        from model.trained.cost import cost

        its = cost(self.trained, text)
        return Score(its.loss, its.bits_per_byte) if its else None


def open_model(trial: str, folder: Path) -> Model:
    """The network of `trial`, trained in `folder`. Raises SweepError if it is not there."""
    from model.training.export import open_run

    try:
        return Model(trial, open_run(folder))
    except ConfigError as error:
        raise SweepError(f"the network of trial {trial} cannot be opened", error.problems) from None
