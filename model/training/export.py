"""A trained network out of its run, as `Trained` in a folder or in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from model.config import Config, ConfigError, DataConfig
from model.data.batches import open_table
from model.data.prepare import kept_table
from model.data.table import TokenTable
from model.network import PROBABILITIES
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.device import CPU
from model.training.members import member_folders
from model.training.run import make_run
from model.training.saved import MIXTURE, TOKENIZER
from model.training.trained import (
    NO_LOSSES,
    Trained,
    load,
    losses_of,
    mixture_of,
    tokenizer_as_data,
    write,
    write_weights,
)

__all__ = [
    "Trained",
    "ensemble_members",
    "load",
    "open_mixture",
    "open_run",
    "save",
    "save_mixture",
    "write",
]

DIFFERENT_TOKENS = "these runs have different tokens, so they cannot predict as one"


def save(run: Path, folder: Path) -> None:
    """Write what the run in `run` has come to into `folder`, for `load`.

    Its weights are those that `train.evaluate` names. Sets torch's random state as the run has it.
    Raises ConfigError if `run` has no checkpoint, or if both its token table and its text are gone.
    """
    state = checkpoint.read_state(run)
    if state is None:
        raise ConfigError([f"{run} has no checkpoint"])
    config = Config.from_settings(state.settings)
    last = state.history[-1] if state.history else None
    losses = losses_of(last.val_loss, last.val_loss_error) if last else {}
    if members := member_folders(run, config):
        save_mixture([(member, 1.0) for member in members], folder, losses)
        return
    if last and config.train.evaluate == PROBABILITIES:
        # What the run reports is of several states together, of which the last alone is written.
        losses = losses_of(last.raw_loss, None)
    table = open_table(_by_digest(config.data, state.tokens))
    restored = make_run(config, table, CPU)
    restored.restore(run)
    header = {"settings": state.settings, "step": state.step, **losses}
    folder.mkdir(parents=True, exist_ok=True)
    with swap_in_averages(restored.optimizers), restored.averages.named(config.train.evaluate):
        write_weights(restored.gpt, header, folder)
    (folder / TOKENIZER).write_text(json.dumps(_tokenizer_as_data(table)))


def _by_digest(data: DataConfig, tokens: str) -> DataConfig:
    """`data` with the digest `tokens`, if the cache has these: its text may be gone, or another."""
    named = data.digest or not kept_table(tokens)
    return data if named else replace(data, digest=tokens)


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


def save_mixture(
    runs: Sequence[tuple[Path, float]], folder: Path, losses: Mapping[str, float | None] = NO_LOSSES
) -> None:
    """Write what several runs have come to, and the weight of each, into `folder`, for `load`.

    losses   of all together, where somebody noted them
    Raises ConfigError as `save` does, also if the runs are not of the same tokens.
    """
    for number, (run, _) in enumerate(runs):
        save(run, folder / str(number))
    first, *others = (load(folder / str(number)).tokenizer for number in range(len(runs)))
    if any(other.pieces != first.pieces for other in others):
        raise ConfigError([DIFFERENT_TOKENS])
    weights = [weight for _, weight in runs]
    header = {"average": PROBABILITIES, "weights": weights, **losses}
    (folder / MIXTURE).write_text(json.dumps(header))


def ensemble_members(file: Path) -> list[tuple[Path, float]]:
    """Runs and the weight of each, from a file that `sweep ensemble` wrote; folders are beside it.

    Raises ConfigError if it is none, or has no network.
    """
    try:
        its = json.loads(file.read_text(encoding="utf-8"))["members"]
        members = [(file.parent / member["folder"], float(member["weight"])) for member in its]
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"it is no ensemble ({type(error).__name__}: {error}); sweep ensemble writes one"
        raise ConfigError([what]) from None
    if not members:
        raise ConfigError(
            ["it is an ensemble without a network on the disk; sweep ensemble --only names some"]
        )
    return members


def open_mixture(runs: Sequence[tuple[Path, float]], average: str = PROBABILITIES) -> Trained:
    """Several runs as one network, a teacher for example. Raises ConfigError as `open_run` does."""
    members = [open_run(run) for run, _ in runs]
    if len({member.tokenizer.digest for member in members}) > 1:
        raise ConfigError([DIFFERENT_TOKENS])
    return mixture_of(members, [weight for _, weight in runs], average)


def _tokenizer_as_data(table: TokenTable) -> dict[str, object]:
    ends = table.token_lengths.cumsum()
    pieces = [table.pieces[e - n : e] for e, n in zip(ends, table.token_lengths, strict=True)]
    return tokenizer_as_data(table.recorded["tokenizer"], pieces)
