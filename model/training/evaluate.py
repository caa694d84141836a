"""Validation loss over every target of a split, whatever the context or the batch size.

Shapes: N targets, W windows, B of them at once in each of C calls, T tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from model.clusters import Clusters
from model.data.batches import windows
from model.data.clusters import by_cluster
from model.data.table import TokenTable
from model.network import GPT, Mixture
from model.training.device import Runtime
from model.training.ranks import ALONE, Ranks

TOKENS_AT_ONCE = 8192  # bounds the logits' memory; the result does not depend on it


@dataclass(frozen=True)
class HeldOut:
    """A split to evaluate on. Its targets are all tokens but the first, which nothing precedes."""

    tokens: np.ndarray
    token_lengths: np.ndarray  # bytes of text per token id
    context: int
    documents: np.ndarray | None = None  # where each begins, and last the end; None: it is one

    @classmethod
    def of(cls, table: TokenTable, split: str, context: int) -> HeldOut:
        """A split of a token table."""
        tokens, documents = getattr(table, split), table.documents.get(split)
        return cls(tokens, table.lengths_in(split), context, documents)


@dataclass(frozen=True, eq=False)
class Evaluation:
    loss: float  # nats per token
    clusters: Clusters  # the loss by documents, or blocks of text where these are too few
    bits_per_byte: float  # of the text: what separators cost is left out, as they stand for none
    log_probs_N: np.ndarray  # of every target in its order, nats, float32

    @property
    def standard_error(self) -> float:
        """Of the loss, over the documents that there might have been."""
        return self.clusters.standard_error if math.isfinite(self.loss) else self.loss


@torch.no_grad()
def evaluate(
    gpt: GPT | Mixture,
    held_out: HeldOut,
    runtime: Runtime,
    tokens_at_once: int = TOKENS_AT_ONCE,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Predict every target once, in windows laid side by side from the start.

    The last window is moved back until it is full, and counts only targets that the window before
    left over. A split shorter than a context is one window. Each of `ranks` makes some of the calls
    that one alone makes, so that the same weights have the same loss to the last bit.
    """
    targets = len(held_out.tokens) - 1
    context = min(held_out.context, targets)
    starts_W = np.minimum(np.arange(0, targets, context), targets - context)
    calls = math.ceil(len(starts_W) / max(1, tokens_at_once // context))
    size = math.ceil(len(starts_W) / calls)
    # Every call has one shape, for the compiler: the last window fills up the last call.
    padded_W = np.pad(starts_W, (0, calls * size - len(starts_W)), mode="edge")
    losses_CBT = np.zeros((calls, size, context), np.float32)
    was_training = gpt.training
    gpt.eval()
    for call in ranks.share(range(calls)):
        starts_B = padded_W[call * size : (call + 1) * size]
        x_BT, y_BT = windows(held_out.tokens, starts_B, context)
        with runtime.autocast():
            losses_BT = gpt.losses(
                torch.from_numpy(x_BT).to(runtime.device), torch.from_numpy(y_BT).to(runtime.device)
            )
        losses_CBT[call] = losses_BT.float().cpu().numpy()
    gpt.train(was_training)
    ranks.add_up([torch.from_numpy(losses_CBT)])  # to zeros of the others, which changes no bit
    losses_WT = losses_CBT.reshape(-1, context)[: len(starts_W)]
    left_over = targets - (len(starts_W) - 1) * context
    losses_N = np.concatenate([losses_WT[:-1].ravel(), losses_WT[-1, context - left_over :]])
    return score(-losses_N, held_out)


def score(log_probs_N: np.ndarray, held_out: HeldOut) -> Evaluation:
    """What predictions of the targets of `held_out` are worth, however they came about.

    Bits per byte leave out targets that stand for no text, separators above all, as Slowrun's and
    nanochat's evaluate_bpb do; the loss counts every target.
    """
    losses_N = -log_probs_N.astype(np.float64)
    bytes_N = held_out.token_lengths[held_out.tokens[1:]]
    loss = float(losses_N.mean())
    one = np.array([0, len(held_out.tokens)])
    nats_of_text = float(losses_N[bytes_N > 0].sum())
    return Evaluation(
        loss=loss,
        clusters=by_cluster(losses_N, one if held_out.documents is None else held_out.documents),
        bits_per_byte=nats_of_text / (math.log(2) * max(1, round(bytes_N.sum()))),
        log_probs_N=log_probs_N,
    )
