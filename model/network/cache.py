"""What a network keeps of the tokens it has read, so that one more costs one more.

Shapes: B sequences, T new tokens, S tokens with those read before, G key and value heads, K head
width, C positions of a window, D width.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one pass through one layer."""

    def __init__(self, places: int) -> None:
        self.length, self._places = 0, places
        self.last_BG1K: Tensor | None = None  # latest key before gpt.key_offset moved parts of it
        self._k_BGCK: Tensor | None = None
        self._v_BGCK: Tensor | None = None

    def append(self, k_BGTK: Tensor, v_BGTK: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and all values so far, (B, G, S, K) each, these among them."""
        if self._k_BGCK is None or self._v_BGCK is None:
            B, G, _, K = k_BGTK.shape
            self._k_BGCK = k_BGTK.new_empty(B, G, self._places, K)
            self._v_BGCK = v_BGTK.new_empty(B, G, self._places, K)
        begin, self.length = self.length, self.length + k_BGTK.shape[2]
        self._k_BGCK[:, :, begin : self.length] = k_BGTK
        self._v_BGCK[:, :, begin : self.length] = v_BGTK
        return self._k_BGCK[:, :, : self.length], self._v_BGCK[:, :, : self.length]


class Cache:
    """One window that one network reads piece by piece; of a mixture, one for each member.

    A layer that is replayed has keys and values of each pass: they are told apart by their order,
    which is the same at every read.
    """

    def __init__(self) -> None:
        self.length = 0  # positions read
        self.document_BS: Tensor | None = None  # which document each of them is of
        self.carried_BD: Tensor | None = None  # what the window before handed on to this one
        self.states: list[Tensor] = []  # of this window, where it will hand on their mean
        self._layers: list[LayerCache] = []
        self._at = 0
        self._members: list[Cache] = []

    def member(self, number: int) -> Cache:
        """That of a mixture's member."""
        while len(self._members) <= number:
            self._members.append(Cache())
        return self._members[number]

    def layer(self, places: int) -> LayerCache:
        """That of the pass through a layer that comes next."""
        if self._at == len(self._layers):
            self._layers.append(LayerCache(places))
        self._at += 1
        return self._layers[self._at - 1]

    def number_documents(self, begins_BT: Tensor) -> Tensor:
        """Which document each token so far is of, (B, S); `begins_BT`: where new ones begin one."""
        document_BT = begins_BT.cumsum(dim=1)
        if self.document_BS is not None:
            document_BT = torch.cat(
                [self.document_BS, self.document_BS[:, -1:] + document_BT], dim=1
            )
        self.document_BS = document_BT
        return document_BT

    def pieces(self, tokens_BT: Tensor, context: int) -> Iterator[Tensor]:
        """New tokens cut where a window is full and the next begins, for a network that reads on.

        Each piece is to be read before the next is asked for. A window has a slot before its
        `context` tokens.
        """
        while tokens_BT.shape[1]:
            room = context - max(0, self.length - 1)
            yield tokens_BT[:, :room]
            tokens_BT = tokens_BT[:, room:]

    def begin_window(self, carried_BD: Tensor) -> None:
        """Forget what was read but for what is handed on."""
        self.length, self.document_BS, self.carried_BD = 0, None, carried_BD
        self.states, self._layers = [], []

    def end(self, positions: int) -> None:
        """Note that so many more have passed all layers."""
        self.length, self._at = self.length + positions, 0
