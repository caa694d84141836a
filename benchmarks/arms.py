"""What single settings are worth: variants of one recipe against it, seed by seed.

    python benchmarks/arms.py meta_step
    python benchmarks/arms.py cycles --seeds 3

Each seed trains every variant from the same weights, on the same batches; what is printed is the
difference of final losses, its mean over seeds and a 95 % Student-t interval of that. The corpus is
the quickstart's: the source text of Python's own standard library. One thread, one run at a time.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean, stdev

import torch
from scipy.stats import t as student

from model.config import Config
from model.config.presets import PRESETS
from model.training.train import train

Settings = Mapping[str, object]
RECIPE: Settings = {
    **PRESETS["cpu-tiny"].settings,
    "data.train_tokens": 32_768,  # and so many epochs that it over-fits without decay
    "data.val_tokens": 65_536,
    "gpt.layers": 2,
    "gpt.width": 64,
    "gpt.dropout": 0.1,
    "optim.weight_decay_multiplier": 16.0,
    "train.epochs": 8,
    "train.evals": 1,
    "train.log_probs": "no",
    "train.device": "cpu",
    "train.precision": "fp32",
    "train.compile": "no",
}
CYCLIC: Settings = {
    "train.epochs": 16,
    "optim.schedule": "cyclic",
    "optim.final_rate": 0.08,
    "optim.decay_schedule": "rising",
    "train.average_cycles": 8,
    "train.evaluate": "probabilities",
}
NOISE: Settings = {"optim.cycle_noise": 0.25, "optim.cycle_noise_last": 0.05}
SETS: Mapping[str, Mapping[str, Settings]] = {
    "meta_step": {
        "as it is": {},
        "length 0.1": {"train.meta_step": 0.1},
        "length 0.5": {"train.meta_step": 0.5},
        "length 2": {"train.meta_step": 2.0},
    },
    "cycles": {
        "one fall": {"train.epochs": 16},
        "one fall, its last 4 epochs mixed": {
            "train.epochs": 16,
            "optim.cycle_epochs": 4,
            "train.average_last": 4,
            "train.evaluate": "probabilities",
        },
        "4 networks of 4 epochs": {"train.epochs": 4, "train.members": 4},
        "4 cycles of 4 epochs": {**CYCLIC, "optim.cycles": 4},
        "8 cycles of 2 epochs": {**CYCLIC, "optim.cycles": 8},
        "4 cycles of 4 epochs, noise": {**CYCLIC, **NOISE, "optim.cycles": 4},
    },
}


def main() -> None:
    """Train all variants of a set and print their differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    variants = SETS[asked.set]
    control, *others = variants
    losses: dict[str, list[float]] = {name: [] for name in (control, *others)}
    seconds: dict[str, list[float]] = {name: [] for name in losses}
    for seed in range(asked.seeds):
        for name in losses:
            began = time.process_time()
            losses[name].append(trained({**RECIPE, **variants[name]}, seed))
            seconds[name].append(time.process_time() - began)
            print(
                f"seed {seed} {name}: {losses[name][-1]:.4f}, {seconds[name][-1]:.1f} s", flush=True
            )
    print(f"\n{control}: {fmean(losses[control]):.4f} nats a token")
    for name in others:
        apart = [b - a for a, b in zip(losses[control], losses[name], strict=True)]
        time_ratio = fmean(seconds[name]) / fmean(seconds[control])
        print(f"{name}: {difference(apart)}; {time_ratio:.2f} x the CPU time")


def trained(settings: Settings, seed: int) -> float:
    """The final validation loss, nats per token."""
    config = Config.from_settings({**settings, "train.seed": seed, "train.data_seed": seed})
    with tempfile.TemporaryDirectory() as folder:
        return list(train(config, Path(folder)))[-1].val_loss


def difference(apart: list[float]) -> str:
    """A mean of paired differences with its 95 % interval."""
    half = float(student.ppf(0.975, len(apart) - 1)) * stdev(apart) / math.sqrt(len(apart))
    return f"{fmean(apart):+.4f} ({fmean(apart) - half:+.4f} to {fmean(apart) + half:+.4f})"


if __name__ == "__main__":
    main()
