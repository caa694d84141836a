"""One layer of the network: attention and MLP, each behind a norm and added to the stream.

Shapes: B sequences, T tokens, S with those that a cache has, D width, K head width, V width of all
value heads together.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig
from model.network import cpu
from model.network.attention import Attention
from model.network.cache import LayerCache
from model.network.norm import Norm


def squared_relu(x: Tensor) -> Tensor:
    """ReLU^2 (arXiv 2109.08668), elementwise."""
    if x.is_cuda or torch.compiler.is_compiling():
        return F.relu(x).square()
    result: Tensor = cpu.SquaredReLU.apply(x)  # type: ignore[no-untyped-call]
    return result


class MLP(nn.Module):
    """Two matrices with an activation between them, or three with a gate (SwiGLU)."""

    def __init__(self, config: GPTConfig, units: int) -> None:
        """units: hidden ones."""
        super().__init__()
        self.kind = config.mlp
        self.dropout = 0.0 if config.dropout_on == "attention" else config.dropout
        self.expand = nn.Linear(config.width, units, bias=config.bias)
        if config.mlp == "swiglu":
            self.gate = nn.Linear(config.width, units, bias=config.bias)
        self.project = nn.Linear(units, config.width, bias=config.bias)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, D) for normalised input (B, T, D)."""
        hidden = self.expand(x_BTD)
        match self.kind:
            case "swiglu":
                hidden = F.silu(self.gate(x_BTD)) * hidden
            case "gelu":
                hidden = F.gelu(hidden)
            case "gelu_tanh":
                hidden = F.gelu(hidden, approximate="tanh")
            case "relu":
                hidden = F.relu(hidden)
            case "relu2":
                hidden = squared_relu(hidden)
        return F.dropout(self.project(hidden), self.dropout, self.training)


class Block(nn.Module):
    """Attention, then the MLP, each on the normalised stream; either or both may be missing."""

    def __init__(self, config: GPTConfig, layer: int, manual_attention: bool) -> None:
        super().__init__()
        heads, units = config.layer_heads[layer], config.layer_units[layer]
        self.attention_norm = Norm(config) if heads else None
        self.mlp_norm = Norm(config) if units else None
        self.attention = Attention(config, layer, manual_attention) if heads else None
        self.mlp = MLP(config, units) if units else None

    def forward(
        self,
        x_BTD: Tensor,
        cos_TK: Tensor,
        sin_TK: Tensor,
        residual_BTV: Tensor | None = None,
        document_BS: Tensor | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """The stream (B, T, D) after this layer, for that before it.

        cos_TK, sin_TK  rotary tables, (T, K); empty with learned positions
        residual_BTV    what a value residual adds to the values, if this layer has one
        document_BS     which document each token is of, if none is to see another
        cache           what attention keeps of the tokens before
        """
        if self.attention_norm is not None and self.attention is not None:
            normed_BTD = self.attention_norm(x_BTD)
            y_BTD = self.attention(normed_BTD, cos_TK, sin_TK, residual_BTV, document_BS, cache)
            x_BTD = x_BTD + y_BTD.type_as(x_BTD)
        if self.mlp_norm is not None and self.mlp is not None:
            x_BTD = x_BTD + self.mlp(self.mlp_norm(x_BTD)).type_as(x_BTD)
        return x_BTD


class NextButOne(nn.Module):
    """Predicts the token after next from a hidden state and the next token (slowrun #65)."""

    def __init__(self, config: GPTConfig, manual_attention: bool) -> None:
        super().__init__()
        self.join = nn.Linear(2 * config.width, config.width, bias=False)
        # A layer that would have no value residual: this block is not part of the stack.
        alone = replace(config, value_residual="no", heads_by_layer="", units_by_layer="")
        self.block = Block(alone, config.layers - 1, manual_attention)
        self.norm = Norm(config)

    def forward(
        self,
        hidden_BTD: Tensor,
        next_BTD: Tensor,
        cos_TK: Tensor,
        sin_TK: Tensor,
        document_BT: Tensor | None = None,
    ) -> Tensor:
        """Normalised states (B, T, D), for those of the stack and embeddings of the next tokens.

        document_BT  which document each state is of, if none is to see another
        """
        x_BTD = self.join(torch.cat([hidden_BTD, next_BTD], dim=-1))
        result_BTD: Tensor = self.norm(self.block(x_BTD, cos_TK, sin_TK, None, document_BT))
        return result_BTD
