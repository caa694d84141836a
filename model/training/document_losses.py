"""How hard a trained run finds each training document, for a curriculum."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from model.config import Config, ConfigError
from model.data.table import TokenTable
from model.optim import swap_in_averages
from model.training import checkpoint
from model.training.device import runtime
from model.training.evaluate import HeldOut
from model.training.members import member_folders
from model.training.run import make_run


def document_losses(folder: Path, table: TokenTable) -> np.ndarray:
    """Mean loss of the run in `folder` on each training document: (documents,) nats per token.

    Its last weights predict every token from those before it in the file; those of schedule_free
    are the average that it evaluates. Raises ConfigError if there is no run, or its tokens are not
    those of `table`.
    """
    state = checkpoint.read_state(folder)
    if state is None:
        raise ConfigError([f"{folder} holds no trained run: it has no {checkpoint.NAME}"])
    config = Config.from_settings(state.settings)
    if members := member_folders(folder, config):
        raise ConfigError([f"{folder} holds {len(members)} networks; name one: {members[0]}"])
    train = HeldOut.of(table, "train", config.gpt.reach)
    with torch.random.fork_rng():
        run = make_run(config, table, runtime(config))
        try:
            run.restore(folder)
        except RuntimeError:
            raise ConfigError(
                [
                    f"the run in {folder} has tokens other than the {table.vocabulary:,} of this "
                    "table"
                ]
            ) from None
        run.gpt.enter(1.0, config.train.seed, config.steps)
        with swap_in_averages(run.optimizers):
            losses_N = -run.evaluate_on(train).log_probs_N
    # The first token of all has nothing before it: it counts as its document's mean.
    offsets = table.documents["train"]
    begin_N = np.maximum(offsets[:-1] - 1, 0)
    sums_N = np.add.reduceat(losses_N, begin_N, dtype=np.float64)
    return (sums_N / np.maximum(np.diff(np.append(begin_N, len(losses_N))), 1)).astype(np.float32)
