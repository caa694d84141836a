"""A trained network by itself: weights, settings and tokenizer, apart from its run and corpus."""

from __future__ import annotations

import base64
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.data.table import TokenTable
from model.data.tokenizer import Tokenizer, from_data
from model.network import GPT
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.device import CPU
from model.training.run import NO_SEPARATOR, make_run

WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, eq=False)
class Trained:
    """A network as its run evaluated it last, and what its tokens mean."""

    config: Config
    gpt: GPT
    tokenizer: Tokenizer


def save(run: Path, folder: Path) -> None:
    """Write what the run in `run` has come to into `folder`, for `load`.

    Its weights are those that `train.evaluate` names. Sets torch's random state as the run has it.
    Raises ConfigError if `run` has no checkpoint or its token table is gone.
    """
    state = checkpoint.read_state(run)
    if state is None:
        raise ConfigError([f"{run} has no checkpoint"])
    config = Config.from_settings(state.settings)
    table = open_table(config.data)
    restored = make_run(config, table, CPU)
    restored.restore(run)
    header = {"settings": state.settings, "step": state.step, "vocabulary": table.vocabulary}
    folder.mkdir(parents=True, exist_ok=True)
    with swap_in_averages(restored.optimizers), restored.averages.named(config.train.evaluate):
        weights = {name: tensor.contiguous() for name, tensor in restored.gpt.state_dict().items()}
        save_file(weights, folder / WEIGHTS, {"trained": json.dumps(header)})
    (folder / TOKENIZER).write_text(json.dumps(_tokenizer_as_data(table)))


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


def load(folder: Path) -> Trained:
    """What `save` wrote, on the CPU, as it was at its last evaluation."""
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
    return Trained(config, gpt, tokenizer)


def _tokenizer_as_data(table: TokenTable) -> dict[str, object]:
    ends = table.token_lengths.cumsum()
    cut = [table.pieces[e - n : e] for e, n in zip(ends, table.token_lengths, strict=True)]
    pieces = [base64.b64encode(piece).decode() for piece in cut]
    return {"about": table.recorded["tokenizer"], "pieces": pieces}
