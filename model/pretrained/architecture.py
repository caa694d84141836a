"""GPT-2's architecture as settings of ours, and how far a network of ours is from it.

Source: OpenAI's gpt-2 (src/model.py), and the configuration that Hugging Face keeps beside weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from model.config import VOCABULARIES, GPTConfig, Value, scaled

EPSILON = 1e-5  # of LayerNorm, ours and GPT-2's
# The activations of Hugging Face's names that are those of ours; gelu_new is the tanh formula.
ACTIVATIONS = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "relu2": "relu2",
}
# What may be set beside weights that were read: it adds no parameter and changes no trained one.
FREE = (
    "context",  # learned positions are cropped
    "context_windows",  # of gpt.context_vector alone, which is compared
    "dropout",
    "dropout_on",
    "stochastic_depth",
    "document_mask",
    "windows",
    "short_window",
    "input_init",
    "output_init",
    "head_init",
    "residual_init",
    "init",
    "init_digest",
    "scale",  # of the shape, which is compared once it is scaled
    "head_width",  # the count of heads is compared
    "mlp_expansion",  # hidden units are compared
    "mlp_multiple",
    "mtp_weight",
    "mtp_until",
    "replay_first",
    "replay_last",
    "replay_start",
    "replay_gradient",
    "mtp",  # offsets add no parameter; a block is told below
)
# What every network of GPT-2's architecture has, whatever its size.
COMMON: Mapping[str, Value] = {
    "gpt.embedding_norm": False,
    "gpt.norm": "layer",
    "gpt.positions": "learned",
    "gpt.qk_norm": False,
    "gpt.queries_per_kv": 1,
    "gpt.mlp_multiple": 1,
    "gpt.input_init": "gpt2",
    "gpt.output_init": "gpt2",
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One network of this architecture."""

    layers: int
    width: int
    heads: int
    context: int = 1024
    vocabulary: int = VOCABULARIES["gpt2"]  # rows of the embedding
    hidden: int = 0  # units of the MLP; 0: four times the width
    mlp: str = "gelu_tanh"
    bias: bool = True
    tied_head: bool = True

    @property
    def units(self) -> int:
        """Hidden units of the MLP."""
        return self.hidden or 4 * self.width

    def settings(self) -> dict[str, Value]:
        """Our settings of this network."""
        return {
            **COMMON,
            "gpt.layers": self.layers,
            "gpt.width": self.width,
            "gpt.head_width": self.width // self.heads,
            "gpt.context": self.context,
            "gpt.bias": self.bias,
            "gpt.mlp": self.mlp,
            "gpt.mlp_expansion": self.units / self.width,
            "gpt.tied_head": self.tied_head,
        }


PUBLISHED = {
    "gpt2": Shape(layers=12, width=768, heads=12),
    "gpt2-medium": Shape(layers=24, width=1024, heads=16),
    "gpt2-large": Shape(layers=36, width=1280, heads=20),
    "gpt2-xl": Shape(layers=48, width=1600, heads=25),
}


def shape_of(gpt: GPTConfig, vocabulary: int) -> Shape:
    """The shape that `gpt` would have if nothing kept it from being of this architecture."""
    gpt = scaled(gpt)
    return Shape(
        layers=gpt.layers,
        width=gpt.width,
        heads=gpt.heads,
        context=gpt.context,
        vocabulary=vocabulary,
        hidden=gpt.hidden,
        mlp=gpt.mlp,
        bias=gpt.bias,
        tied_head=gpt.tied_head,
    )


def misfits(gpt: GPTConfig, shape: Shape) -> list[str]:
    """Settings with which weights of `shape` do not make the network `gpt`, and what would."""
    gpt, wanted = scaled(gpt), _network(shape)
    problems = [
        f"gpt.{name}: is {_shown(ours)}, but the weights have {_shown(theirs)}"
        for name in (field.name for field in fields(GPTConfig))
        if name not in FREE
        for ours, theirs in [(getattr(gpt, name), getattr(wanted, name))]
        if ours != theirs
    ]
    if gpt.width == wanted.width:
        if gpt.heads != wanted.heads:
            problems.append(
                f"gpt.head_width: {gpt.head_width} makes {gpt.heads} heads, but the weights have "
                f"{wanted.heads}; set it to {wanted.head_width}"
            )
        if gpt.hidden != wanted.hidden:
            problems.append(
                f"gpt.mlp_expansion: {gpt.mlp_expansion:g} makes {gpt.hidden} hidden units, but "
                f"the weights have {wanted.hidden}; set it to {wanted.mlp_expansion:g}"
            )
    if gpt.mtp == "block":
        problems.append("gpt.mtp: a block has weights of its own; choose no or offsets")
    if gpt.context > shape.context:
        problems.append(
            f"gpt.context: is {gpt.context}, but the weights have {shape.context} positions; set "
            "it to that or less"
        )
    return problems


