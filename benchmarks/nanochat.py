"""Write the public nanochat runs at depth 8 as a bank, for searches and pruning to be replayed on.

    python benchmarks/nanochat.py nanochat_d8.parquet nanochat.parquet
    python benchmarks/search.py --bank nanochat.parquet

The runs are of dangxingyu/losscast-bench (MIT): 5 rates x 4 decays x 5 warmdowns of nanochat's Muon
on one epoch of 1.04 billion tokens of FineWeb-edu. Of each there are 200 train losses, in nats per
token, and one final validation loss, in bits per byte. A mark's loss is the mean of the last three
train losses; at the end it is the validation loss, in nats per token by the one factor that makes
both alike on average over the runs. Seeds are said to differ by 0.0015 bits per byte.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from statistics import mean
from typing import Any

import pyarrow.parquet as pq
from bank_file import write_curves

from model.config import MULTIPLIER, Value, trial_flops
from model.progress import WHOLE
from sweep.replay.curves import Curve

MARKS = 20
SMOOTHED = 3  # train losses to a mark
SEED_NOISE = 0.0015  # bits per byte
BATCH_TOKENS = 524_288
USUAL_DECAY = 0.1  # what a multiplier of 1 is
SHARED: dict[str, Value] = {
    "data.train_tokens": 1_043_333_120,
    "gpt.layers": 8,
    "gpt.width": 512,
    "gpt.head_width": 128,
    "gpt.context": 2048,
    "optim.name": "muon",
    "optim.muon_scale": "shape",
    "optim.schedule": "constant_linear",
    "optim.warmup": 0.0,
    "train.epochs": 1,
    "train.batch_tokens": BATCH_TOKENS,
    "train.evals": MARKS,
}


def curves_of(runs: list[dict[str, Any]]) -> tuple[list[Curve], float]:
    """The curves, and how many nats per token are one bit per byte.

    runs  rows of the file
    """
    ends = [mean(run["train_loss"][-SMOOTHED:]) for run in runs]
    nats = mean(ends) / mean(run["final_val_bpb"] for run in runs)
    return [_curve(run, nats) for run in runs], nats


def _curve(run: dict[str, Any], nats: float) -> Curve:
    settings: dict[str, Value] = {
        "optim.lr": run["matrix_lr"],
        MULTIPLIER: run["weight_decay"] / USUAL_DECAY,
        "optim.warmdown": run["warmdown_ratio"],
    }
    marks = tuple(WHOLE * (number + 1) // MARKS for number in range(MARKS))
    last = run["steps"][-1]
    smooth = []
    for mark in marks:
        before = [
            loss
            for step, loss in zip(run["steps"], run["train_loss"], strict=True)
            if step * WHOLE <= mark * last
        ]
        smooth.append(mean(before[-SMOOTHED:]))
    raw = (*smooth[:-1], run["final_val_bpb"] * nats)
    unknown = (math.nan,) * MARKS
    flops = trial_flops({**SHARED, **settings})
    return Curve(settings, marks, raw, unknown, tuple(smooth), seconds=flops, flops=flops)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="the Parquet file of the runs")
    parser.add_argument("bank", type=Path, help="the bank to write")
    arguments = parser.parse_args()
    curves, nats = curves_of(pq.read_table(arguments.runs).to_pylist())
    about = {
        "corpus": "FineWeb-edu",
        "source": "dangxingyu/losscast-bench",
        "settings": SHARED,
        "nats per bit per byte": nats,
        "noise": SEED_NOISE * nats,
        "seconds": "not recorded: FLOPs stand in for them",
    }
    write_curves(arguments.bank, curves, about)


if __name__ == "__main__":
    main()
