"""Settings of NanoGPT Slowrun's records: 100M tokens of FineWeb, seen many times.

github.com/qlabs-eng/slowrun; #n is a pull request there. Rates are the tracks' base rates times
their multiplier.
"""

from __future__ import annotations

from collections.abc import Mapping

from model.config import MULTIPLIER, Value

Settings = Mapping[str, Value]
# Tokens at once for a GPU of 80 GB, by the bytes a step keeps for its gradients; not measured on
# one. Masks of dropout apart, what is computed does not depend on it.
ONE_GPU, ONE_GPU_LARGE = 16_384, 4_096

COMMON: Settings = {
    "data.tokenizer": "gpt2",
    "data.train_tokens": 100_000_000,
    "data.val_tokens": 10_000_000,
    "gpt.head_width": 128,
    "gpt.context": 2048,
    "gpt.embedding_norm": True,
    "gpt.norm": "rms",
    "gpt.bias": False,
    "gpt.positions": "rotary",
    "gpt.qk_norm": True,
    "gpt.windows": "SSSL",
    "gpt.short_window": 0.5,
    "gpt.x0": True,
    "gpt.residual_init": 1.0,
    "gpt.tied_head": False,
    "gpt.input_init": "uniform",
    "gpt.head_init": 0.001,
    "gpt.softcap": 15.0,
    "gpt.dropout": 0.1,
    "gpt.dropout_on": "both",
    "optim.name": "muon",
    "optim.cautious_decay": "matrices",
    "optim.momentum": 0.95,
    "optim.momentum_start": 0.85,
    "optim.muon_scale": "shape",
    "optim.muon_iteration": "polar_express",
    "optim.normuon": True,
    "optim.beta1": 0.8,
    "optim.beta2": 0.95,
    "optim.eps": 1e-10,
    "optim.gates_as_matrices": "value",
    "optim.group_betas": ("x0:0.96:0.95",),
    "optim.warmup": 0.0,
    "optim.final_rate": 0.0,
    "optim.grad_clip": 0.0,
    "train.batch_tokens": 524_288,
}

DAY_ONE: Settings = {
    **COMMON,
    "train.micro_batch_tokens": ONE_GPU_LARGE,
    "gpt.layers": 30,
    "gpt.width": 1792,
    "gpt.value_residual": "table",
    "gpt.mlp": "relu2",
    "gpt.mlp_expansion": 4.0,
    "gpt.output_init": "zeros",
    "optim.lr": 0.02,
    "optim.embedding_lr": 0.075,
    "optim.head_lr": 0.001,
    "optim.scalar_lr": 0.125,
    "optim.residual_lr": 0.00125,
    MULTIPLIER: 16.0,
    "optim.momentum_warmup": 300 / 2288,
    "optim.schedule": "constant_linear",
    "optim.warmdown": 0.5,
    "train.epochs": 12,
    "train.evals": 12,
    "train.shuffle": "no",
}

# Of every later track: #11, #12 and #16, #17 and #20, #21 and #23, #76.
LATER: Settings = {
    **COMMON,
    "gpt.head_gates": True,
    "gpt.value_residual": "projection",
    "gpt.mlp": "swiglu",
    "gpt.mlp_expansion": 8 / 3,
    "gpt.mlp_multiple": 256,
    "gpt.unet": True,
    "train.shuffle": "documents",
}

