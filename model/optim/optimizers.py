"""Which parameter goes to which optimizer, at what rate, with what decay.

Every parameter is in exactly one group. Decay means one thing everywhere: each step shrinks weights
by rate x decay, whatever the gradient. Where an optimizer of a library understands decay in another
way, its own is off and ours is applied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from model.config import FOR_ALL, Config, OptimConfig
from model.network import GPT
from model.optim.adamw import AdamW
from model.optim.muon import Muon
from model.optim.schedule import decay, momentum, rate

# Shrinking a gain or a scale has no meaning of its own. Gates decay where they count as matrices.
DECAYED = ("matrices", "embedding", "head")
AS_MATRICES = {"no": (), "value": ("value_gates",), "all": ("value_gates", "head_gates")}
# Preconditioners are renewed every so many steps: at each they would cost more than the network.
PRECONDITION_EVERY = 10


@dataclass(frozen=True)
class Group:
    """What one group of parameters is trained with, for people to look at."""

    name: str
    optimizer: str
    tensors: int
    parameters: int
    lr: float  # at its peak, `lr_scale` included
    lr_scale: float  # Muon's factor of shape, which is in decay_per_step too
    decay_per_step: float  # at the peak rate: the share by which a step shrinks weights


def make_optimizers(gpt: GPT, optim: OptimConfig, bf16: bool = False) -> list[Optimizer]:
    """Optimizers over all parameters of `gpt`, in groups that know their name, peak and decay.

    bf16: whether the run computes in it and a CPU has instructions for it, so that Muon does too.
    """
    rest = optim.lr if optim.name in FOR_ALL else optim.rest_lr
    scalars = optim.scalar_lr or rest
    peaks = {
        "matrices": optim.lr,
        "embedding": optim.embedding_lr or rest,
        "head": optim.head_lr or rest,
        "residual": optim.residual_lr or scalars,
        "mixes": optim.mix_lr or scalars,
    }
    groups = [
        _group(kind, parameters, peaks.get(kind, scalars), optim)
        for kind, parameters in _kinds(gpt, optim).items()
        if parameters
    ]
    if optim.name in FOR_ALL:
        return [_for_all(groups, optim)]
    matrices = [group for group in groups if group["name"] == "matrices"]
    others = [group for group in groups if group["name"] != "matrices"]
    return [_for_matrices(matrices, optim, bf16), *([_adamw(others, optim)] if others else [])]


def matrices(gpt: GPT, optim: OptimConfig) -> list[torch.nn.Parameter]:
    """The blocks' matrices, and gates that are trained as these are, whatever the optimizer."""
    return _kinds(gpt, optim)["matrices"]


def _kinds(gpt: GPT, optim: OptimConfig) -> dict[str, list[torch.nn.Parameter]]:
    kinds: dict[str, list[torch.nn.Parameter]] = {}
    for kind, parameters in gpt.groups().items():
        as_matrices = kind in AS_MATRICES[optim.gates_as_matrices]
        kinds.setdefault("matrices" if as_matrices else kind, []).extend(parameters)
    return kinds


def _group(
    name: str, parameters: list[torch.nn.Parameter], peak: float, optim: OptimConfig
) -> dict[str, Any]:
    decay = optim.weight_decay if name in DECAYED else 0.0
    cautious = optim.cautious_decay == "all" or optim.cautious_decay == name
    return {
        "params": parameters,
        "name": name,
        "peak_lr": peak,
        "lr": peak,
        "lr_scale": 1.0,
        "decay": decay * optim.embedding_decay if name == "embedding" else decay,
        "cautious_decay": cautious,  # Lion has a `cautious` of its own
        "weight_decay": 0.0,
        **({"betas": optim.betas[name]} if name in optim.betas else {}),
    }


def _adamw(groups: list[dict[str, Any]], optim: OptimConfig) -> Optimizer:
    return AdamW(groups, betas=(optim.beta1, optim.beta2), eps=optim.eps, fused=True)


def _for_all(groups: list[dict[str, Any]], optim: OptimConfig) -> Optimizer:
    if optim.name == "adamw":
        return _adamw(groups, optim)
    import pytorch_optimizer as library  # takes most of a second

    betas = (optim.beta1, optim.beta2)
    if optim.name == "lion":
        lion: Optimizer = library.Lion(groups, betas=betas)
        return lion
    free: Optimizer = library.ScheduleFreeAdamW(groups, betas=betas, eps=optim.eps)
    return free


