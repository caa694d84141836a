"""Small GPT-2 weights in Hugging Face's layout, and what such a network computes, in numpy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

CONFIG: dict[str, Any] = {
    "model_type": "gpt2",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 16,
    "n_positions": 32,
    "vocab_size": 257,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
}
Tensors = dict[str, np.ndarray]


def tensors(seed: int = 0, **config: Any) -> Tensors:
    """Random weights under the names of a language model, large enough that all of them matter."""
    its = {**CONFIG, **config}
    draw, width = np.random.default_rng(seed), its["n_embd"]
    shapes = {"wte.weight": (its["vocab_size"], width), "wpe.weight": (its["n_positions"], width)}
    for layer in range(its["n_layer"]):
        for name, out, into in (
            ("attn.c_attn", 3 * width, width),
            ("attn.c_proj", width, width),
            ("mlp.c_fc", 4 * width, width),
            ("mlp.c_proj", width, 4 * width),
        ):
            shapes[f"h.{layer}.{name}.weight"] = (into, out)
            shapes[f"h.{layer}.{name}.bias"] = (out,)
        for name in ("ln_1", "ln_2"):
            shapes[f"h.{layer}.{name}.weight"] = shapes[f"h.{layer}.{name}.bias"] = (width,)
    shapes["ln_f.weight"] = shapes["ln_f.bias"] = (width,)
    return {
        f"transformer.{name}": draw.normal(0, 0.4, shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def write_gpt2(folder: Path, its: Tensors | None = None, **config: Any) -> Path:
    """A folder as save_pretrained writes it; `config` stands in its config.json instead."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors(**config) if its is None else its, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    return folder


def logits(its: Tensors, tokens_BT: np.ndarray, heads: int = 2) -> np.ndarray:
    """(B, T, V): GPT-2's forward pass in float64, from the names in the file."""
    w = {n.removeprefix("transformer."): t.astype(np.float64) for n, t in its.items()}

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        result: np.ndarray = scaled * w[f"{name}.weight"] + w[f"{name}.bias"]
        return result

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        result: np.ndarray = x @ w[f"{name}.weight"] + w[f"{name}.bias"]
        return result

    def attention(x: np.ndarray, name: str) -> np.ndarray:
        B, T, D = x.shape
        parts = np.split(linear(x, f"{name}.c_attn"), 3, axis=-1)
        q, k, v = (p.reshape(B, T, heads, D // heads).swapaxes(1, 2) for p in parts)
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(D // heads)
        scores = np.where(np.tri(T, dtype=bool), scores, -np.inf)
        chances = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (chances / chances.sum(-1, keepdims=True)) @ v
        return linear(mixed.swapaxes(1, 2).reshape(B, T, D), f"{name}.c_proj")

    def gelu(x: np.ndarray) -> np.ndarray:
        result: np.ndarray = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
        return result

    x = w["wte.weight"][tokens_BT] + w["wpe.weight"][: tokens_BT.shape[1]]
    for layer in range(sum(name.endswith("ln_1.bias") for name in w)):
        h = f"h.{layer}"
        x = x + attention(norm(x, f"{h}.ln_1"), f"{h}.attn")
        x = x + linear(gelu(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")), f"{h}.mlp.c_proj")
    result: np.ndarray = norm(x, "ln_f") @ w["wte.weight"].T
    return result
