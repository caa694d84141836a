"""A trained network by itself: weights, settings and tokenizer, apart from its run and corpus."""

from __future__ import annotations

import base64
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.data.table import TokenTable
from model.data.tokenizer import Tokenizer, as_data, from_data
from model.files import replaced
from model.network import GPT, PROBABILITIES, Mixture
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.device import CPU
from model.training.members import member_folders
from model.training.run import NO_SEPARATOR, make_run
from model.training.saved import MIXTURE, TOKENIZER, WEIGHTS

DIFFERENT_TOKENS = "these runs have different tokens, so they cannot predict as one"


@dataclass(frozen=True, eq=False)
class Trained:
    """A network as its run evaluated it last, or several as one, and what its tokens mean."""

    config: Config
    gpt: GPT | Mixture
    tokenizer: Tokenizer
    step: int = 0  # of its run, which it was evaluated after
    val_loss: float | None = None  # nats per token; None: not known
    val_loss_error: float | None = None  # standard, of that loss alone


def save(run: Path, folder: Path) -> None:
    """Write what the run in `run` has come to into `folder`, for `load`.

    Its weights are those that `train.evaluate` names. Sets torch's random state as the run has it.
    Raises ConfigError if `run` has no checkpoint or its token table is gone.
    """
    state = checkpoint.read_state(run)
    if state is None:
        raise ConfigError([f"{run} has no checkpoint"])
    config = Config.from_settings(state.settings)
    if members := member_folders(run, config):
        save_mixture([(member, 1.0) for member in members], folder)
        return
    table = open_table(config.data)
    restored = make_run(config, table, CPU)
    restored.restore(run)
    last = state.history[-1] if state.history else None
    header = _header(
        state.settings,
        state.step,
        last.val_loss if last else None,
        last.val_loss_error if last else None,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with swap_in_averages(restored.optimizers), restored.averages.named(config.train.evaluate):
        _write_weights(restored.gpt, header, folder)
    (folder / TOKENIZER).write_text(json.dumps(_tokenizer_as_data(table)))


def write(trained: Trained, folder: Path) -> None:
    """Write `trained`, one network, into `folder`, for `load`."""
    assert isinstance(trained.gpt, GPT), "several networks are written by save_mixture"
    header = _header(
        trained.config.settings(), trained.step, trained.val_loss, trained.val_loss_error
    )
    folder.mkdir(parents=True, exist_ok=True)
    _write_weights(trained.gpt, header, folder)
    kept = _as_text(as_data(trained.tokenizer), trained.tokenizer.pieces)
    (folder / TOKENIZER).write_text(json.dumps(kept))


def _header(
    settings: Mapping[str, Any], step: int, val_loss: float | None, error: float | None
) -> dict[str, Any]:
    known = val_loss is not None and math.isfinite(val_loss)
    losses = {"val_loss": val_loss, "val_loss_error": error} if known else {}
    return {"settings": settings, "step": step, **losses}


def _write_weights(gpt: GPT, header: Mapping[str, Any], folder: Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in gpt.state_dict().items()}
    about = json.dumps({**header, "vocabulary": gpt.vocabulary})
    with replaced(folder / WEIGHTS) as beside:
        save_file(weights, beside, {"trained": about})


def open_run(run: Path) -> Trained:
    """What the run in `run` has come to, as `save` and `load` have it; torch's random state stays.

    Raises ConfigError as `save` does.
    """
    random_state = torch.get_rng_state()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            save(run, Path(scratch))
            return load(Path(scratch))
    finally:
        torch.set_rng_state(random_state)


def save_mixture(runs: Sequence[tuple[Path, float]], folder: Path) -> None:
    """Write what several runs have come to, and the weight of each, into `folder`, for `load`.

    Raises ConfigError as `save` does, also if the runs are not of the same tokens.
    """
    for number, (run, _) in enumerate(runs):
        save(run, folder / str(number))
    first, *others = (load(folder / str(number)).tokenizer for number in range(len(runs)))
    if any(other.pieces != first.pieces for other in others):
        raise ConfigError([DIFFERENT_TOKENS])
    weights = [weight for _, weight in runs]
    (folder / MIXTURE).write_text(json.dumps({"average": PROBABILITIES, "weights": weights}))


def open_mixture(runs: Sequence[tuple[Path, float]], average: str = PROBABILITIES) -> Trained:
    """Several runs as one network, a teacher for example. Raises ConfigError as `open_run` does."""
    members = [open_run(run) for run, _ in runs]
    if len({member.tokenizer.digest for member in members}) > 1:
        raise ConfigError([DIFFERENT_TOKENS])
    return _mixture(members, [weight for _, weight in runs], average)


def _mixture(members: Sequence[Trained], weights: Sequence[float], average: str) -> Trained:
    mixture = Mixture([member.gpt for member in members], weights, average)
    return Trained(members[0].config, mixture.eval(), members[0].tokenizer)


def load(folder: Path) -> Trained:
    """What `save` or `save_mixture` wrote, on the CPU, as it was at its last evaluation."""
    if (folder / MIXTURE).exists():
        its = json.loads((folder / MIXTURE).read_text())
        members = [load(folder / str(number)) for number in range(len(its["weights"]))]
        return _mixture(members, its["weights"], its["average"])
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        header = json.loads(file.metadata()["trained"])
        names = file.keys()
        weights = {name: file.get_tensor(name) for name in names}
    config = Config.from_settings(header["settings"])
    kept = json.loads((folder / TOKENIZER).read_text())
    pieces = [base64.b64decode(piece) for piece in kept["pieces"]]
    tokenizer = from_data(kept["about"], pieces)
    separator = NO_SEPARATOR if tokenizer.separator is None else tokenizer.separator
    gpt = GPT(config.gpt, header["vocabulary"], separator=separator)
    gpt.load_state_dict(weights)
    gpt.eval()
    last = max(0, header["step"] - 1)  # layer replay depends on where the run is
    gpt.enter(last / config.steps, config.train.seed, last)
    # Folders of earlier versions tell no loss.
    losses = header.get("val_loss"), header.get("val_loss_error")
    return Trained(config, gpt, tokenizer, header["step"], *losses)


def _tokenizer_as_data(table: TokenTable) -> dict[str, object]:
    ends = table.token_lengths.cumsum()
    pieces = [table.pieces[e - n : e] for e, n in zip(ends, table.token_lengths, strict=True)]
    return _as_text(table.recorded["tokenizer"], pieces)


def _as_text(about: Mapping[str, Any], pieces: Sequence[bytes]) -> dict[str, object]:
    return {"about": about, "pieces": [base64.b64encode(piece).decode() for piece in pieces]}
