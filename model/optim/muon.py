"""Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal before each update.

Why not torch.optim.Muon: it orthogonalises in bf16, which on a CPU without bf16 instructions took
fifty times as long as the same iterations in fp32, one matrix at a time, and it has none of the
changes that moved records since. This one takes fp32 on a CPU, unless the run computes in bf16, and
all matrices of one shape together; its plain updates agree with torch's to bf16 rounding.

Shapes: N matrices of R rows and C columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

Coefficients = tuple[tuple[float, float, float], ...]
QUINTIC: Coefficients = ((3.4445, -4.7750, 2.0315),) * 5  # steepest at zero: few steps are enough
# Each step's optimal polynomial given those before it (arXiv 2505.16932, as slowrun has them).
POLAR_EXPRESS: Coefficients = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
# Polar Express divides by this times the norm, plus that, as slowrun and modded-nanogpt do:
# singular values stay below one, where its polynomials hold, and tiny gradients make small updates.
POLAR_MARGIN, POLAR_EPS = 1.02, 1e-6
SECOND_BETA = 0.95  # of NorMuon's mean square
TINY = 1e-7


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled decay: each step shrinks by lr x decay.

    scale           rms: updates have AdamW's root mean square (arXiv 2502.16982), so that rates
                    mean the same for both; shape: singular values of one (the group's rate should
                    then carry sqrt(rows / columns) of tall matrices)
    iteration       quintic or polar_express
    row_normalised  rows of the update to unit length first (MuonEq-R)
    normuon         updates evened out by row, or by column of wide matrices (arXiv 2510.05491)
    bf16            orthogonalised in bf16 on a CPU too, a quarter of the time where the CPU has
                    instructions for it

    Takes 2-D parameters only.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        scale: str = "rms",
        iteration: str = "quintic",
        row_normalised: bool = False,
        normuon: bool = False,
        bf16: bool = False,
    ) -> None:
        self.scale, self.row_normalised, self.normuon = scale, row_normalised, normuon
        self.bf16 = bf16
        self.polar = iteration == "polar_express"
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the training loop computes gradients itself"
        for group in self.param_groups:
            by_shape: dict[tuple[int, ...], list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
            for parameters in by_shape.values():
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        directions = []
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            assert parameter.grad is not None
            state["momentum_buffer"].lerp_(parameter.grad, 1 - momentum)
            directions.append(parameter.grad.lerp(state["momentum_buffer"], momentum))
        x_NRC = torch.stack(directions)
        if self.row_normalised:
            x_NRC = x_NRC / x_NRC.norm(dim=-1, keepdim=True).clamp(min=TINY)
        coefficients = POLAR_EXPRESS if self.polar else QUINTIC
        updates_NRC = orthogonalise(x_NRC, coefficients, self.bf16)
        if self.normuon:
            updates_NRC = self._evened_out(updates_NRC.float(), parameters)
        rows, columns = parameters[0].shape
        scale = 0.2 * math.sqrt(max(rows, columns)) if self.scale == "rms" else 1.0
        for parameter, update_RC in zip(parameters, updates_NRC, strict=True):
            parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(update_RC.type_as(parameter), alpha=-lr * scale)

    def _evened_out(self, updates_NRC: Tensor, parameters: list[Tensor]) -> Tensor:
        """Updates over the root of each row's (or column's) mean square so far; norms as before."""
        tall = updates_NRC.shape[-2] >= updates_NRC.shape[-1]
        new_N = updates_NRC.square().mean(dim=-1 if tall else -2, keepdim=True)
        for parameter, new in zip(parameters, new_N, strict=True):
            state = self.state[parameter]
            if "mean_square" not in state:
                state["mean_square"] = torch.zeros_like(new)
            state["mean_square"].lerp_(new, 1 - SECOND_BETA)
        mean_N = torch.stack([self.state[parameter]["mean_square"] for parameter in parameters])
        evened_NRC = updates_NRC / mean_N.sqrt().clamp(min=TINY)
        norms = (x.norm(dim=(-2, -1), keepdim=True) for x in (updates_NRC, evened_NRC))
        before, after = norms
        result: Tensor = evened_NRC * (before / after.clamp(min=TINY))
        return result


def orthogonalise(
    x_NRC: Tensor, coefficients: Coefficients = QUINTIC, bf16: bool = False
) -> Tensor:
    """N matrices with their singular values pushed towards one, by Newton-Schulz iteration.

    bf16: on a CPU too.
    """
    tall, on_cpu = x_NRC.shape[-2] > x_NRC.shape[-1], x_NRC.device.type == "cpu"
    y = x_NRC.mT if tall else x_NRC
    y = y.float() if on_cpu else y.bfloat16()
    norm = y.norm(dim=(-2, -1), keepdim=True)
    polar = coefficients is POLAR_EXPRESS
    y = y / (POLAR_MARGIN * norm + POLAR_EPS if polar else norm.clamp(min=TINY))
    if on_cpu and bf16:
        y = _narrow_iteration(y.bfloat16(), coefficients)
    else:
        for a, b, c in coefficients:
            gram = y @ y.mT
            y = a * y + (b * gram + c * gram @ gram) @ y
    result: Tensor = y.mT if tall else y
    return result


def _narrow_iteration(y: Tensor, coefficients: Coefficients) -> Tensor:
    """The same in bf16, its sums within the products: between them a pass over memory costs more
    than on a GPU."""
    for a, b, c in coefficients:
        gram = torch.bmm(y, y.mT)
        y = torch.baddbmm(y, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), y, beta=a)
    return y
