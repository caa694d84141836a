"""What a trained network says: how it continues a text, and what a text costs it.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch

from model.config import ConfigError
from model.data.tokenizer import Tokenizer
from model.training.device import CPU
from model.training.evaluate import Evaluation, HeldOut, evaluate
from model.training.export import Trained


@torch.no_grad()
def continuation(
    trained: Trained, prompt: str, max_new_tokens: int, temperature: float = 1.0, seed: int = 0
) -> str:
    """The text that follows `prompt`; it ends early where the network ends the document.

    temperature   0 always takes the likeliest token; 1 draws as the network predicts
    A prompt longer than the context is read from its end. Raises ConfigError if there is nothing to
    begin with.
    """
    if temperature < 0:
        raise ConfigError([f"temperature: must be at least 0, got {temperature}"])
    tokenizer, gpt = trained.tokenizer, trained.gpt
    tokens = _document(tokenizer, prompt)
    if not tokens:
        raise ConfigError(["prompt: must have a token, as the tokenizer has none to begin with"])
    draw, begin = torch.Generator().manual_seed(seed), len(tokens)
    for _ in range(max_new_tokens):
        seen_T = torch.tensor(tokens[-gpt.config.context :])
        logits_V = gpt(seen_T[None])[0, -1]
        if temperature == 0:
            token = int(logits_V.argmax())
        else:
            chances_V = torch.softmax(logits_V / temperature, dim=0)
            token = int(torch.multinomial(chances_V, 1, generator=draw))
        if token == tokenizer.separator:
            break
        tokens.append(token)
    return tokenizer.decode(tokens[begin:])


def cost(trained: Trained, text: str) -> Evaluation | None:
    """What `text` costs as a document by itself; None if it has no token to predict.

    A text longer than the context is read in windows, as validation is.
    """
    tokens_T = np.array(_document(trained.tokenizer, text))
    if len(tokens_T) < 2:
        return None
    held_out = HeldOut(tokens_T, trained.tokenizer.lengths, trained.gpt.config.context)
    return evaluate(trained.gpt, held_out, CPU)


def _document(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of `text` after what a document begins with."""
    begin = [] if tokenizer.separator is None else [tokenizer.separator]
    return begin + [int(token) for token in tokenizer.encode(text)]
