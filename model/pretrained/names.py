"""The names and shapes of GPT-2's tensors, as Hugging Face and nanoGPT write them, and ours.

They put queries, keys and values into one matrix. Hugging Face keeps matrices as (in, out), as
OpenAI's code does; nanoGPT and ours as (out, in).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from model.pretrained.architecture import Shape

if TYPE_CHECKING:
    from torch import Tensor

# Within a block: their name, and ours.
NORMS = {"ln_1": "attention_norm", "ln_2": "mlp_norm"}
MATRICES = {"attn.c_proj": "attention.out", "mlp.c_fc": "mlp.expand", "mlp.c_proj": "mlp.project"}
FUSED = "attn.c_attn"
PARTS = ("attention.query", "attention.key", "attention.value")
HEAD = "lm_head.weight"
EMBEDDING, POSITIONS = "wte.weight", "wpe.weight"
TRUNK = "transformer."  # before every name but the head's in a language model's file


def expected(shape: Shape, linear: bool) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network of `shape` and its shape, without `TRUNK`; a tied head is none.

    linear  whether matrices are (out, in)
    """
    width, units = shape.width, shape.units
    sizes = {
        FUSED: (width, 3 * width),
        "attn.c_proj": (width, width),
        "mlp.c_fc": (width, units),
        "mlp.c_proj": (units, width),
    }
    tensors: dict[str, tuple[int, ...]] = {
        EMBEDDING: (shape.vocabulary, width),
        POSITIONS: (shape.context, width),
    }
    for layer in range(shape.layers):
        for name in NORMS:
            tensors |= _norm(f"h.{layer}.{name}", shape)
        for name, (into, out) in sizes.items():
            tensors[f"h.{layer}.{name}.weight"] = (out, into) if linear else (into, out)
            if shape.bias:
                tensors[f"h.{layer}.{name}.bias"] = (out,)
    tensors |= _norm("ln_f", shape)
    if not shape.tied_head:
        tensors[HEAD] = (shape.vocabulary, width)
    return tensors


def _norm(name: str, shape: Shape) -> dict[str, tuple[int, ...]]:
    both = ("weight", "bias") if shape.bias else ("weight",)
    return {f"{name}.{part}": (shape.width,) for part in both}


def to_ours(tensors: Mapping[str, Tensor], shape: Shape, linear: bool) -> dict[str, Tensor]:
    """Tensors under our names, matrices as (out, in)."""

    def matrix(name: str) -> Tensor:
        return tensors[name] if linear else tensors[name].T

    ours = {"embedding.weight": tensors[EMBEDDING], "positions.weight": tensors[POSITIONS]}
    for theirs, name in _norms(shape):
        ours[f"{name}.gain"] = tensors[f"{theirs}.weight"]
        if shape.bias:
            ours[f"{name}.shift"] = tensors[f"{theirs}.bias"]
    for layer in range(shape.layers):
        block, at = f"blocks.{layer}", f"h.{layer}"
        for part, rows in zip(PARTS, matrix(f"{at}.{FUSED}.weight").chunk(3), strict=True):
            ours[f"{block}.{part}.weight"] = rows
        for theirs, name in MATRICES.items():
            ours[f"{block}.{name}.weight"] = matrix(f"{at}.{theirs}.weight")
        if shape.bias:
            for part, rows in zip(PARTS, tensors[f"{at}.{FUSED}.bias"].chunk(3), strict=True):
                ours[f"{block}.{part}.bias"] = rows
            for theirs, name in MATRICES.items():
                ours[f"{block}.{name}.bias"] = tensors[f"{at}.{theirs}.bias"]
    if not shape.tied_head:
        ours["head.weight"] = tensors[HEAD]
    return ours


def to_theirs(tensors: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Our tensors as Hugging Face's GPT2LMHeadModel names them; biases that we lack are zero."""
    import torch

    def bias(name: str, size: int) -> Tensor:
        there = tensors.get(f"{name}.{'shift' if 'norm' in name else 'bias'}")
        return torch.zeros(size) if there is None else there

    rows = shape.vocabulary
    theirs = {EMBEDDING: tensors["embedding.weight"][:rows], POSITIONS: tensors["positions.weight"]}
    for name, ours in _norms(shape):
        theirs[f"{name}.weight"] = tensors[f"{ours}.gain"]
        theirs[f"{name}.bias"] = bias(ours, shape.width)
    for layer in range(shape.layers):
        block, at = f"blocks.{layer}", f"h.{layer}"
        parts = [tensors[f"{block}.{part}.weight"] for part in PARTS]
        theirs[f"{at}.{FUSED}.weight"] = torch.cat(parts).T
        parts = [bias(f"{block}.{part}", shape.width) for part in PARTS]
        theirs[f"{at}.{FUSED}.bias"] = torch.cat(parts)
        for name, ours in MATRICES.items():
            weight = tensors[f"{block}.{ours}.weight"]
            theirs[f"{at}.{name}.weight"] = weight.T
            theirs[f"{at}.{name}.bias"] = bias(f"{block}.{ours}", len(weight))
    named = {f"{TRUNK}{name}": tensor for name, tensor in theirs.items()}
    if not shape.tied_head:
        named[HEAD] = tensors["head.weight"][:rows]
    return {name: tensor.detach().float().contiguous() for name, tensor in named.items()}


def _norms(shape: Shape) -> Iterator[tuple[str, str]]:
    """Their name of each norm, and ours."""
    for layer in range(shape.layers):
        for theirs, ours in NORMS.items():
            yield f"h.{layer}.{theirs}", f"blocks.{layer}.{ours}"
    yield "ln_f", "norm"
