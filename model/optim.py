"""Which parameter goes to which optimizer; every parameter in exactly one group."""

from __future__ import annotations

import torch
from torch.optim import AdamW, Optimizer

from model.config import OptimConfig
from model.gpt import GPT
from model.muon import Muon
from model.schedule import rate


def make_optimizers(gpt: GPT, optim: OptimConfig) -> list[Optimizer]:
    """Optimizers over all parameters of `gpt`; each group remembers its peak rate as `peak_lr`.

    With `muon`, the blocks' matrices go to Muon and embedding and head to AdamW. Rate and decay
    mean the same for both: a step shrinks weights by lr x weight_decay.
    """
    matrices = list(gpt.blocks.parameters())
    rest = [*gpt.embedding.parameters(), *gpt.head.parameters()]
    decay, betas = optim.weight_decay, (optim.beta1, optim.beta2)
    if optim.name == "adamw":
        everything = AdamW(
            [*matrices, *rest], lr=optim.lr, betas=betas, weight_decay=decay, fused=True
        )
        optimizers: list[Optimizer] = [everything]
    else:
        muon = Muon(matrices, lr=optim.lr, momentum=optim.momentum, weight_decay=decay)
        beside = AdamW(rest, lr=optim.rest_lr, betas=betas, weight_decay=decay, fused=True)
        optimizers = [muon, beside]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def step(optimizers: list[Optimizer], gpt: GPT, optim: OptimConfig, done: float) -> None:
    """One update of all parameters at fraction `done` of the schedule; clears the gradients."""
    if optim.grad_clip:
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), optim.grad_clip)
    share = rate(optim, done)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
