"""A trained network by itself: weights, settings and tokenizer, in a folder and in memory.

A page of trained networks carries this file and those that it imports, so these are few.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.config import Config, ConfigError, DataConfig, GPTConfig, TrainConfig, parameters
from model.data.tokenizer import Tokenizer, as_data, from_data
from model.files import replaced
from model.network import GPT, Mixture
from model.training.saved import MIXTURE, TOKENIZER, WEIGHTS

NO_SEPARATOR = -1  # of no token
NO_LOSSES: Mapping[str, float | None] = {}


@dataclass(frozen=True, eq=False)
class Trained:
    """A network as its run evaluated it last, or several as one, and what its tokens mean."""

    config: Config
    gpt: GPT | Mixture
    tokenizer: Tokenizer
    step: int = 0  # of its run, which it was evaluated after
    val_loss: float | None = None  # nats per token; None: not known
    val_loss_error: float | None = None  # standard, of that loss alone

    @property
    def parameters(self) -> int:
        """As its run counts them, without rows that pad the vocabulary; of several those of all."""
        return sum(parameters(gpt.config, self.tokenizer.vocabulary) for gpt in self.gpts)

    @property
    def gpts(self) -> list[GPT]:
        """Itself, or those that predict as one."""
        return _gpts(self.gpt)


def _gpts(gpt: GPT | Mixture) -> list[GPT]:
    if isinstance(gpt, GPT):
        return [gpt]
    return [its for member in gpt.members for its in _gpts(cast("GPT | Mixture", member))]


def load(folder: Path) -> Trained:
    """What `save`, `write` or `save_mixture` wrote, on the CPU, as it was at its last evaluation.

    Raises ConfigError if that is damaged or not all there.
    """
    try:
        return _load(folder)
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError([f"the model in {folder} is damaged or incomplete: {what}"]) from None


def _load(folder: Path) -> Trained:
    if (folder / MIXTURE).exists():
        its = json.loads((folder / MIXTURE).read_text())
        members = [load(folder / str(number)) for number in range(len(its["weights"]))]
        return mixture_of(members, its["weights"], its["average"], _told(its))
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
    return Trained(config, gpt, tokenizer, header["step"], **_told(header))


def _told(header: Mapping[str, Any]) -> dict[str, float | None]:
    """The losses that it tells; those of earlier versions tell none."""
    return {name: header.get(name) for name in ("val_loss", "val_loss_error")}


def mixture_of(
    members: Sequence[Trained],
    weights: Sequence[float],
    average: str,
    losses: Mapping[str, float | None] = NO_LOSSES,
) -> Trained:
    """Several networks of the same tokens as one; its settings are the first one's.

    losses   `val_loss` and `val_loss_error` of the mixture, where somebody noted them
    """
    mixture = Mixture([member.gpt for member in members], weights, average).eval()
    return Trained(members[0].config, mixture, members[0].tokenizer, members[0].step, **losses)


def write(trained: Trained, folder: Path) -> None:
    """Write `trained` into `folder`, for `load`."""
    folder.mkdir(parents=True, exist_ok=True)
    losses = losses_of(trained.val_loss, trained.val_loss_error)
    if isinstance(trained.gpt, Mixture):
        for number, gpt in enumerate(trained.gpt.members):
            assert isinstance(gpt, GPT | Mixture)
            write(_member(trained, gpt), folder / str(number))
        its = {"average": trained.gpt.average, "weights": trained.gpt.weights, **losses}
        (folder / MIXTURE).write_text(json.dumps(its))
        return
    header = {"settings": trained.config.settings(), "step": trained.step, **losses}
    write_weights(trained.gpt, header, folder)
    write_tokenizer(trained.tokenizer, folder)


def _member(trained: Trained, gpt: GPT | Mixture) -> Trained:
    """One network of several, whose own settings are known of its shape alone."""
    config = replace(trained.config, gpt=gpt.config)
    if gpt.config.reach != trained.config.gpt.reach:  # the batches are not of its sequences
        replays = isinstance(gpt, GPT) and gpt.replaying
        shape = replace(gpt.config, replay_start=0.0) if replays else gpt.config
        config = _settings_of_shape(shape, trained.config.data)
    at_the_end = not isinstance(gpt, GPT) or gpt.replaying
    return Trained(config, gpt, trained.tokenizer, step=config.steps if at_the_end else 0)


def _settings_of_shape(gpt: GPTConfig, data: DataConfig) -> Config:
    """Settings with which `gpt` is possible, of one step; its own are not known here."""
    tokens = gpt.reach + 1
    return Config(
        data=replace(data, train_tokens=tokens, val_tokens=tokens),
        gpt=gpt,
        train=TrainConfig(batch_tokens=gpt.reach, evals=1),
    )


def losses_of(val_loss: float | None, error: float | None) -> dict[str, float | None]:
    """What a header tells of them; JSON has no number for a loss that diverged."""
    if val_loss is None or not math.isfinite(val_loss):
        return {}
    return {"val_loss": val_loss, "val_loss_error": error}


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
