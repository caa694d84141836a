"""How a trained network continues a text.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import torch
from torch import Tensor

from model.config import ConfigError
from model.trained.sampling import Sampling
from model.training.trained import Trained


def stream(trained: Trained, prompt: str, sampling: Sampling) -> Iterator[str]:
    """The text that follows `prompt`, in pieces of whole characters, as soon as they are certain.

    It ends early where the network ends the document. A text longer than the context is read from
    its end, by a network with a context vector from its beginning, window by window. Raises
    ConfigError if there is nothing to begin with.
    """
    whole = codecs.getincrementaldecoder("utf-8")(errors="replace")  # a token may be half of one
    tokens = trained.tokenizer.document(prompt)
    if not tokens:
        raise ConfigError(["prompt: must have a token, as the tokenizer has none to begin with"])
    return _pieces(trained, tokens, sampling, whole)


def _pieces(
    trained: Trained, tokens: list[int], sampling: Sampling, whole: codecs.IncrementalDecoder
) -> Iterator[str]:
    for token in _continue(trained, tokens, sampling):
        if piece := whole.decode(trained.tokenizer.pieces[token]):
            yield piece
    if rest := whole.decode(b"", final=True):
        yield rest


def _continue(trained: Trained, tokens: list[int], sampling: Sampling) -> Iterator[int]:
    """The tokens after `tokens`, one by one."""
    gpt, tokens = trained.gpt, list(tokens)
    draw = torch.Generator().manual_seed(sampling.seed)
    for _ in range(sampling.tokens):
        with torch.inference_mode():
            seen_T = torch.tensor(tokens if gpt.reads_on else tokens[-gpt.config.context :])
            token = _next(gpt(seen_T[None])[0, -1], sampling, draw)
        if token == trained.tokenizer.separator:
            return
        yield token
        tokens.append(token)


def _next(logits_V: Tensor, sampling: Sampling, draw: torch.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    if 0 < sampling.top_k < len(logits_V):
        least = logits_V.topk(sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, -torch.inf)
    chances_V = torch.softmax(logits_V / sampling.temperature, dim=0)
    return int(torch.multinomial(chances_V, 1, generator=draw))


def continuation(
    trained: Trained, prompt: str, max_new_tokens: int, temperature: float = 1.0, seed: int = 0
) -> str:
    """The text that follows `prompt`, as `stream` gives it, drawn from all tokens."""
    sampling = Sampling(tokens=max_new_tokens, temperature=temperature, top_k=0, seed=seed)
    return "".join(stream(trained, prompt, sampling))
