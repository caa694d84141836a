"""Which parts of a trained network matter: measured on text, or read off the weights.

Shapes: B sequences, T tokens, D width, H heads of a layer, K head width, U its hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from model.network import GPT, Block
from model.training.device import Runtime

Batches = Iterable[tuple[np.ndarray, np.ndarray]]  # inputs and targets, (B, T) each


@dataclass(frozen=True, eq=False)
class Importance:
    """By layer; an empty array where a layer has no attention or no MLP.

    Higher is worth more. Heads are key and value heads, each with the query heads that share it.
    """

    heads: tuple[np.ndarray, ...]  # (G,), of unit length in each layer
    head_gradients: tuple[np.ndarray, ...]  # (G,), the same in nats, to first order
    units: tuple[np.ndarray, ...]  # (U,), by gradient: nats, to first order
    magnitudes: tuple[np.ndarray, ...]  # (U,), by the size of their weights
    layers: np.ndarray  # (L,), how far each turns the stream: 1 less the cosine of its ends


def importance(gpt: GPT, batches: Batches, where: Runtime) -> Importance:
    """What text tells of heads, units and layers.

    Of a head and of a unit it is how much the loss of a sequence would change, to first order, if
    its output were scaled: the mean over sequences of |gradient with respect to a mask on it|
    (Michel et al., 1905.10650, equation 2; Molchanov et al., 1611.06440, for units). Heads are then
    divided by the length of their layer's (there, appendix A; they found that needed).
    Of a layer it is the cosine between what comes in and what goes out, as in 2004.03844.
    """
    config = gpt.config
    seen = _Seen(config.layers)
    was_training = gpt.training
    gpt.eval()
    with _watched(gpt, seen):
        for x_BT, y_BT in batches:
            with where.autocast():
                tokens_BT = torch.from_numpy(x_BT).to(where.device)
                losses_BT = gpt.losses(tokens_BT, torch.from_numpy(y_BT).to(where.device))
            # The mean of each sequence, so that what a sequence has is its own.
            losses_BT.mean(dim=1).sum().backward()  # type: ignore[no-untyped-call]
            seen.take_in(len(x_BT))
    gpt.zero_grad(set_to_none=True)
    gpt.train(was_training)
    wide = config.queries_per_kv * (config.width // config.heads)
    heads = tuple(seen.mean("heads", layer, wide) for layer in range(config.layers))
    units = tuple(seen.mean("units", layer) for layer in range(config.layers))
    return Importance(
        heads=tuple(map(_of_unit_length, heads)),
        head_gradients=heads,
        units=units,
        magnitudes=magnitudes(gpt),
        layers=seen.turned_L / seen.sequences,
    )


def magnitudes(gpt: GPT) -> tuple[np.ndarray, ...]:
    """How large the weights of each hidden unit are: the product of the lengths of its rows.

    A product, as making one matrix larger and the next smaller changes nothing that it computes;
    the first counts twice where the activation squares it.
    """
    sizes = []
    for block in blocks(gpt):
        mlp = block.mlp
        if mlp is None:
            sizes.append(np.empty(0))
            continue
        size_U = mlp.expand.weight.norm(dim=1) * mlp.project.weight.norm(dim=0)
        if mlp.kind == "swiglu":
            size_U = size_U * mlp.gate.weight.norm(dim=1)
        elif mlp.kind == "relu2":
            size_U = size_U * mlp.expand.weight.norm(dim=1)
        sizes.append(size_U.detach().cpu().numpy().astype(np.float64))
    return tuple(sizes)


def blocks(gpt: GPT) -> list[Block]:
    """Its layers, each as what it is."""
    return [block for block in gpt.blocks if isinstance(block, Block)]


class _Seen:
    """Sums over sequences of what the hooks see, by layer."""

    def __init__(self, layers: int) -> None:
        self.outputs: dict[tuple[str, int], list[Tensor]] = {}  # of this batch, with gradients
        self._products: dict[tuple[str, int], list[Tensor]] = {}
        self.turned_L = np.zeros(layers)
        self.sequences = 0
        self.layers = layers

    def take_in(self, sequences: int) -> None:
        """Take in the outputs of one batch and their gradients."""
        for key, outputs in self.outputs.items():
            # A layer that is replayed has one mask for all of its passes.
            each = [(y * y.grad).sum(dim=1) for y in outputs if y.grad is not None]
            if each:
                self._products.setdefault(key, []).append(torch.stack(each).sum(0).detach().cpu())
        self.outputs.clear()
        self.sequences += sequences

    def mean(self, kind: str, layer: int, wide: int = 1) -> np.ndarray:
        """Mean over sequences of the absolute sum over each part, of so many features."""
        products = self._products.get((kind, layer))
        if not products:
            return np.empty(0)
        sums_BF = torch.cat(products).double()
        parts_BP = sums_BF.view(len(sums_BF), -1, wide).sum(-1)
        mean_P: np.ndarray = parts_BP.abs().mean(0).numpy()
        return mean_P


@contextmanager
def _watched(gpt: GPT, seen: _Seen) -> Iterator[None]:
    """Inside, what heads and units give, and how far layers turn the stream, is seen."""

    def output(kind: str, layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            if arguments[0].requires_grad:
                arguments[0].retain_grad()
                seen.outputs.setdefault((kind, layer), []).append(arguments[0])

        return hook

    def turn(layer: int) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(module: nn.Module, arguments: tuple[Tensor, ...], y_BTD: Tensor) -> None:
            with torch.no_grad():
                cosine_BT = torch.cosine_similarity(arguments[0].float(), y_BTD.float(), dim=-1)
                seen.turned_L[layer] += float((1 - cosine_BT).mean(dim=1).sum())

        return hook

    hooks = []
    for layer, block in enumerate(blocks(gpt)):
        hooks.append(block.register_forward_hook(turn(layer)))
        if block.attention is not None:
            hooks.append(block.attention.out.register_forward_pre_hook(output("heads", layer)))
        if block.mlp is not None:
            hooks.append(block.mlp.project.register_forward_pre_hook(output("units", layer)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _of_unit_length(values: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(values))
    return values / length if length else values
