"""Causal self-attention with rotary positions and everything that moved a Slowrun record.

Shapes: B sequences, T tokens, S with those that a cache has, D width, H heads, G key and value
heads, K head width, V width of all value heads together.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import HEAD_GATE_INPUTS, VALUE_GATE_INPUTS, GPTConfig
from model.network import cpu
from model.network.cache import LayerCache
from model.network.norm import rms_norm

ROTARY_BASE = 10_000.0
TINY = 1e-4  # shortest value vector that has a direction


class Attention(nn.Module):
    """One layer's attention; `forward` explains its options where they act."""

    def __init__(self, config: GPTConfig, layer: int, manual: bool) -> None:
        super().__init__()
        width, self.heads = config.width, config.layer_heads[layer]
        self.kv_heads, head_width = self.heads // config.queries_per_kv, width // config.heads
        inner, kv_width = self.heads * head_width, self.kv_heads * head_width
        self.qk_norm, self.exclusive, self.manual = config.qk_norm, config.exclusive, manual
        self.dropout = 0.0 if config.dropout_on == "mlp" else config.dropout
        self.weight_dropout = config.dropout if config.dropout_on == "all" else 0.0
        self.window, self.slot = config.window(layer), config.context_vector
        self.key_offset = config.key_offset if self.window == config.context else "no"
        self.query = nn.Linear(width, inner, bias=config.bias)
        self.out = nn.Linear(inner, width, bias=config.bias)
        self.key, self.value = (nn.Linear(width, kv_width, bias=config.bias) for _ in "kv")
        if config.head_gates:
            self.head_gate = nn.Linear(min(HEAD_GATE_INPUTS, width), self.heads, bias=False)
        if config.has_value_residual(layer):
            self.value_gate = nn.Linear(min(VALUE_GATE_INPUTS, width), self.kv_heads, bias=False)
            if config.value_residual == "projection":
                self.value_residual = nn.Linear(width, kv_width, bias=False)
        if config.exclusive == "learned":
            self.exclusion_H = nn.Parameter(torch.zeros(self.heads))
        if config.head_mixing:
            self.mix_query, self.mix_key, self.mix_value = (
                nn.Parameter(torch.eye(count))
                for count in (self.heads, self.kv_heads, self.kv_heads)
            )

    def forward(
        self,
        x_BTD: Tensor,
        cos_TK: Tensor,
        sin_TK: Tensor,
        residual_BTV: Tensor | None,
        document_BS: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Output (B, T, D) for normalised input (B, T, D).

        cos_TK, sin_TK  rotary tables, (T, K)
        residual_BTV    what a value residual adds, if this layer has one
        document_BS     which document each token is of, if none is to see another
        cache           keys and values of the tokens before, which those of these join
        """
        B, T, _ = x_BTD.shape
        q_BHTK = self._heads(x_BTD, self.query, "mix_query", self.heads)
        k_BGTK = self._heads(x_BTD, self.key, "mix_key", self.kv_heads)
        q_BHTK, k_BGTK = (self._turned(x, cos_TK, sin_TK) for x in (q_BHTK, k_BGTK))
        v_BGTK = self._heads(x_BTD, self.value, "mix_value", self.kv_heads)
        if residual_BTV is not None:
            # ResFormer (2410.17897), gated by token and head as in slowrun #11; opens at one.
            gate_BTG = 2 * torch.sigmoid(self.value_gate(x_BTD[..., :VALUE_GATE_INPUTS]))
            extra_BGTK = residual_BTV.view(B, T, self.kv_heads, -1).transpose(1, 2)
            v_BGTK = v_BGTK + gate_BTG.transpose(1, 2)[..., None] * extra_BGTK
        if self.key_offset != "no":
            before_BG1K = None
            if cache is not None:
                before_BG1K, cache.last_BG1K = cache.last_BG1K, k_BGTK[:, :, -1:]
            k_BGTK = offset(k_BGTK, self.key_offset, document_BS, before_BG1K)
        k_BGSK, v_BGSK = k_BGTK, v_BGTK.type_as(q_BHTK)
        if cache is not None:
            k_BGSK, v_BGSK = cache.append(k_BGSK, v_BGSK)
        dropout = self.weight_dropout * self.training
        y_BHTK = attend(
            q_BHTK,
            k_BGSK,
            v_BGSK,
            self.window,
            self.manual,
            dropout,
            document_BS,
            self.slot,
            self.qk_norm,
        )
        if self.exclusive != "no":
            v_BHTK = v_BGTK.repeat_interleave(self.heads // self.kv_heads, dim=1)
            along_BHTK = F.normalize(v_BHTK, dim=-1, eps=TINY)
            share = torch.tanh(self.exclusion_H)[:, None, None] if self.exclusive != "fixed" else 1
            y_BHTK = y_BHTK - share * (y_BHTK * along_BHTK).sum(-1, keepdim=True) * along_BHTK
        y_BTHK = y_BHTK.transpose(1, 2)
        if hasattr(self, "head_gate"):
            gate_BTH = torch.sigmoid(self.head_gate(x_BTD[..., :HEAD_GATE_INPUTS]))
            y_BTHK = y_BTHK * gate_BTH[..., None]
        y_BTD = self.out(y_BTHK.flatten(2))
        return F.dropout(y_BTD, self.dropout, self.training)

    def _turned(self, x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        """Queries or keys turned by their positions and normed, if they are."""
        turns = len(cos_TK) > 0
        if (turns or self.qk_norm) and cpu.narrow(x_BHTK):
            x_BTHK = x_BHTK.transpose(1, 2)
            done_BHTK: Tensor = cpu.TurnedHeads.apply(  # type: ignore[no-untyped-call]
                x_BTHK, cos_TK, sin_TK, self.qk_norm
            )
            return done_BHTK
        if turns:
            x_BHTK = rotate(x_BHTK, cos_TK, sin_TK)
        # The norm bounds the logits, so high rates cannot blow them up.
        return rms_norm(x_BHTK) if self.qk_norm else x_BHTK

    def _heads(self, x_BTD: Tensor, project: nn.Linear, mix: str, heads: int) -> Tensor:
        """(B, heads, T, K); with head mixing, of weights that are mixes of all heads' weights."""
        weight, bias = project.weight, project.bias
        if hasattr(self, mix):
            mix_HH = getattr(self, mix)
            weight = (mix_HH @ weight.view(heads, -1)).view_as(weight)
            bias = (mix_HH @ bias.view(heads, -1)).view_as(bias) if bias is not None else None
        B, T, _ = x_BTD.shape
        return F.linear(x_BTD, weight, bias).view(B, T, heads, -1).transpose(1, 2)


def attend(
    q_BHTK: Tensor,
    k_BGSK: Tensor,
    v_BGSK: Tensor,
    window: int,
    manual: bool,
    dropout: float = 0.0,
    document_BS: Tensor | None = None,
    slot: bool = False,
    bounded: bool = False,
) -> Tensor:
    """Attention output (B, H, T, K) of each token over itself and at most `window` tokens back.

    manual       compute the same by plain products
    dropout      of attention weights
    document_BS  which document each token is of, if none is to see another
    slot         whether the first position is read from however far
    bounded      whether queries and keys are normed

    Queries are of the last T tokens. Query head h reads key head h // (H / G).
    """
    T, S, grouped = q_BHTK.shape[2], k_BGSK.shape[2], q_BHTK.shape[1] != k_BGSK.shape[1]
    far = window >= S - 1
    if T == 1 and document_BS is None and not manual and (far or not slot):
        # One token more may read all that its window has.
        k_BGSK, v_BGSK = (x_BGSK[:, :, max(0, S - 1 - window) :] for x_BGSK in (k_BGSK, v_BGSK))
        return F.scaled_dot_product_attention(
            q_BHTK, k_BGSK, v_BGSK, dropout_p=dropout, enable_gqa=grouped
        )
    whole = far and document_BS is None and T == S
    if not manual and whole:
        return F.scaled_dot_product_attention(
            q_BHTK, k_BGSK, v_BGSK, dropout_p=dropout, is_causal=True, enable_gqa=grouped
        )
    if grouped:  # with a mask, no fused kernel for GPUs takes groups
        shared = q_BHTK.shape[1] // k_BGSK.shape[1]
        k_BGSK, v_BGSK = (x.repeat_interleave(shared, dim=1) for x in (k_BGSK, v_BGSK))
    if manual and not dropout and cpu.narrow(q_BHTK):
        read = None if whole else visible(T, S, window, q_BHTK.device, document_BS, slot)
        bounded = bounded and q_BHTK.shape[-1] <= cpu.WIDEST_BOUNDED
        y_BHTK: Tensor = cpu.NarrowAttention.apply(  # type: ignore[no-untyped-call]
            q_BHTK, k_BGSK, v_BGSK, read, bounded
        )
        return y_BHTK
    mask = visible(T, S, window, q_BHTK.device, document_BS, slot)
    if not manual:
        return F.scaled_dot_product_attention(q_BHTK, k_BGSK, v_BGSK, mask, dropout)
    scores_BHTS = (q_BHTK / math.sqrt(q_BHTK.shape[-1])) @ k_BGSK.mT
    weights_BHTS = F.softmax(scores_BHTS.masked_fill(~mask, -torch.inf), dim=-1)
    return F.dropout(weights_BHTS, dropout).type_as(v_BGSK) @ v_BGSK


def visible(
    T: int,
    S: int,
    window: int,
    device: torch.device,
    document_BS: Tensor | None = None,
    slot: bool = False,
) -> Tensor:
    """Which of S keys each of the last T queries may read: (T, S), or (B, 1, T, S) by document."""
    back_TS = torch.arange(S - T, S, device=device)[:, None] - torch.arange(S, device=device)
    near_TS = (back_TS >= 0) & (back_TS <= window)
    if slot:
        near_TS |= torch.arange(S, device=device) == 0
    if document_BS is None:
        return near_TS
    same_BTS = document_BS[:, S - T :, None] == document_BS[:, None, :]
    return (near_TS & same_BTS)[:, None]


def rotary_tables(config: GPTConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (T, K) each, of rotary positions (arXiv 2104.09864); empty if learned.

    A head's features turn in pairs, one of the first half with one of the second; sines carry the
    sign of their half. With half_rotary the slower half of the frequencies is zero: those features
    never turn.
    """
    if config.positions == "learned":
        return torch.empty(0), torch.empty(0)
    head_width = config.width // config.heads
    turning = head_width // 2 if config.positions == "half_rotary" else head_width
    frequency_K = torch.zeros(head_width // 2)
    frequency_K[: turning // 2] = ROTARY_BASE ** (-torch.arange(0, turning, 2) / turning)
    angle_TK = torch.arange(config.places)[:, None] * frequency_K
    cos_TK, sin_TK = angle_TK.cos(), angle_TK.sin()
    return torch.cat([cos_TK, cos_TK], dim=-1), torch.cat([-sin_TK, sin_TK], dim=-1)


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn each pair of features by its position's angle, in fp32."""
    partner_BHTK = x_BHTK.roll(x_BHTK.shape[-1] // 2, dims=-1)
    return (x_BHTK * cos_TK + partner_BHTK * sin_TK).type_as(x_BHTK)


# Which quarters of a half-rotary key come from the token before. Of each half of the features, the
# first part turns, with its partner in the other half, and the second never does.
OFFSET = {
    "unturned": (False, True, False, True),
    "second_half": (False, False, True, True),
}


def offset(
    k_BGTK: Tensor,
    features: str,
    document_BS: Tensor | None = None,
    before_BG1K: Tensor | None = None,
) -> Tensor:
    """Half-rotary keys of which some features come from the token before.

    The first token keeps its own, unless `before_BG1K` is the key before it; with `document_BS`,
    that of each document does.

    With those that never turn a query finds by content the token that followed a match: an
    induction head in one layer, as modded-nanogpt has it, where they are the second half of a head.
    Slowrun (#29) took its line over into another layout, in which the second half is half of the
    turning and half of the still ones; its records were made with that. Turned features of two
    tokens make no pair, so that scores then depend on absolute positions too.
    """
    first_BG1K = k_BGTK[:, :, :1] if before_BG1K is None else before_BG1K
    before_BGTK = torch.cat([first_BG1K, k_BGTK[:, :, :-1]], dim=2)
    if document_BS is not None:
        first_BS = F.pad(document_BS[:, 1:] != document_BS[:, :-1], (1, 0), value=True)
        first_BT = first_BS[:, -k_BGTK.shape[2] :]
        before_BGTK = torch.where(first_BT[:, None, :, None], k_BGTK, before_BGTK)
    quarters = zip(k_BGTK.chunk(4, -1), before_BGTK.chunk(4, -1), OFFSET[features], strict=True)
    return torch.cat([before if moved else own for own, before, moved in quarters], dim=-1)
