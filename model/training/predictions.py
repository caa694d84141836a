"""What a run that has ended predicts of the validation split, made again from its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.config import Config, ConfigError
from model.data.table import TokenTable
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.averages import RAW
from model.training.device import CPU
from model.training.evaluate import HeldOut, evaluate
from model.training.members import mean_probabilities, member_folders
from model.training.train import begin
from model.training.trained import load


def predictions(folder: Path, table: TokenTable) -> np.ndarray:
    """Log-probabilities (N,) of the validation targets of `table`, nats, by the run in `folder`.

    By what `train.evaluate` names, as the run was evaluated last: one pass over the split for each
    of its averages. Raises ConfigError if the folder holds no run that has ended.
    """
    with checkpoint.locked(folder):
        state = checkpoint.read_state(folder)
        if state is None or not state.history or not state.history[-1].done:
            raise ConfigError([f"{folder} holds no run that has ended"])
        config = Config.from_settings(state.settings)
        if members := member_folders(folder, config):
            return mean_probabilities([predictions(member, table) for member in members])
        with torch.random.fork_rng():
            run = begin(config, table, folder, state)
            with swap_in_averages(run.optimizers):
                evaluations = run.averages.evaluate(run.evaluate(), run.evaluate, run.score)
    return evaluations.get(config.train.evaluate, evaluations[RAW]).log_probs_N


def predictions_of(folder: Path, table: TokenTable) -> np.ndarray:
    """The same by the network that was written into `folder`, apart from its run.

    Raises ConfigError if that cannot be read, or if its tokens are others.
    """
    its = load(folder)
    if its.tokenizer.digest != table.recorded["tokenizer"]["digest"]:
        raise ConfigError([f"the tokens of the network in {folder} are not those it predicted"])
    return evaluate(its.gpt, HeldOut.of(table, "val", its.gpt.config.reach), CPU).log_probs_N
