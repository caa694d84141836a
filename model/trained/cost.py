"""What a text costs a trained network.

Shapes: T tokens.
"""

from __future__ import annotations

import numpy as np

from model.training.device import CPU
from model.training.evaluate import Evaluation, HeldOut, evaluate
from model.training.trained import Trained


def cost(trained: Trained, text: str) -> Evaluation | None:
    """What `text` costs as a document by itself; None if it has no token to predict.

    A text longer than the context is read in windows, as validation is.
    """
    tokens_T = np.array(trained.tokenizer.document(text))
    if len(tokens_T) < 2:
        return None
    length_V = trained.tokenizer.lengths_in(tokens_T, len(text.encode()))
    held_out = HeldOut(tokens_T, length_V, trained.gpt.config.reach)
    return evaluate(trained.gpt, held_out, CPU)
