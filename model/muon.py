"""Muon (Jordan et al. 2024): momentum whose matrix is made orthogonal before each update.

Why not torch.optim.Muon: it orthogonalises in bf16, which on a CPU without bf16 instructions took
fifty times as long as the same iterations in fp32, and one matrix at a time. This one takes fp32 on
CPU and all matrices of one shape together; its updates agree with torch's to bf16 rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

QUINTIC = (3.4445, -4.7750, 2.0315)  # steepest at zero, so that few iterations are enough
ITERATIONS = 5


class Muon(Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled decay: each step shrinks by lr x decay.

    Takes 2-D parameters only. The update's root mean square is matched to AdamW's (arXiv
    2502.16982), so that learning rates mean the same for both.
    """

    def __init__(
        self, params: Iterable[Tensor], *, lr: float, momentum: float, weight_decay: float
    ) -> None:
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
        rows, columns = parameters[0].shape
        scale = 0.2 * math.sqrt(max(rows, columns))
        updates_NRC = orthogonalise(torch.stack(directions))
        for parameter, update_RC in zip(parameters, updates_NRC, strict=True):
            parameter.mul_(1 - lr * group["weight_decay"])
            parameter.add_(update_RC.type_as(parameter), alpha=-lr * scale)


def orthogonalise(x_NRC: Tensor) -> Tensor:
    """N matrices with their singular values pushed towards one, by Newton-Schulz iteration."""
    tall = x_NRC.shape[-2] > x_NRC.shape[-1]
    y = x_NRC.mT if tall else x_NRC
    y = y.float() if y.device.type == "cpu" else y.bfloat16()
    y = y / y.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = y @ y.mT
        y = a * y + (b * gram + c * gram @ gram) @ y
    result: Tensor = y.mT if tall else y
    return result
