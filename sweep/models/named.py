"""The network that a word names, opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.config import ConfigError, Value
from model.pretrained import is_weights, published
from model.training.saved import is_saved
from sweep.errors import SweepError
from sweep.folder import ENSEMBLE, TRIALS
from sweep.models.source import network_folder

if TYPE_CHECKING:
    from model.training.trained import Trained

HINT = (
    "Name a trial (0012 of the latest sweep, RUN/0012), a run folder (its best trial), its "
    "ensemble.json, a folder of sweep train or one that a model was written into, GPT-2 weights in "
    "Hugging Face's layout, nanoGPT's ckpt.pt, or gpt2, gpt2-medium, gpt2-large, gpt2-xl."
)


@dataclass(frozen=True, eq=False)
class Named:
    """A trained network, or several as one, and what it is called."""

    name: str
    folder: Path  # of an ensemble its file
    trained: Trained

    @property
    def settings(self) -> Mapping[str, Value]:
        """Of an ensemble those of its first member."""
        return self.trained.config.settings()

    @property
    def val_loss(self) -> float | None:
        """Nats per token; None where nobody noted it."""
        return self.trained.val_loss

    @property
    def parameters(self) -> int:
        """Of an ensemble those of all its members."""
        return self.trained.parameters


def named(word: str, runs: Path) -> Named:
    """Open the network that `word` names, as it was evaluated last.

    runs   the folder of run folders, where a word that is no path is looked for
    Raises SweepError if there is none, or if it cannot be opened.
    """
    try:
        folder = network_folder(word, runs)
    except SweepError as error:
        raise SweepError(f"no model {word}: {str(error).splitlines()[0]}", hint=HINT) from None
    try:
        return Named(_name(folder), folder, _open(folder, published(word)))
    except ConfigError as error:
        raise SweepError(f"the model {word} cannot be opened", error.problems) from None


def _name(folder: Path) -> str:
    """RUN/0012 of a trial."""
    in_sweep = folder.parent.name == TRIALS
    return f"{folder.parent.parent.name}/{folder.name}" if in_sweep else str(folder)


def _open(folder: Path, hub: str) -> Trained:
    """The network in `folder`, or the published one called `hub` if there is such a word."""
    from model.training import export, weights

    if folder.name == ENSEMBLE:
        return export.open_mixture(export.ensemble_members(folder))
    if hub or is_weights(folder):
        return weights.open_weights(hub or str(folder.absolute()))
    return export.load(folder) if is_saved(folder) else export.open_run(folder)
