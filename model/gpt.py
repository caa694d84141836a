"""The network: a pre-norm decoder with rotary positions and QK-norm.

Shapes: B sequences, T tokens, D width, H heads, K head width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig
from model.size import scaled

MLP_EXPANSION = 4
ROTARY_BASE = 10_000.0
# The head is a matrix product; sizes off this grid leave tensor cores idle.
VOCABULARY_MULTIPLE = 64


def rms_norm(x_BTD: Tensor) -> Tensor:
    """Scale each vector to unit root mean square; no parameters."""
    return F.rms_norm(x_BTD, x_BTD.shape[-1:])


class Attention(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.heads, self.dropout = config.heads, config.dropout
        self.query, self.key, self.value, self.out = (
            nn.Linear(config.width, config.width, bias=False) for _ in range(4)
        )

    def forward(self, x_BTD: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        B, T, D = x_BTD.shape
        q_BHTK, k_BHTK, v_BHTK = (
            part(x_BTD).view(B, T, self.heads, -1).transpose(1, 2)
            for part in (self.query, self.key, self.value)
        )
        # Normalised queries and keys bound the logits, so high rates cannot blow them up.
        q_BHTK, k_BHTK = (rms_norm(rotate(x, cos_TK, sin_TK)) for x in (q_BHTK, k_BHTK))
        y_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
        y_BTD = self.out(y_BHTK.transpose(1, 2).reshape(B, T, D))
        return F.dropout(y_BTD, self.dropout, self.training)


class MLP(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.expand = nn.Linear(config.width, MLP_EXPANSION * config.width, bias=False)
        self.project = nn.Linear(MLP_EXPANSION * config.width, config.width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        # Squared ReLU: arXiv 2109.08668.
        hidden = F.relu(self.expand(x_BTD)).square()
        return F.dropout(self.project(hidden), self.dropout, self.training)


class Block(nn.Module):
    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention, self.mlp = Attention(config), MLP(config)

    def forward(self, x_BTD: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(rms_norm(x_BTD), cos_TK, sin_TK)
        x_BTD = x_BTD + self.mlp(rms_norm(x_BTD))
        return x_BTD


class GPT(nn.Module):
    """Token ids to next-token logits."""

    def __init__(self, config: GPTConfig, vocabulary: int) -> None:
        super().__init__()
        config = scaled(config)
        self.vocabulary = vocabulary
        padded = math.ceil(vocabulary / VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
        self.embedding = nn.Embedding(padded, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.head = nn.Linear(config.width, padded, bias=False)
        cos_TK, sin_TK = rotary_tables(config.context, config.width // config.heads)
        self.cos_TK: Tensor
        self.sin_TK: Tensor
        self.register_buffer("cos_TK", cos_TK, persistent=False)
        self.register_buffer("sin_TK", sin_TK, persistent=False)
        self.initialise(config)

    def initialise(self, config: GPTConfig) -> None:
        """Branch outputs and head start at zero: the first loss is ln(vocabulary) exactly."""
        nn.init.normal_(self.embedding.weight)
        nn.init.zeros_(self.head.weight)
        for block in self.blocks:
            for name, weight in block.named_parameters():
                if name in ("attention.out.weight", "mlp.project.weight"):
                    nn.init.zeros_(weight)
                else:
                    nn.init.normal_(weight, std=config.width**-0.5)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        """Logits (B, T, V) in fp32 for token ids (B, T), T at most the context."""
        T = tokens_BT.shape[1]
        x_BTD = rms_norm(self.embedding(tokens_BT))
        for block in self.blocks:
            x_BTD = block(x_BTD, self.cos_TK[:T], self.sin_TK[:T])
        logits_BTV: Tensor = self.head(rms_norm(x_BTD))
        return logits_BTV[..., : self.vocabulary].float()

    def losses(self, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        """Cross-entropy of every target token, (B, T) nats."""
        logits_BTV = self(tokens_BT)
        flat = F.cross_entropy(logits_BTV.flatten(0, 1), targets_BT.flatten(), reduction="none")
        return flat.view_as(targets_BT)

    def parameter_count(self) -> int:
        """Parameters of the blocks: what `gpt.scale` scales. Embedding and head not counted."""
        return sum(p.numel() for p in self.blocks.parameters())


def rotary_tables(context: int, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (T, K/2) each, of rotary positions (arXiv 2104.09864)."""
    frequency_K = ROTARY_BASE ** (-torch.arange(0, head_width, 2) / head_width)
    angle_TK = torch.arange(context)[:, None] * frequency_K
    return angle_TK.cos(), angle_TK.sin()


def rotate(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Turn each pair (first half, second half) of a head by its position's angle."""
    a, b = x_BHTK.float().chunk(2, dim=-1)
    turned = torch.cat([a * cos_TK - b * sin_TK, a * sin_TK + b * cos_TK], dim=-1)
    return turned.type_as(x_BHTK)