def _for_matrices(groups: list[dict[str, Any]], optim: OptimConfig, bf16: bool) -> Optimizer:
    if optim.name == "muon":
        return Muon(
            [part for group in groups for part in _by_shape(group, optim.muon_scale)],
            lr=optim.lr,
            momentum=optim.momentum,
            weight_decay=0.0,
            scale=optim.muon_scale,
            iteration=optim.muon_iteration,
            row_normalised=optim.row_normalised,
            normuon=optim.normuon,
            bf16=bf16,
        )
    import pytorch_optimizer as library

    betas = (optim.beta1, optim.beta2)
    made: Optimizer
    if optim.name == "soap":
        made = library.SOAP(
            groups, betas=betas, eps=optim.eps, precondition_frequency=PRECONDITION_EVERY
        )
    elif optim.name == "shampoo":
        # Moves nothing in its first nine steps, before it has roots. Roots of the first gradient
        # alone would be worse: where that is near zero, later updates came out a hundred times
        # too large.
        made = library.Shampoo(groups, preconditioning_compute_steps=PRECONDITION_EVERY)
    else:
        made = library.Magma(_adamw(groups, optim))
    return made


def _by_shape(group: dict[str, Any], scale: str) -> list[dict[str, Any]]:
    """One group for each shape, so that the factor which shape puts on rate and decay is seen."""
    shapes: dict[tuple[int, int], list[Tensor]] = {}
    for parameter in group["params"]:
        rows, columns = parameter.shape
        shapes.setdefault((rows, columns), []).append(parameter)
    parts = []
    for (rows, columns), parameters in shapes.items():
        factor = math.sqrt(max(1, rows / columns)) if scale == "shape" else 1.0
        peak = group["peak_lr"] * factor
        own = {"name": f"matrices {rows} x {columns}", "peak_lr": peak, "lr": peak}
        parts.append({**group, **own, "lr_scale": factor, "params": parameters})
    return parts


def describe_groups(optimizers: list[Optimizer]) -> list[Group]:
    """Where every parameter went."""
    return [
        Group(
            name=group["name"],
            optimizer=type(optimizer).__name__,
            tensors=len(group["params"]),
            parameters=sum(parameter.numel() for parameter in group["params"]),
            lr=group["peak_lr"],
            lr_scale=group["lr_scale"],
            decay_per_step=group["peak_lr"] * group["decay"],
        )
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]


def step(
    optimizers: list[Optimizer],
    gpt: GPT,
    optim: OptimConfig,
    done: float,
    epochs: int,
    one_step: float = 0.0,
) -> None:
    """Update all parameters and clear the gradients.

    done      fraction of the run before this step
    epochs    of the run
    one_step  of the run, as a fraction
    """
    if optim.grad_clip:
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), optim.grad_clip)
    share, multiple = rate(optim, done, epochs, one_step), decay(optim, done, epochs)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share
            if "momentum" in group and isinstance(optimizer, Muon):
                group["momentum"] = momentum(optim, done)
        _step_with_decay(optimizer, multiple)
        optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _step_with_decay(optimizer: Optimizer, multiple: float) -> None:
    """Shrink, then update. AdamW and Muon do it in one go, to the same effect.

    Groups with cautious decay shrink afterwards, and only where the update shrank the weight too,
    or left it (arXiv 2510.12402): by their weights before, so that both act on the same ones.
    schedule_free decays inside its update, at the point where it takes the gradient: shrinking all
    three of its sequences from outside would break the average that is its point.
    """
    own = isinstance(optimizer, AdamW | Muon) or _is_free(optimizer)
    cautious = [
        group for group in optimizer.param_groups if group["cautious_decay"] and group["decay"]
    ]
    for group in optimizer.param_groups:
        decay_now = 0.0 if group["cautious_decay"] else group["decay"] * multiple
        if own:
            group["weight_decay"] = decay_now
        elif decay_now:
            with_gradient = [p for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(with_gradient, 1 - group["lr"] * decay_now)
    before = [[parameter.clone() for parameter in group["params"]] for group in cautious]
    optimizer.step()
    for group, weights in zip(cautious, before, strict=True):
        shrink = group["lr"] * group["decay"] * multiple
        for parameter, was in zip(group["params"], weights, strict=True):
            agrees = (parameter - was) * was <= 0
            parameter.sub_(was * agrees, alpha=shrink)


@contextmanager
def swap_in_averages(optimizers: list[Optimizer]) -> Iterator[None]:
    """Inside, parameters are those to evaluate: for schedule_free its average, else as they are.

    The library's way back computes the training weights anew, which rounding changes; here they are
    kept and put back as they were.
    """
    free: list[Any] = [optimizer for optimizer in optimizers if _is_free(optimizer)]
    groups = [group for optimizer in free for group in optimizer.param_groups]
    kept = [[parameter.detach().clone() for parameter in group["params"]] for group in groups]
    for optimizer in free:
        optimizer.eval()
    try:
        yield
    finally:
        with torch.no_grad():
            for group, weights in zip(groups, kept, strict=True):
                torch._foreach_copy_(group["params"], weights)
                group["train_mode"] = True


def _is_free(optimizer: Optimizer) -> bool:
    """Whether it trains and evaluates with different weights: schedule_free."""
    return hasattr(optimizer, "eval")


def outline(config: Config, vocabulary: int) -> list[Group]:
    """The groups that training `config` on so many tokens would have."""
    with torch.device("meta"):
        gpt = GPT(config.gpt, vocabulary)
    return describe_groups(make_optimizers(gpt, config.optim))
