"""A trained network by itself: weights, settings and tokenizer, apart from its run and corpus."""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.data.table import TokenTable
from model.data.tokenizer import Tokenizer, from_data
from model.network import GPT, PROBABILITIES, Mixture
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.device import CPU
from model.training.members import member_folders
from model.training.run import NO_SEPARATOR, make_run

WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
DIFFERENT_TOKENS = "these runs have different tokens, so they cannot predict as one"
MIXTURE = "mixture.json"  # of several networks, each in a folder that its number names


@dataclass(frozen=True, eq=False)
class Trained:
    """A network as its run evaluated it last, or several as one, and what its tokens mean."""

    config: Config
    gpt: GPT | Mixture
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
    if members := member_folders(run, config):
        save_mixture([(member, 1.0) for member in members], folder)
        return
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
    return Trained(config, gpt, tokenizer)


def _tokenizer_as_data(table: TokenTable) -> dict[str, object]:
    ends = table.token_lengths.cumsum()
    cut = [table.pieces[e - n : e] for e, n in zip(ends, table.token_lengths, strict=True)]
    pieces = [base64.b64encode(piece).decode() for piece in cut]
    return {"about": table.recorded["tokenizer"], "pieces": pieces}