def obstacles(gpt: GPTConfig) -> list[str]:
    """Settings that GPT-2's architecture, as Hugging Face has it, has no place for.

    A network without biases has one: its biases are zero.
    """
    gpt = replace(scaled(gpt), mtp="no")  # a block for it trains, and predicts nothing afterwards
    shape = shape_of(gpt, 0)
    if gpt.mlp not in ACTIVATIONS.values():
        shape = replace(shape, mlp="gelu_tanh")
    problems = [text.replace("the weights have", "GPT-2 has") for text in misfits(gpt, shape)]
    if "S" in gpt.windows and any(gpt.window(i) < gpt.context for i in range(gpt.layers)):
        problems.append(f"gpt.windows: is {gpt.windows!r}, but GPT-2 has 'L'")
    if gpt.document_mask:
        problems.append("gpt.document_mask: is true, but GPT-2 has false")
    return problems


def read_config(config: Mapping[str, Any]) -> tuple[Shape | None, list[str]]:
    """The shape that Hugging Face's config.json describes; else what keeps ours from being it."""
    problems = [
        f"{name}: expected {expected}, got {config[name]!r}"
        for name, expected in EXPECTED.items()
        if config.get(name, expected) != expected
    ]
    if config.get("model_type") != "gpt2":
        problems.insert(0, f"model_type: expected 'gpt2', got {config.get('model_type')!r}")
    activation = config.get("activation_function", "gelu_new")
    if activation not in ACTIVATIONS:
        problems.append(
            f"activation_function: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}"
        )
    numbers, others = read_numbers(config, NUMBERS)
    problems += others
    hidden = config.get("n_inner") or 0
    if not isinstance(hidden, int):
        problems.append(f"n_inner: expected a whole number, got {hidden!r}")
    if problems:
        return None, problems
    tied = bool(config.get("tie_word_embeddings", True))
    return Shape(**numbers, hidden=hidden, mlp=ACTIVATIONS[activation], tied_head=tied), []


def read_numbers(
    config: Mapping[str, Any], names: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The numbers of a `Shape` that `config` gives, under its own `names`, and what is wrong."""
    numbers, problems = {}, []
    for ours, theirs in names.items():
        value = config.get(theirs)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            problems.append(f"{theirs}: expected a whole number above 0, got {value!r}")
        else:
            numbers[ours] = value
    if not problems and numbers["width"] % (2 * numbers["heads"]):
        heads, width = numbers["heads"], numbers["width"]
        problems.append(
            f"{names['heads']}: {heads} heads of an even width do not fit in {names['width']} "
            f"{width}"
        )
    return numbers, problems


NUMBERS = {
    "layers": "n_layer",
    "width": "n_embd",
    "heads": "n_head",
    "context": "n_positions",
    "vocabulary": "vocab_size",
}
EXPECTED = {
    "layer_norm_epsilon": EPSILON,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}


def as_config(gpt: GPTConfig, vocabulary: int, end_of_text: int | None) -> dict[str, Any]:
    """`gpt` as a config.json for Hugging Face's GPT2LMHeadModel; it must have no `obstacles`."""
    gpt = scaled(gpt)
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    at_branches = gpt.dropout if gpt.dropout_on in ("both", "all") else 0.0
    everywhere = gpt.dropout if gpt.dropout_on == "all" else 0.0
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_layer": gpt.layers,
        "n_head": gpt.heads,
        "n_embd": gpt.width,
        "n_inner": gpt.hidden,
        "n_positions": gpt.context,
        "vocab_size": vocabulary,
        "activation_function": names[gpt.mlp],
        **EXPECTED,
        "tie_word_embeddings": gpt.tied_head,
        "resid_pdrop": at_branches,
        "embd_pdrop": everywhere,
        "attn_pdrop": everywhere,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "dtype": "float32",
    }


def _network(shape: Shape) -> GPTConfig:
    settings: dict[str, Any] = {
        name.removeprefix("gpt."): value for name, value in shape.settings().items()
    }
    return GPTConfig(**settings)


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)
