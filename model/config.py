"""Every setting of the trainer: dotted name, unit, default, bounds and one line of meaning.

A setting has one spelling everywhere: `optim.lr` is the YAML key, the field here, the parameter in
the study and in MLflow, and the `--set` flag. Defaults live in this file and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from model.setting import ConfigError, Setting, Value, describe, did_you_mean, setting

MULTIPLIER = "optim.weight_decay_multiplier"
USUAL_WEIGHT_DECAY = 0.1  # the value most recipes leave untouched; multipliers are relative to it


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    path: str = setting(
        "", "", "text file, directory of text files or Parquet file; empty: Python's own library"
    )
    tokenizer: str = setting("bytes", "", "how text becomes tokens", choices=("bytes", "gpt2"))
    train_tokens: int = setting(65_536, "tokens", "the training budget, seen once per epoch", low=2)
    val_tokens: int = setting(16_384, "tokens", "held out for searching and pruning", low=2)
    test_tokens: int = setting(16_384, "tokens", "sealed until the search is over", low=2)
    digest: str = setting("", "", "refuse a token table with another digest; empty: any")


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    layers: int = setting(2, "", "transformer blocks at scale 1", low=1, high=1000)
    width: int = setting(64, "", "residual stream at scale 1, a multiple of 4", low=8, high=1 << 17)
    head_width: int = setting(32, "", "about how wide one attention head is", low=2)
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
        0.5, "of context", "how far back an S layer attends (1904.10509)", above=0, high=1
    )
    key_offset: bool = setting(
        False, "", "L layers take the unrotated half of keys one token later (slowrun #29)"
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
        "gelu, relu, ReLU^2 (2109.08668) or SwiGLU (2002.05202)",
        choices=("gelu", "relu", "relu2", "swiglu"),
    )
    mlp_expansion: float = setting(4.0, "x width", "hidden units of the MLP", above=0, high=64)
    mlp_multiple: int = setting(1, "", "hidden units are rounded up to a multiple of this", low=1)
    output_init: str = setting(
        "zeros",
        "",
        "branch outputs start at zero, or normal with deviation width^-0.5 (slowrun #59)",
        choices=("zeros", "normal"),
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
        "both", "", "branches with dropout", choices=("both", "attention", "mlp")
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
        fitting = [
            heads
            for heads in range(self.queries_per_kv, self.width // pairs + 1, self.queries_per_kv)
            if self.width % (pairs * heads) == 0
        ]
        if not fitting:
            raise ConfigError(
                [
                    f"gpt.width: {self.width} cannot be split into heads whose width is a multiple "
                    f"of {pairs} and whose count is a multiple of gpt.queries_per_kv "
                    f"({self.queries_per_kv})"
                ]
            )
        return min(fitting, key=lambda heads: abs(heads - self.width / self.head_width))

    @property
    def kv_heads(self) -> int:
        """Key and value heads; each serves `queries_per_kv` query heads."""
        return self.heads // self.queries_per_kv

    @property
    def kv_width(self) -> int:
        """Width of all key heads together, and of all value heads."""
        return self.width // self.queries_per_kv

    @property
    def hidden(self) -> int:
        """Hidden units of the MLP."""
        return math.ceil(self.mlp_expansion * self.width / self.mlp_multiple) * self.mlp_multiple

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
        """How many tokens back `layer` attends, itself included."""
        short = self.windows[layer % len(self.windows)] == "S" and layer != self.layers - 1
        return max(1, round(self.short_window * self.context)) if short else self.context

    def has_value_residual(self, layer: int) -> bool:
        """Every other layer, so that the last one has it."""
        return self.value_residual != "no" and (self.layers - 1 - layer) % 2 == 0

    def problems(self) -> list[str]:
        """What is possible alone but not together."""
        found = []
        if self.width % 4:
            found.append(f"gpt.width: must be a multiple of 4, got {self.width}")
        if not self.windows or set(self.windows) - {"S", "L"}:
            found.append(f"gpt.windows: must be letters S and L, got {self.windows!r}")
        if self.key_offset and self.positions != "half_rotary":
            found.append("gpt.key_offset: needs gpt.positions half_rotary, whose rest it moves")
        if self.replay_passes and not self.replayed:
            found.append(
                f"gpt.replay_last: no whole layer between {self.replay_first:g} and "
                f"{self.replay_last:g} of {self.layers}; lower gpt.replay_first or set "
                "gpt.replay_passes to 0"
            )
        if self.replay_passes and not self.replay_gradient and not self.x0:
            found.append(
                "gpt.replay_gradient: false needs gpt.x0 true, or the embedding would not learn"
            )
        if self.replay_passes and not self.replay_gradient and self.replay_first > 0:
            found.append(
                "gpt.replay_first: must be 0 with gpt.replay_gradient false, or the layers before "
                f"it would not learn, got {self.replay_first:g}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    name: str = setting(
        "adamw",
        "",
        "muon, soap, shampoo and magma take the blocks' matrices and leave the rest to AdamW",
        choices=("adamw", "muon", "soap", "shampoo", "lion", "magma", "schedule_free"),
    )
    lr: float = setting(
        0.004,
        "",
        "peak rate; beside an AdamW for the rest, of the blocks' matrices",
        above=0,
        high=10,
    )
    rest_lr: float = setting(
        0.004,
        "",
        "peak AdamW rate of all but the blocks' matrices, where those have their own",
        above=0,
        high=10,
    )
    embedding_lr: float = setting(
        0.0, "", "peak rate of embedding tables; 0: as the rest", low=0, high=10
    )
    head_lr: float = setting(0.0, "", "peak rate of the head; 0: as the rest", low=0, high=10)
    scalar_lr: float = setting(
        0.0, "", "peak rate of gains, biases, gates and scalars; 0: as the rest", low=0, high=10
    )
    residual_lr: float = setting(
        0.0, "", "peak rate of input scales and skips; 0: as scalars", low=0, high=10
    )
    weight_decay_multiplier: float = setting(
        1.0, "x 0.1", "decoupled decay: each step shrinks weights by lr x 0.1 x this", low=0
    )
    decay_timescale: float = setting(
        0.0,
        "epochs",
        "how long weights remember, 1 / (lr x decay x steps per epoch) (2405.13698): sets the "
        "multiplier; 0: follows from it",
        low=0,
    )
    decay_schedule: str = setting(
        "constant",
        "",
        "decay over the run: constant, by decay_points, or rising as the rate falls (slowrun #90)",
        choices=("constant", "piecewise", "rising"),
    )
    decay_points: tuple[str, ...] = setting(
        (),
        "of run:x",
        "decay multiples at fractions of the run, joined by lines: 0:1, 0.4:0.1, 1:1",
    )
    decay_low: float = setting(
        0.7, "x", "decay at the peak rate, with decay_schedule rising", low=0, high=1
    )
    cautious_decay: bool = setting(
        False, "", "decay only weights that the update shrinks too (2510.12402)"
    )
    momentum: float = setting(0.95, "", "Muon's momentum", low=0, high=0.999)
    momentum_start: float = setting(0.85, "", "Muon's momentum at first", low=0, high=0.999)
    momentum_warmup: float = setting(
        0.0, "of run", "fraction in which momentum rises from its start", low=0, high=1
    )
    muon_scale: str = setting(
        "rms",
        "",
        "match AdamW's update size (2502.16982), or sqrt(rows / columns) on rate and so decay",
        choices=("rms", "shape"),
    )
    muon_iteration: str = setting(
        "quintic",
        "",
        "coefficients of Newton-Schulz: Jordan's, or Polar Express (2505.16932)",
        choices=("quintic", "polar_express"),
    )
    row_normalised: bool = setting(
        False, "", "Muon: rows of the update to unit length first (MuonEq-R, slowrun #71)"
    )
    normuon: bool = setting(False, "", "Muon: even out updates by row afterwards (2510.05491)")
    beta1: float = setting(0.9, "", "AdamW's mean of gradients", low=0, high=0.999)
    beta2: float = setting(0.95, "", "AdamW's mean of squared gradients", low=0, high=0.9999)
    schedule: str = setting(
        "cosine",
        "",
        "how the rate falls: whole run, or in the last warmdown (1 - sqrt: 2405.18392); "
        "schedule_free has none",
        choices=(
            "cosine",
            "linear",
            "constant",
            "constant_linear",
            "constant_1-sqrt",
            "constant_sqrt",
        ),
    )
    warmup: float = setting(0.05, "of run", "fraction with a rising rate", low=0, high=0.9)
    warmdown: float = setting(
        0.4, "of run", "last fraction, in which a constant rate falls", above=0, high=1
    )
    final_rate: float = setting(0.0, "of peak", "the rate at the end", low=0, high=1)
    cycle_epochs: int = setting(
        0, "epochs", "last epochs, each of which lets the rate fall anew (slowrun #56)", low=0
    )
    grad_clip: float = setting(1.0, "", "largest gradient norm; 0: no clipping", low=0)

    @property
    def weight_decay(self) -> float:
        """Decoupled weight decay: a step shrinks weights by lr x this."""
        return USUAL_WEIGHT_DECAY * self.weight_decay_multiplier

    @property
    def decay_curve(self) -> tuple[tuple[float, float], ...]:
        """`decay_points` as (fraction of the run, multiple) pairs; raises ValueError."""
        points = [str(point).split(":") for point in self.decay_points]
        if any(len(point) != 2 for point in points):
            raise ValueError("a point is a fraction, a colon and a multiple")
        curve = tuple((float(at), float(multiple)) for at, multiple in points)
        fractions = [at for at, _ in curve]
        if fractions != sorted(fractions) or not all(0 <= at <= 1 for at in fractions):
            raise ValueError("fractions must rise from 0 to 1")
        if not all(0 <= multiple < math.inf for _, multiple in curve):
            raise ValueError("multiples must be 0 or above")
        return curve

    def problems(self) -> list[str]:
        """What is possible alone but not together."""
        found = []
        try:
            if not self.decay_curve and self.decay_schedule == "piecewise":
                found.append("optim.decay_points: decay_schedule piecewise needs at least one")
        except ValueError as error:
            found.append(
                f"optim.decay_points: {error}, as in 0:1, 0.4:0.1, 1:1; got "
                f"{', '.join(map(str, self.decay_points))}"
            )
        if self.warmup + self.warmdown > 1 and self.schedule.startswith("constant_"):
            found.append(
                f"optim.warmdown: with optim.warmup ({self.warmup:g}) more than the whole run, "
                f"got {self.warmdown:g}"
            )
        if self.name == "schedule_free" and self.beta1 == 0:
            found.append("optim.beta1: schedule_free needs it above 0")
        if self.name == "schedule_free" and self.cautious_decay:
            found.append("optim.cautious_decay: schedule_free decays on its own; set it to false")
        return found


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    epochs: int = setting(1, "", "passes over the training tokens", low=1)
    batch_tokens: int = setting(1024, "tokens", "per optimizer step", low=2)
    micro_batch_tokens: int = setting(
        0, "tokens", "at once; a step adds up the gradients of several; 0: the whole batch", low=0
    )
    shuffle: str = setting(
        "sequences",
        "",
        "redrawn each epoch: order of sequences, or documents too (slowrun #7, #76)",
        choices=("no", "sequences", "documents"),
    )
    evals: int = setting(8, "", "evaluations, at equal fractions of the schedule", low=1, high=1000)
    evaluate: str = setting(
        "raw",
        "",
        "whose loss is val_loss: last weights, their EMA, averaged weights or probabilities",
        choices=("raw", "ema", "weights", "probabilities"),
    )
    ema_epochs: float = setting(0.0, "epochs", "horizon of the weights' EMA; 0: none", low=0)
    average_last: int = setting(
        0, "epochs", "ends of so many last epochs are averaged (slowrun #50, #57)", low=0
    )
    average_recency: bool = setting(
        False, "", "the last counts k times as much as the first of k, not the same"
    )
    log_probs: str = setting(
        "last",
        "",
        "keep each validation token's log-probability: at the end, at each epoch too, or not",
        choices=("no", "last", "epochs"),
    )
    seed: int = setting(0, "", "initialisation and dropout", low=0, high=2**31)
    data_seed: int = setting(0, "", "order of sequences in each epoch", low=0, high=2**31)
    device: str = setting("auto", "", "where to train", choices=("auto", "cpu", "cuda"))
    precision: str = setting(
        "auto",
        "",
        "autocast type; auto: bf16 where the device has instructions for it",
        choices=("auto", "fp32", "bf16"),
    )
    compile: str = setting(
        "auto",
        "",
        "torch.compile; auto: on a GPU in runs long enough to pay for it",
        choices=("auto", "yes", "no"),
    )

    def problems(self) -> list[str]:
        """What is possible alone but not together."""
        found = []
        if self.evaluate == "ema" and not self.ema_epochs:
            found.append("train.evaluate: ema needs train.ema_epochs above 0")
        if self.evaluate in ("weights", "probabilities") and not self.average_last:
            found.append(f"train.evaluate: {self.evaluate} needs train.average_last above 0")
        if self.average_last > self.epochs:
            found.append(
                f"train.average_last: must be at most train.epochs ({self.epochs}), "
                f"got {self.average_last}"
            )
        return found


@dataclass(frozen=True, kw_only=True)
class Config:
    """All it takes to train one GPT."""

    data: DataConfig = DataConfig()
    gpt: GPTConfig = GPTConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()

    @classmethod
    def from_settings(cls, settings: Mapping[str, object]) -> Config:
        """Build from dotted names; raises ConfigError with every problem at once."""
        problems: list[str] = []
        parts: dict[str, dict[str, Value]] = {part.name: {} for part in fields(cls)}
        for name, value in settings.items():
            if name not in SETTINGS:
                problems.append(f"{name}: no such setting{did_you_mean(name, SETTINGS)}")
                continue
            try:
                part, _, key = name.partition(".")
                parts[part][key] = SETTINGS[name].check(value)
            except ConfigError as error:
                problems.append(f"{name}: {error}")
        if problems:
            raise ConfigError(problems)
        config = cls(**{name: _PARTS[name](**given) for name, given in parts.items()})
        config.check_together()
        return config._with_both_decays(set(settings))

    def _with_both_decays(self, given: set[str]) -> Config:
        """Decay as multiplier and as timescale: one was given or is the default, one follows."""
        timescale, multiplier = self.optim.decay_timescale, self.optim.weight_decay_multiplier
        per_multiplier = USUAL_WEIGHT_DECAY * self.optim.lr * self.steps_per_epoch
        if timescale:
            derived = 1 / (timescale * per_multiplier)
            if MULTIPLIER in given and not math.isclose(multiplier, derived, rel_tol=1e-6):
                raise ConfigError(
                    [
                        f"optim.decay_timescale: {timescale:g} epochs are {MULTIPLIER} "
                        f"{derived:g} at this rate and batch, but {multiplier:g} is given; give one"
                    ]
                )
            optim = replace(self.optim, weight_decay_multiplier=derived)
        else:
            derived = 1 / (multiplier * per_multiplier) if multiplier else 0.0
            optim = replace(self.optim, decay_timescale=derived)
        return replace(self, optim=optim)

    def settings(self) -> dict[str, Value]:
        """Every setting by its dotted name."""
        nested = asdict(self)
        return {f"{part}.{key}": v for part, group in nested.items() for key, v in group.items()}

    def check_together(self) -> None:
        """Refuse settings that are each possible but not together."""
        problems = [*self.gpt.problems(), *self.optim.problems(), *self.train.problems()]
        micro = self.train.micro_batch_tokens
        if micro and (micro % self.gpt.context or self.train.batch_tokens % micro):
            problems.append(
                f"train.micro_batch_tokens: must be a multiple of gpt.context ({self.gpt.context}) "
                f"and a divisor of train.batch_tokens ({self.train.batch_tokens}), got {micro}"
            )
        if self.train.batch_tokens % self.gpt.context:
            problems.append(
                f"train.batch_tokens: must be a multiple of gpt.context ({self.gpt.context}), "
                f"got {self.train.batch_tokens}"
            )
        elif self.steps_per_epoch < 1:
            problems.append(
                f"data.train_tokens: {self.data.train_tokens} are too few for one batch of "
                f"train.batch_tokens ({self.train.batch_tokens})"
            )
        elif self.steps < self.train.evals:
            problems.append(
                f"train.evals: {self.train.evals} evaluations need as many steps, but the "
                f"schedule has {self.steps}; lower train.evals or train.batch_tokens"
            )
        if self.data.val_tokens <= self.gpt.context:
            problems.append(
                f"data.val_tokens: must be above gpt.context ({self.gpt.context}), "
                f"got {self.data.val_tokens}"
            )
        if problems:
            raise ConfigError(problems)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one pass; a last batch that is not full is left out."""
        sequences = (self.data.train_tokens - 1) // self.gpt.context
        return sequences // (self.train.batch_tokens // self.gpt.context)

    @property
    def steps(self) -> int:
        """Optimizer steps in the whole schedule."""
        return self.steps_per_epoch * self.train.epochs


_PARTS: dict[str, Any] = {
    "data": DataConfig,
    "gpt": GPTConfig,
    "optim": OptimConfig,
    "train": TrainConfig,
}


SETTINGS: dict[str, Setting] = {
    name: setting
    for part, config in _PARTS.items()
    for name, setting in describe(part, config).items()
}
