"""Norms of the residual stream, and sums of its states.

Shapes: B sequences, T tokens, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig
from model.network import cpu


def rms_norm(x_BTD: Tensor) -> Tensor:
    """Scale each vector to unit root mean square; no parameters (arXiv 1910.07467)."""
    if x_BTD.is_cuda or torch.compiler.is_compiling():
        return F.rms_norm(x_BTD, x_BTD.shape[-1:])
    normed_BTD: Tensor = cpu.RMSNorm.apply(x_BTD)  # type: ignore[no-untyped-call]
    return normed_BTD


def rms_norm_for_products(x_BTD: Tensor) -> Tensor:
    """The same in the precision of the products that read it, where autocast would convert it."""
    if cpu.narrow(x_BTD) and x_BTD.dtype == torch.float32:
        normed_BTD: Tensor = cpu.NarrowRMSNorm.apply(x_BTD)  # type: ignore[no-untyped-call]
        return normed_BTD
    return rms_norm(x_BTD)


def weighted_sum(x_BTD: Tensor, own: Tensor | None, y_BTD: Tensor, other: Tensor) -> Tensor:
    """own * x + other * y of two states of the stream; without `own` it is one."""
    if cpu.narrow(x_BTD) and x_BTD.dtype == y_BTD.dtype == torch.float32:
        mixed_BTD: Tensor = cpu.WeightedSum.apply(  # type: ignore[no-untyped-call]
            x_BTD, own, y_BTD, other
        )
        return mixed_BTD
    return (x_BTD if own is None else own * x_BTD) + other * y_BTD


class Norm(nn.Module):
    """Before each branch: RMSNorm without parameters, or LayerNorm."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if config.norm == "layer":
            self.gain = nn.Parameter(torch.ones(config.width))
            self.shift = nn.Parameter(torch.zeros(config.width)) if config.bias else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not hasattr(self, "gain"):
            return rms_norm_for_products(x_BTD)
        return F.layer_norm(x_BTD, self.gain.shape, self.gain, self.shift)
