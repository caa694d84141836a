"""A trained network by itself: weights, settings and tokenizer, in a folder and in memory.

A page of trained networks carries this file and those that it imports, so these are few.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file

from model.config import Config
from model.data.tokenizer import Tokenizer, as_data, from_data
from model.files import replaced
from model.network import GPT, Mixture
from model.training.saved import MIXTURE, TOKENIZER, WEIGHTS

NO_SEPARATOR = -1  # of no token


@dataclass(frozen=True, eq=False)
class Trained:
    """A network as its run evaluated it last, or several as one, and what its tokens mean."""

    config: Config
    gpt: GPT | Mixture
    tokenizer: Tokenizer
    step: int = 0  # of its run, which it was evaluated after
    val_loss: float | None = None  # nats per token; None: not known
    val_loss_error: float | None = None  # standard, of that loss alone


def load(folder: Path) -> Trained:
    """What `save` or `save_mixture` wrote, on the CPU, as it was at its last evaluation."""
    if (folder / MIXTURE).exists():
        its = json.loads((folder / MIXTURE).read_text())
        members = [load(folder / str(number)) for number in range(len(its["weights"]))]
        return mixture_of(members, its["weights"], its["average"])
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        header = json.loads(file.metadata()["trained"])
        names = file.keys()
        weights = {name: file.get_tensor(name) for name in names}
    config = Config.from_settings(header["settings"])
    kept = json.loads((folder / TOKENIZER).read_text())
    pieces = [base64.b64decode(piece) for piece in kept["pieces"]]
    tokenizer = from_data(kept["about"], pieces, kept.get("pattern", ""))
    separator = NO_SEPARATOR if tokenizer.separator is None else tokenizer.separator
    gpt = GPT(config.gpt, header["vocabulary"], separator=separator)
    gpt.load_state_dict(weights)
    gpt.eval()
    last = max(0, header["step"] - 1)  # layer replay depends on where the run is
    gpt.enter(last / config.steps, config.train.seed, last)
    # Folders of earlier versions tell no loss.
    losses = header.get("val_loss"), header.get("val_loss_error")
    return Trained(config, gpt, tokenizer, header["step"], *losses)


def mixture_of(members: Sequence[Trained], weights: Sequence[float], average: str) -> Trained:
    """Several networks of the same tokens as one; its settings are the first one's."""
    mixture = Mixture([member.gpt for member in members], weights, average)
    return Trained(members[0].config, mixture.eval(), members[0].tokenizer)


def write(trained: Trained, folder: Path) -> None:
    """Write `trained`, one network, into `folder`, for `load`."""
    assert isinstance(trained.gpt, GPT), "several networks are written by save_mixture"
    header = header_of(
        trained.config.settings(), trained.step, trained.val_loss, trained.val_loss_error
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_weights(trained.gpt, header, folder)
    write_tokenizer(trained.tokenizer, folder)


def header_of(
    settings: Mapping[str, Any], step: int, val_loss: float | None, error: float | None
) -> dict[str, Any]:
    """What the file of weights says beside them; JSON has no number for a loss that diverged."""
    losses = {"val_loss": val_loss, "val_loss_error": error}
    if val_loss is None or not math.isfinite(val_loss):
        losses = {}
    return {"settings": settings, "step": step, **losses}


def write_weights(gpt: GPT, header: Mapping[str, Any], folder: Path) -> None:
    """The file of weights, whole or not at all."""
    weights = {name: tensor.contiguous() for name, tensor in gpt.state_dict().items()}
    about = json.dumps({**header, "vocabulary": gpt.vocabulary})
    with replaced(folder / WEIGHTS) as beside:
        save_file(weights, beside, {"trained": about})


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """What its tokens mean, and how text becomes them: all of it, so that nothing is fetched."""
    kept = tokenizer_as_data(as_data(tokenizer), tokenizer.pieces)
    (folder / TOKENIZER).write_text(json.dumps({**kept, "pattern": tokenizer.pattern}))


def tokenizer_as_data(recorded: Mapping[str, Any], pieces: Sequence[bytes]) -> dict[str, object]:
    """What `load` reads; without a pattern it fetches encodings of tiktoken by their name."""
    return {"about": recorded, "pieces": [base64.b64encode(piece).decode() for piece in pieces]}
