"""Functions with gradients of their own for a CPU, where passes over memory are what costs.

The first two take about half the time of torch's there. Those after `narrow` stand in for what
autocast makes of an eager network in bf16: benchmarks/trainer.py says what they save. On a GPU, and
compiled, torch's are used.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

EPS = torch.finfo(torch.float32).eps  # as F.rms_norm
# Features of normed heads whose scores exp takes as they are. Keys with an offset are up to the
# root of two longer: a score is at most (2 * 2048)^0.5 = 64 then, and bf16 ends at exp(88).
WIDEST_BOUNDED = 2048


class RMSNorm(torch.autograd.Function):
    """y = x / rms(x) over the last dimension; its gradient takes out of g / rms(x) what is along y.

    Shapes: B sequences, T tokens, D features; one root mean square for each (B, T).
    """

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


class SquaredReLU(torch.autograd.Function):
    """max(x, 0)^2 elementwise; keeps max(x, 0) alone for its gradient, 2 max(x, 0)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = torch.relu(x)
        ctx.save_for_backward(positive)
        return positive.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        change: Tensor = (grad * positive).mul_(2)
        return change


def narrow(x: Tensor) -> bool:
    """Whether `x` is computed with by the functions below: on a CPU, eagerly, in bf16's autocast.

    They leave nothing to autocast: sums and norms are in fp32, what a product reads is in bf16,
    and each value is converted once. Without autocast nothing here changes a bit.
    """
    return (
        x.device.type == "cpu"
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not torch.compiler.is_compiling()
    )


def inverse_rms(x: Tensor) -> Tensor:
    """One over the root mean square of each vector of fp32."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square_().div_(x.shape[-1]).add_(EPS).rsqrt_()


class NarrowRMSNorm(torch.autograd.Function):
    """RMSNorm of the fp32 stream, its output in bf16 for the products that read it.

    Shapes: B sequences, T tokens, D features.
    """

    @staticmethod
    def forward(ctx: Any, x_BTD: Tensor) -> Tensor:
        inverse_BT1 = inverse_rms(x_BTD)
        ctx.save_for_backward(x_BTD, inverse_BT1)
        y_BTD = torch.empty_like(x_BTD, dtype=torch.bfloat16)
        torch.mul(x_BTD, inverse_BT1, out=y_BTD)
        return y_BTD

    @staticmethod
    def backward(ctx: Any, grad_BTD: Tensor) -> Tensor:
        x_BTD, inverse_BT1 = ctx.saved_tensors
        change_BTD = grad_BTD.float()
        along_BT1 = (change_BTD * x_BTD).mean(-1, keepdim=True).mul_(inverse_BT1.square())
        change_BTD.addcmul_(x_BTD, along_BT1, value=-1).mul_(inverse_BT1)
        return change_BTD


class WeightedSum(torch.autograd.Function):
    """own * x + other * y of two states of the stream in fp32; `own` None stands for one."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, own: Tensor | None, y: Tensor, other: Tensor) -> Tensor:
        ctx.save_for_backward(x, own, y, other)
        return torch.addcmul(x, y, other) if own is None else (x * own).addcmul_(y, other)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        x, own, y, other = ctx.saved_tensors
        along_y = torch.dot(grad.flatten(), y.flatten())
        if own is None:
            return grad, None, grad * other, along_y
        return grad * own, torch.dot(grad.flatten(), x.flatten()), grad * other, along_y


class TurnedHeads(torch.autograd.Function):
    """Queries or keys as attention reads them: turned by their positions, of unit root mean square.

    Turning changes no length, so the order does not matter. cos_TK and sin_TK are those of
    `rotary_tables`, empty if positions are learned; from (B, T, H, K) to contiguous (B, H, T, K).
    """

    @staticmethod
    def forward(ctx: Any, x_BTHK: Tensor, cos_TK: Tensor, sin_TK: Tensor, normed: bool) -> Tensor:
        B, T, H, K = x_BTHK.shape
        wide_BHTK = torch.empty(B, H, T, K).copy_(x_BTHK.transpose(1, 2))
        inverse_BHT1 = inverse_rms(wide_BHTK) if normed else None
        turned_BHTK = turn(wide_BHTK, cos_TK, sin_TK) if len(cos_TK) else wide_BHTK
        y_BHTK = torch.empty(B, H, T, K, dtype=torch.bfloat16)
        if inverse_BHT1 is None:
            y_BHTK.copy_(turned_BHTK)
            ctx.save_for_backward(None, None, cos_TK, sin_TK)
        else:
            torch.mul(turned_BHTK, inverse_BHT1, out=y_BHTK)
            ctx.save_for_backward(y_BHTK, inverse_BHT1, cos_TK, sin_TK)
        return y_BHTK

    @staticmethod
    def backward(ctx: Any, grad_BHTK: Tensor) -> tuple[Tensor, None, None, None]:
        y_BHTK, inverse_BHT1, cos_TK, sin_TK = ctx.saved_tensors
        wide_BHTK = grad_BHTK.float()
        if y_BHTK is not None:
            y_BHTK = y_BHTK.float()
            along_BHT1 = (wide_BHTK * y_BHTK).mean(-1, keepdim=True)
            wide_BHTK = wide_BHTK.addcmul_(y_BHTK, along_BHT1, value=-1).mul_(inverse_BHT1)
        if len(cos_TK):  # back: the same angles, the other way
            wide_BHTK = turn(wide_BHTK, cos_TK, -sin_TK)
        B, H, T, K = wide_BHTK.shape
        change_BTHK = torch.empty(B, T, H, K, dtype=torch.bfloat16)
        change_BTHK.copy_(wide_BHTK.transpose(1, 2))
        return change_BTHK, None, None, None


