"""Settings of the network, and what follows from them without building it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from model.config.setting import ConfigError, setting


@lru_cache(maxsize=1 << 12)  # a search asks for the same few widths again and again
def _heads(width: int, pairs: int, step: int, head_width: int) -> int | None:
    fitting = [
        heads for heads in range(step, width // pairs + 1, step) if width % (pairs * heads) == 0
    ]
    return min(fitting, key=lambda heads: abs(heads - width / head_width), default=None)


@lru_cache(maxsize=1 << 8)
def _counts(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split()))


def _is_counts(text: str) -> bool:
    return all(count.isdecimal() for count in text.split())


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    layers: int = setting(2, "", "transformer blocks at scale 1", low=1, high=1000)
    width: int = setting(64, "", "residual stream at scale 1, a multiple of 4", low=8, high=1 << 17)
    head_width: int = setting(32, "", "about how wide one attention head is", low=2, high=1 << 17)
    context: int = setting(64, "tokens", "longest window attended over", low=2)
    scale: float = setting(
        1.0, "x", "non-embedding parameters; depth and width grow together", above=0, high=1e6
    )
    embedding_norm: bool = setting(True, "", "the embedding is normalised before the first layer")
    norm: str = setting(
        "rms",
        "",
        "before each branch: RMSNorm without parameters (1910.07467), or LayerNorm",
        choices=("rms", "layer"),
    )
    bias: bool = setting(False, "", "biases in linear layers and LayerNorm, as GPT-2 has them")
    positions: str = setting(
        "rotary",
        "",
        "rotary (2104.09864), rotary on half of each head (slowrun #29), or learned",
        choices=("rotary", "half_rotary", "learned"),
    )
    qk_norm: bool = setting(True, "", "RMSNorm of queries and keys (2010.04245)")
    queries_per_kv: int = setting(
        1, "heads", "query heads that share one key and value head (2305.13245)", low=1
    )
    windows: str = setting(
        "L",
        "",
        "attention windows by layer, repeated: S short, L whole context; the last layer is L",
    )
    short_window: float = setting(
        0.5,
        "of context",
        "how far back an S layer attends, beside the token itself (1904.10509)",
        above=0,
        high=1,
    )
    context_vector: bool = setting(
        False,
        "",
        "each window begins with a slot for the mean of the states of the one before (PicoGPT), so "
        "that a sequence is several windows, which follow each other",
    )
    context_windows: int = setting(
        8, "windows", "of a sequence, with gpt.context_vector", low=2, high=1 << 16
    )
    document_mask: bool = setting(
        False, "", "no token attends to another document; separators tell where one begins"
    )
    key_offset: str = setting(
        "no",
        "",
        "L layers take half of each key from the token before: the features that never turn, or "
        "the second half of all, turning ones among them (the line of slowrun #29)",
        choices=("no", "unturned", "second_half"),
    )
    head_gates: bool = setting(False, "", "each head's output times a sigmoid gate (slowrun #21)")
    head_mixing: bool = setting(
        False, "", "learned mixes of the heads' query, key, value weights (IHA, slowrun #69)"
    )
    exclusive: str = setting(
        "no",
        "",
        "take a token's own value out of its attention output (XSA, slowrun #36, #91)",
        choices=("no", "fixed", "learned"),
    )
    value_residual: str = setting(
        "no",
        "",
        "every other layer adds to its values: a table by token, or x0 projected (slowrun #11)",
        choices=("no", "table", "projection"),
    )
    mlp: str = setting(
        "relu2",
        "",
        "gelu, by its tanh formula (GPT-2), relu, ReLU^2 (2109.08668) or SwiGLU (2002.05202)",
        choices=("gelu", "gelu_tanh", "relu", "relu2", "swiglu"),
    )
    mlp_expansion: float = setting(4.0, "x width", "hidden units of the MLP", above=0, high=64)
    mlp_multiple: int = setting(
        1, "", "hidden units are rounded up to a multiple of this", low=1, high=1 << 17
    )
    heads_by_layer: str = setting(
        "",
        "",
        "attention heads of each layer, as 4 4 0 2; 0: it has no attention; empty: all alike",
    )
    units_by_layer: str = setting(
        "",
        "",
        "hidden units of each layer's MLP, as 512 300 0 512; 0: it has no MLP; empty: all alike",
    )
    init: str = setting(
        "",
        "",
        "weights to begin with: gpt2, gpt2-medium, gpt2-large, gpt2-xl, a folder or file of GPT-2 "
        "weights in Hugging Face's layout (safetensors), or nanoGPT's ckpt.pt; they decide the "
        "shape; empty: random ones",
    )
    init_digest: str = setting("", "", "refuse weights of another digest; empty: any")
    input_init: str = setting(
        "normal",
        "",
        "other matrices start normal or uniform, with deviation width^-0.5, or as GPT-2's: 0.02",
        choices=("normal", "uniform", "gpt2"),
    )
    output_init: str = setting(
        "zeros",
        "",
        "branch outputs start at zero, normal with deviation width^-0.5 (slowrun #59), or as "
        "GPT-2's: 0.02 / (2 x layers)^0.5",
        choices=("zeros", "normal", "gpt2"),
    )
    head_init: float = setting(
        0.0, "", "deviation of the head's first weights, unless it is tied", low=0, high=1
    )
    x0: bool = setting(False, "", "each layer scales its input and adds scaled x0 (slowrun)")
    residual_init: float = setting(1.0, "", "first input scale of each layer, with gpt.x0", above=0)
    unet: bool = setting(False, "", "late layers add the outputs of early ones (slowrun #17)")
    replay_passes: int = setting(
        0, "", "extra passes over the replayed layers (slowrun #34)", low=0
    )
    replay_first: float = setting(0.5, "of depth", "where replayed layers begin", low=0, high=1)
    replay_last: float = setting(0.7, "of depth", "where replayed layers end", low=0, high=1)
    replay_start: float = setting(0.5, "of run", "replay from here on", low=0, high=1)
    replay_gradient: bool = setting(
        True, "", "all passes learn; else only the last, with RMSNorm between (slowrun #92)"
    )
    tied_head: bool = setting(False, "", "the head is the embedding (1608.05859)")
    softcap: float = setting(0.0, "", "logits become c tanh(logit / c); 0: no cap", low=0)
    dropout: float = setting(
        0.0, "", "probability on the outputs that gpt.dropout_on names (1207.0580)", low=0, high=0.9
    )
    dropout_on: str = setting(
        "both",
        "",
        "outputs of both branches or of one; all: the embedding and attention weights too "
        "(nanoGPT)",
        choices=("both", "attention", "mlp", "all"),
    )
    stochastic_depth: float = setting(
        0.0,
        "",
        "chance to skip the last block, falling to 0 at the first (1603.09382)",
        low=0,
        high=0.9,
    )
    mtp: str = setting(
        "no",
        "",
        "also predict later tokens: from the same logits, or by a block more (slowrun #93, #65)",
        choices=("no", "offsets", "block"),
    )
    mtp_weight: float = setting(
        0.5, "", "loss weight of one token further; its square for two, with offsets", low=0, high=1
    )
    mtp_until: float = setting(
        0.66, "of run", "offsets fade out by here, the farthest first", above=0, high=1
    )

    @property
    def heads(self) -> int:
        """Attention heads: the count nearest width / head_width that suits widths and groups.

        Raises ConfigError if there is none.
        """
        pairs = 4 if self.positions == "half_rotary" else 2  # a head is rotated in pairs
        heads = _heads(self.width, pairs, self.queries_per_kv, self.head_width)
        if heads is None:
            raise ConfigError(
                [
                    f"gpt.width: {self.width} cannot be split into heads whose width is a multiple "
                    f"of {pairs} and whose count is a multiple of gpt.queries_per_kv "
                    f"({self.queries_per_kv})"
                ]
            )
        return heads

    @property
    def kv_width(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.width // self.queries_per_kv

    @property
    def reach(self) -> int:
        """Tokens of a sequence: those of a window, or of all windows that hand on their means."""
        return self.context * (self.context_windows if self.context_vector else 1)

    @property
    def places(self) -> int:
        """Positions of a window: its tokens, and the slot if it has one."""
        return self.context + self.context_vector

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP."""
        return math.ceil(self.mlp_expansion * self.width / self.mlp_multiple) * self.mlp_multiple

    @property
    def layer_heads(self) -> tuple[int, ...]:
        """Attention heads of each layer; 0 where it has no attention."""
        return _counts(self.heads_by_layer) or (self.heads,) * self.layers

    @property
    def layer_units(self) -> tuple[int, ...]:
        """Hidden units of each layer's MLP; 0 where it has none."""
        return _counts(self.units_by_layer) or (self.hidden,) * self.layers

    @property
    def replayed(self) -> range:
        """The layers that are replayed; empty if none are."""
        if not self.replay_passes:
            return range(0)
        return range(round(self.replay_first * self.layers), round(self.replay_last * self.layers))

    def is_replaying(self, done: float) -> bool:
        """Whether layers are replayed at fraction `done` of the run."""
        return len(self.replayed) > 0 and done >= self.replay_start

    def window(self, layer: int) -> int:
        """Tokens back that `layer` attends beside the token itself, as FlashAttention counts."""
        short = self.windows[layer % len(self.windows)] == "S" and layer != self.layers - 1
        return max(1, round(self.short_window * self.context)) if short else self.context

    def has_value_residual(self, layer: int) -> bool:
        """Every other layer, so that the last one has it; none without attention."""
        chosen = self.value_residual != "no" and (self.layers - 1 - layer) % 2 == 0
        return chosen and (not self.heads_by_layer or self.layer_heads[layer] > 0)

    def problems(self) -> list[str]:
        """What is possible alone but not together."""
        problems = []
        if self.init_digest and not self.init:
            problems.append("gpt.init_digest: is of the files that gpt.init names; give both")
        if self.width % 4:
            problems.append(f"gpt.width: must be a multiple of 4, got {self.width}")
        if not self.windows or set(self.windows) - {"S", "L"}:
            problems.append(f"gpt.windows: must be letters S and L, got {self.windows!r}")
        if self.key_offset != "no" and self.positions != "half_rotary":
            problems.append("gpt.key_offset: needs gpt.positions half_rotary, whose rest it moves")
        if self.replay_passes and not self.replayed:
            problems.append(
                f"gpt.replay_last: no whole layer between {self.replay_first:g} and "
                f"{self.replay_last:g} of {self.layers}; lower gpt.replay_first or set "
                "gpt.replay_passes to 0"
            )
        if self.replay_passes and not self.replay_gradient and not self.x0:
            problems.append(
                "gpt.replay_gradient: false needs gpt.x0 true, or the embedding would not learn"
            )
        if self.replay_passes and not self.replay_gradient and self.replay_first > 0:
            problems.append(
                "gpt.replay_first: must be 0 with gpt.replay_gradient false, or the layers before "
                f"it would not learn, got {self.replay_first:g}"
            )
        return problems + self._problems_by_layer()

    def _problems_by_layer(self) -> list[str]:
        """What is wrong with the counts that are given for each layer."""
        named = {
            "gpt.heads_by_layer": self.heads_by_layer,
            "gpt.units_by_layer": self.units_by_layer,
        }
        problems = [
            f"{name}: must be a whole number for each of {self.layers} layers, with blanks "
            f"between, got {text!r}"
            for name, text in named.items()
            if text and not (_is_counts(text) and len(_counts(text)) == self.layers)
        ]
        if problems:
            return problems
        heads = _counts(self.heads_by_layer)
        if any(count % self.queries_per_kv for count in heads):
            problems.append(
                f"gpt.heads_by_layer: counts must be multiples of gpt.queries_per_kv "
                f"({self.queries_per_kv}), got {self.heads_by_layer!r}"
            )
        if heads and not any(heads) and self.units_by_layer and not any(self.layer_units):
            problems.append(
                "gpt.units_by_layer: no layer is left, as none has attention either; leave a head "
                "or a unit somewhere"
            )
        problems += [
            f"{name}: needs gpt.scale 1, as counts are of the layers there are; write the scaled "
            "gpt.layers and gpt.width instead"
            for name, text in named.items()
            if text and self.scale != 1
        ]
        return problems