TINY: Settings = {
    **LATER,
    "train.micro_batch_tokens": ONE_GPU,
    "gpt.layers": 16,
    "gpt.width": 1024,
    "gpt.positions": "half_rotary",
    "gpt.key_offset": "second_half",
    "gpt.exclusive": "learned",
    "gpt.output_init": "zeros",
    "gpt.residual_init": 1.1,
    "gpt.replay_passes": 1,
    "gpt.replay_first": 0.0,
    "gpt.replay_last": 1.0,
    "gpt.replay_start": 0.7,
    "gpt.replay_gradient": False,
    "gpt.dropout_on": "attention",
    "gpt.mtp": "offsets",
    "gpt.mtp_weight": 0.5,
    "gpt.mtp_until": 0.66,
    "optim.lr": 0.032,
    "optim.embedding_lr": 0.12,
    "optim.head_lr": 0.0008,
    "optim.scalar_lr": 0.2,
    "optim.residual_lr": 0.002,
    "optim.group_betas": ("x0:0.96:0.95", "head_gates:0.9:0.99", "exclusions:0.9:0.95"),
    MULTIPLIER: 8.0,  # the 0.8 it begins with; the points are multiples of that
    "optim.decay_schedule": "piecewise",
    "optim.decay_points": (f"{2 / 15:.6f}:1", f"{8 / 15:.6f}:0.125", "1:1.1625"),
    "optim.momentum_warmup": 300 / 2850,
    "optim.schedule": "constant_linear",
    "optim.warmdown": 0.4,
    "optim.cycle_epochs": 4,
    "train.epochs": 15,
    "train.evals": 15,
    "train.evaluate": "weights",
    "train.ema_epochs": 0.527,  # 1 / ln(1 / 0.15): forgets all but 0.15 in an epoch
    "train.average_last": 4,
    "train.average_recency": True,
    # 32 sequences on each of 8 GPUs in halves of 16, on the 48 matrices of MLPs (#99)
    "train.meta_step": 0.5,
    "train.meta_on": "mlp",
    "train.meta_parts": 8,
}

# What the larger tracks share: #59, #65, #69, #71.
LARGE: Settings = {
    **LATER,
    "train.micro_batch_tokens": ONE_GPU_LARGE,
    "gpt.layers": 30,
    "gpt.head_mixing": True,
    "gpt.output_init": "normal",
    "gpt.replay_first": 0.5,
    "gpt.replay_gradient": True,
    "gpt.mtp": "block",
    "gpt.mtp_weight": 0.3,
    "optim.lr": 0.01,
    "optim.embedding_lr": 0.0375,
    "optim.head_lr": 0.0005,
    "optim.scalar_lr": 0.025,
    "optim.residual_lr": 0.00025,
    "optim.mix_lr": 0.02,
    "optim.gates_as_matrices": "all",
    "optim.row_normalised": True,
    MULTIPLIER: 13.0,
}


def hours(epochs: int, *, cycles: int, replay_epoch: int, average: int) -> Settings:
    """The one-hour recipe over so many epochs; replay is on from epoch `replay_epoch` of them."""
    return {
        **LARGE,
        "gpt.width": 1792,
        "gpt.softcap": 10.0,
        "gpt.stochastic_depth": 0.05,
        "gpt.replay_passes": 2,
        "gpt.replay_last": 0.7,
        "gpt.replay_start": (replay_epoch - 1) / epochs,
        "optim.momentum_warmup": 300 / (190.6 * epochs),
        "optim.schedule": "constant_sqrt",
        "optim.warmdown": 0.2,
        "optim.cycle_epochs": cycles,
        "optim.decay_schedule": "piecewise",
        "optim.decay_points": sawtooth(epochs, cycles),
        "train.epochs": epochs,
        "train.evals": epochs,
        "train.evaluate": "probabilities",
        "train.average_last": average,
    }


def sawtooth(epochs: int, cycles: int) -> tuple[str, ...]:
    """Decay as it is, then falling, then rising anew in each of the last epochs (#82)."""
    points = ["0.4:1"]
    for epoch in range(epochs - cycles, epochs):
        begins, ends = epoch / epochs - 2e-6, (epoch + 1) / epochs - 3e-6  # falls between steps
        points += [f"{begins:.6f}:0.65", f"{ends:.6f}:1.5"]
    return tuple(points)


ONE_HOUR: Settings = {
    **hours(11, cycles=3, replay_epoch=7, average=3),
    "gpt.dropout": 0.05,
    "gpt.stochastic_depth": 0.0,
    # four of eight micro-batches on each of 8 GPUs, on the 279 matrices that Muon has (#98)
    "train.meta_step": 0.5,
    "train.meta_schedule": "rate",
    "train.meta_parts": 8,
}

UNLIMITED: Settings = {
    **LARGE,
    "gpt.width": 2048,
    "gpt.replay_passes": 4,
    "gpt.replay_last": 5 / 6,
    "gpt.replay_start": 0.0,
    "optim.momentum_start": 0.95,
    "optim.momentum_warmup": 0.0,
    "optim.schedule": "linear",
    "optim.final_rate": 0.08,
    "optim.decay_schedule": "rising",
    "optim.decay_low": 0.7,
    "optim.grad_clip": 1.0,
    "train.epochs": 32,
    "train.evals": 32,
}