def turn(x_BHTK: Tensor, cos_TK: Tensor, sin_TK: Tensor) -> Tensor:
    """Each pair of features turned by its position's angle, in fp32."""
    half = x_BHTK.shape[-1] // 2
    turned_BHTK = x_BHTK * cos_TK
    turned_BHTK[..., :half].addcmul_(x_BHTK[..., half:], sin_TK[:, :half])
    turned_BHTK[..., half:].addcmul_(x_BHTK[..., :half], sin_TK[:, half:])
    return turned_BHTK


class NarrowAttention(torch.autograd.Function):
    """Attention by plain products in bf16; a masked weight is zero, so that no gradient is masked.

    bounded: queries and keys are normed and not too wide, so that exp(score) cannot overflow. No
    largest score is looked for then, and what is divided by the sum of the weights is the output,
    not each weight.

    Shapes: B sequences, H heads, T queries, S keys, K head width, N sequences times heads.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_BHTK: Tensor,
        k_BHSK: Tensor,
        v_BHSK: Tensor,
        mask: Tensor | None,
        bounded: bool,
    ) -> Tensor:
        """mask: which keys are read, (T, S) or (B, 1, T, S); None: none that is later."""
        B, H, T, _ = q_BHTK.shape
        q_NTK, k_NSK, v_NSK = (x.flatten(0, 1) for x in (q_BHTK, k_BHSK, v_BHSK))
        ctx.scale = q_NTK.shape[-1] ** -0.5
        inverse_NT1 = None
        if bounded:
            weights_NTS = _product(q_NTK, k_NSK.mT, ctx.scale).exp_()
            if mask is None:
                weights_NTS.tril_()
            else:
                weights_NTS.view(B, H, T, -1).mul_(mask.to(weights_NTS.dtype))
            inverse_NT1 = weights_NTS.sum(-1, keepdim=True, dtype=torch.float32).reciprocal_()
            y_NTK = torch.bmm(weights_NTS, v_NSK).mul_(inverse_NT1)
        else:
            bias = _later(T) if mask is None else _bias(mask)
            if bias.dim() > 2:
                bias = bias.expand(B, H, *bias.shape[2:]).flatten(0, 1)
            weights_NTS = torch.baddbmm(bias, q_NTK, k_NSK.mT, alpha=ctx.scale).softmax(-1)
            y_NTK = torch.bmm(weights_NTS, v_NSK)
        mean_of = y_NTK if bounded else None
        ctx.save_for_backward(q_NTK, k_NSK, v_NSK, weights_NTS, mean_of, inverse_NT1)
        return y_NTK.view(B, H, T, -1)

    @staticmethod
    def backward(ctx: Any, grad_BHTK: Tensor) -> tuple[Tensor | None, ...]:
        q_NTK, k_NSK, v_NSK, weights_NTS, y_NTK, inverse_NT1 = ctx.saved_tensors
        grad_NTK = grad_BHTK.flatten(0, 1)
        if inverse_NT1 is None:
            change_NTS = torch.bmm(grad_NTK, v_NSK.mT)
            change_NTS = torch._softmax_backward_data(change_NTS, weights_NTS, -1, change_NTS.dtype)
        else:
            grad_NTK = grad_NTK * inverse_NT1.to(grad_NTK.dtype)
            mean_NT1 = (grad_NTK.float() * y_NTK).sum(-1, keepdim=True).to(grad_NTK.dtype)
            change_NTS = torch.baddbmm(mean_NT1, grad_NTK, v_NSK.mT, beta=-1).mul_(weights_NTS)
        changes = (
            _product(change_NTS, k_NSK, ctx.scale),
            _product(change_NTS.mT, q_NTK, ctx.scale),
            torch.bmm(weights_NTS.mT, grad_NTK),
        )
        B, H = grad_BHTK.shape[:2]
        return *(x.view(B, H, *x.shape[1:]) for x in changes), None, None


def _product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """scale * a @ b for N pairs of matrices."""
    return torch.baddbmm(a.new_empty(()), a, b, beta=0, alpha=scale)


@lru_cache(maxsize=4)
def _later(T: int) -> Tensor:
    """What hides later tokens when it is added to scores, (T, T)."""
    return _bias(torch.ones(T, T, dtype=torch.bool).tril_())


def _bias(mask: Tensor) -> Tensor:
    """Minus infinity where `mask` is false, else 0; in bf16."""
    return torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill_(~mask, -torch.inf)
