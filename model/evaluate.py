"""Validation loss on a fixed set of tokens, whatever the batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from model.data import windows
from model.gpt import GPT

TOKENS_AT_ONCE = 8192  # bounds the logits' memory; the result does not depend on it


@dataclass(frozen=True)
class Evaluation:
    loss: float  # nats per token
    standard_error: float  # of the loss, over sequences
    bits_per_byte: float


@torch.no_grad()
def evaluate(
    gpt: GPT, tokens: np.ndarray, token_lengths: np.ndarray, context: int, precision: torch.dtype
) -> Evaluation:
    """Mean loss over every whole window of `tokens`, laid side by side from the start.

    The tokens of the last window that is not full are left out, so the set depends on the context
    alone. Bits per byte divide by the text the targets stand for; a document separator has none.
    """
    device = next(gpt.parameters()).device
    starts = np.arange(0, len(tokens) - context, context)
    per_step = max(1, TOKENS_AT_ONCE // context)
    losses, text_bytes = [], 0
    was_training = gpt.training
    gpt.eval()
    for first in range(0, len(starts), per_step):
        x_BT, y_BT = windows(tokens, starts[first : first + per_step], context)
        text_bytes += int(token_lengths[y_BT].sum())
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            losses_BT = gpt.losses(
                torch.from_numpy(x_BT).to(device), torch.from_numpy(y_BT).to(device)
            )
        losses.append(losses_BT.double().mean(dim=1).cpu().numpy())
    gpt.train(was_training)
    means = np.concatenate(losses)
    loss = float(means.mean())
    error = float(means.std(ddof=1) / math.sqrt(len(means))) if len(means) > 1 else math.inf
    targets = len(starts) * context
    return Evaluation(loss, error, loss * targets / (math.log(2) * max(1, text_bytes)))
