"""What a trained network says: how it continues a text.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

import torch
from torch import Tensor

from model.config import ConfigError
from model.data.tokenizer import Tokenizer
from model.network import GPT, Cache, Mixture
from model.trained.prompt import prompt_tokens
from model.trained.sampling import Sampling
from model.training.trained import Trained


class Reader:
    """Reads a text of any length token by token: what costs is the new token, not the text.

    A network with a context vector reads on by itself. Any other sees at most its context. When
    that is full, a new window begins with the latter half of the old: read again, in one pass, as
    what deeper layers have kept depends on the tokens that leave. So a token is read twice at most
    and predicted from half a context or more; nanoGPT reads a whole context for each.
    """

    def __init__(self, gpt: GPT | Mixture, is_caching: bool = True) -> None:
        """is_caching: false reads the whole window again for each token, to compare with."""
        self._gpt, self._is_caching = gpt, is_caching
        self._window: list[int] = []
        self._cache = Cache()
        self._device = next(gpt.parameters()).device

    @torch.inference_mode()
    def read(self, tokens: list[int]) -> Tensor:
        """Logits (V,) of the token after all that was read and `tokens`, at least one."""
        context = self._gpt.config.reach
        if not self._gpt.reads_on and len(self._window) + len(tokens) > context:
            kept = self._window[-(context // 2) :] if len(tokens) < context else []
            tokens = [*kept, *tokens][-context:]
            self._window, self._cache = [], Cache()
        self._window += tokens
        if not self._is_caching:
            whole_BTV: Tensor = self._gpt(torch.tensor([self._window], device=self._device))
            return whole_BTV[0, -1]
        return self._gpt.after(torch.tensor([tokens], device=self._device), self._cache)[0]


def stream(trained: Trained, prompt: str, sampling: Sampling) -> Iterator[str]:
    """The text that follows `prompt`, in pieces of whole characters, as soon as they are certain.

    It ends early where the network ends the document. A text longer than the context is read from
    its end, by a network with a context vector from its beginning, window by window. Raises
    ConfigError before the first piece if there is nothing to begin with, or if the prompt has
    characters that the tokenizer lacks; at any, if the network predicts no numbers.
    """
    tokens = prompt_tokens(trained.tokenizer, prompt)
    return _pieces(trained.tokenizer, continuing(trained, tokens, sampling))


def _pieces(tokenizer: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """Text of tokens, of which each may end within a character."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in tokens:
        if piece := decoder.decode(tokenizer.pieces[token]):
            yield piece
    if rest := decoder.decode(b"", final=True):
        yield rest


def continuing(
    trained: Trained, tokens: list[int], sampling: Sampling, is_caching: bool = True
) -> Iterator[int]:
    """The tokens after `tokens`, one by one, until the network ends the document."""
    reader = Reader(trained.gpt, is_caching)
    draw = torch.Generator().manual_seed(sampling.seed)
    for _ in range(sampling.tokens):
        logits_V = reader.read(tokens)
        if not torch.isfinite(logits_V).all():
            raise ConfigError(["the network predicts no finite numbers; did its training diverge?"])
        token = drawn(logits_V, sampling, draw)
        if token == trained.tokenizer.separator:
            return
        yield token
        tokens = [token]


def drawn(logits_V: Tensor, sampling: Sampling, draw: torch.Generator) -> int:
    """A token, or the likeliest at temperature 0."""
    if sampling.temperature == 0:
        return int(logits_V.argmax())
    if 0 < sampling.top_k < len(logits_V):
        # Those that are as likely as the last of them stay too.
        least = logits_V.topk(sampling.top_k).values[-1]
        logits_V = logits_V.masked_fill(logits_V < least, -torch.inf)
    chances_V = torch.softmax(logits_V / sampling.temperature, dim=0)
    return int(torch.multinomial(chances_V.cpu(), 1, generator=draw))


def continuation(
    trained: Trained, prompt: str, max_new_tokens: int, temperature: float = 1.0, seed: int = 0
) -> str:
    """The text that follows `prompt`, as `stream` gives it, drawn from all tokens."""
    sampling = Sampling(tokens=max_new_tokens, temperature=temperature, top_k=0, seed=seed)
    return "".join(stream(trained, prompt, sampling))
