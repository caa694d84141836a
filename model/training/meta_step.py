"""A meta-gradient step: half the batch is read where the other half's gradient leads.

First-order, as slowrun #98 and #99 have it, with theta the weights and d the gradient of the first
half of the batch on some matrices, divided by its norm over all of them:

    gradient = (g_first(theta) + g_second(theta - length d)) / 2

The weights then come back as they were. What is computed costs what one step does, in two halves.
With `train.meta_parts` above 1 each part of the batch does that alone, and the mean is used: where
records train on eight GPUs, each has a d of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from model.config import Config
from model.network import GPT
from model.optim import matrices, rate
from model.training.ranks import ALONE, Ranks

LEAST_NORM = 1e-12  # of a gradient: one below it moves nothing by the whole length


def meta_matrices(gpt: GPT, config: Config) -> list[nn.Parameter]:
    """What the temporary step of `config` moves; nothing if it has none."""
    if not config.train.meta_step:
        return []
    every = matrices(gpt, config.optim)
    if config.train.meta_on == "matrices":
        return every
    of_mlps = {id(p) for name, p in gpt.named_parameters() if ".mlp." in name}
    return [parameter for parameter in every if id(parameter) in of_mlps]


def meta_length(config: Config, done: float) -> float:
    """The L2 length of the temporary step at fraction `done` of the run; 0: there is none."""
    train = config.train
    if not train.meta_step or train.meta_schedule == "constant":
        return train.meta_step
    return train.meta_step * rate(config.optim, done, train.epochs, 1 / config.steps)


@contextmanager
def gradients_apart(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Inside, gradients of `parameters` are of what is done there alone; then all are added up."""
    before = [(parameter, parameter.grad) for parameter in parameters]
    for parameter in parameters:
        parameter.grad = None
    yield
    for parameter, gradient in before:
        if parameter.grad is None:
            parameter.grad = gradient
        elif gradient is not None:
            parameter.grad += gradient


@contextmanager
def stepped(parameters: Sequence[Tensor], length: float, ranks: Ranks = ALONE) -> Iterator[None]:
    """Inside, `parameters` are `length` further down their gradient; then they are as before.

    ranks   that have a part of this gradient each: all step along the sum of these
    One norm over all of them. Back to the last bit: from copies, as adding what was taken away
    would round. Written into the parameters' own memory, which compiled code may know by address.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    with torch.no_grad():
        kept = [parameter.clone() for parameter in moved]
        gradients = ranks.summed([p.grad for p in moved if p.grad is not None])
        norms = torch._foreach_norm(gradients)
        share = length / torch.stack(norms).norm().clamp(min=LEAST_NORM)  # stays on the device
        for parameter, gradient in zip(moved, gradients, strict=True):
            parameter.sub_(gradient * share)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, kept)
