"""Norms. RMSNorm without parameters has its own gradient, which on a CPU takes half the time."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import GPTConfig

EPS = torch.finfo(torch.float32).eps  # as F.rms_norm


def rms_norm(x_BTD: Tensor) -> Tensor:
    """Scale each vector to unit root mean square; no parameters (arXiv 1910.07467)."""
    if x_BTD.is_cuda or torch.compiler.is_compiling():
        return F.rms_norm(x_BTD, x_BTD.shape[-1:])
    normed_BTD: Tensor = _RMSNorm.apply(x_BTD)  # type: ignore[no-untyped-call]
    return normed_BTD


class _RMSNorm(torch.autograd.Function):
    """y = x / rms(x), whose gradient takes out of g / rms(x) what lies along y."""

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor) -> Tensor:
        wide_BTD = x_BTD.float()
        inverse_BT1 = torch.rsqrt((wide_BTD * wide_BTD).mean(-1, keepdim=True) + EPS)
        y_BTD = wide_BTD * inverse_BT1
        ctx.save_for_backward(y_BTD, inverse_BT1)
        return y_BTD.type_as(x_BTD)

    @staticmethod
    def backward(ctx: Any, grad_BTD: Tensor) -> Tensor:
        y_BTD, inverse_BT1 = ctx.saved_tensors
        along_BT1 = (grad_BTD * y_BTD).mean(-1, keepdim=True)
        change_BTD: Tensor = (grad_BTD - y_BTD * along_BT1) * inverse_BT1
        return change_BTD.type_as(grad_BTD)


class Norm(nn.Module):
    """Before each branch: RMSNorm without parameters, or LayerNorm."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        if config.norm == "layer":
            self.gain = nn.Parameter(torch.ones(config.width))
            self.shift = nn.Parameter(torch.zeros(config.width)) if config.bias else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        if not hasattr(self, "gain"):
            return rms_norm(x_BTD)
        return F.layer_norm(x_BTD, self.gain.shape, self.gain, self.shift)
