"""Several networks as one, on the validation split."""

from __future__ import annotations

import numpy as np

from model.data.table import TokenTable
from model.training.device import runtime
from model.training.evaluate import TOKENS_AT_ONCE, HeldOut, evaluate
from model.training.trained import Trained


def mixture_log_probs(trained: Trained, table: TokenTable, tokens_at_once: int) -> np.ndarray:
    """Log-probabilities (N,) of the validation targets of `table`, nats, on a GPU if there is one.

    tokens_at_once   bounds the memory: a distribution over the vocabulary for each of them
    """
    where = runtime(trained.config)
    held_out = HeldOut.of(table, "val", trained.gpt.config.reach)
    gpt = trained.gpt.to(where.device)
    return evaluate(gpt, held_out, where, min(TOKENS_AT_ONCE, tokens_at_once)).log_probs_N
