"""What the mean context vector of gpt.context_vector is worth, by position in the window.

    python benchmarks/context_vector.py tinyshakespeare.txt
    python benchmarks/context_vector.py peps.parquet --seeds 5

Two networks of the preset cpu-tiny for each seed, the same at first to the last bit: one with the
vector, one without. Both have the same parameters (rotary positions need none for the slot) and see
the same batches in the same steps: sequences of ten windows, which the network without the vector
reads as ten sequences. The one with the vector computes a slot more for each window.

Losses are on validation windows that lie side by side; the first of each sequence has no vector and
is left out of what is compared by position. The network with the vector is also given that of
another sequence of the batch in the place of its own, and none: what the first costs is what the
vector knows of the text, what the second costs has in it that the network was not trained so.
Intervals are of 95 %: t-tests paired by seed with what other text would add, as the report of a
sweep has them; of one seed, what other text would do to these two runs, as `sweep compare` has it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from model.clusters import Clusters
from model.config import Config
from model.config.presets import preset
from model.data.batches import batch, open_table
from model.data.table import TokenTable
from model.network.gpt import GPT
from model.optim import step
from model.training.device import CPU
from model.training.evaluate import HeldOut, evaluate
from model.training.run import Run, add_gradients, make_run
from sweep.format import table as table_text
from sweep.results.paired import text_of_pairs
from sweep.results.significance import compare, t_quantile

BLOCKS = 32  # of text, which differ from each other as other text would
Carry = Callable[[Tensor | None], Tensor | None]
EVALUATED: dict[str, Carry] = {
    "vector": lambda carried_BD: carried_BD,
    "swapped": lambda carried_BD: None if carried_BD is None else carried_BD.roll(1, dims=0),
    "zeros": lambda carried_BD: None,
}


def config_of(arguments: argparse.Namespace, seed: int, vector: bool) -> Config:
    reach = arguments.context * arguments.windows
    return Config.from_settings(
        {
            **preset("cpu-tiny").settings,
            "data.path": arguments.path,
            "data.train_tokens": arguments.tokens,
            "data.val_tokens": arguments.val_sequences * reach + 1,
            "gpt.context": arguments.context,
            "gpt.context_windows": arguments.windows,
            "gpt.context_vector": vector,
            "train.batch_tokens": arguments.sequences * reach,
            "train.epochs": arguments.epochs,
            "train.seed": seed,
            "train.data_seed": seed,
            "train.device": "cpu",
            "train.precision": "fp32",
        }
    )


def trained(config: Config, order: Config, table: TokenTable) -> Run:
    """A run of `config` on the batches of `order`, cut into sequences of its own length."""
    run = make_run(config, table, CPU)
    for done in range(order.steps):
        x_BT, y_BT = (part.reshape(-1, config.gpt.reach) for part in batch(order, table, done))
        run.gpt.enter(done / order.steps, config.train.seed, done)
        add_gradients(run, x_BT, y_BT, done / order.steps)
        share, epochs = done / order.steps, config.train.epochs
        step(run.optimizers, run.gpt, config.optim, share, epochs, 1 / order.steps)
    return run


def losses(gpt: GPT, table: TokenTable, carry: Carry) -> np.ndarray:
    """Of every validation target, nats, when each window gets `carry` of what it would get."""
    window = GPT.window
    gpt.window = lambda tokens, carried: window(gpt, tokens, carry(carried))  # type: ignore[method-assign]
    held_out = HeldOut.of(table, "val", gpt.config.reach)
    return -evaluate(gpt, held_out, CPU).log_probs_N.astype(np.float64)


def by_blocks(loss_N: np.ndarray, kept_N: np.ndarray) -> Clusters:
    """The mean loss of the targets that are kept, in equal blocks of text."""
    block_N = np.arange(len(loss_N)) * BLOCKS // len(loss_N)
    tokens_C = np.bincount(block_N[kept_N], minlength=BLOCKS)
    sums_C = np.bincount(block_N[kept_N], loss_N[kept_N], minlength=BLOCKS)
    return Clusters("blocks", tuple(tokens_C.tolist()), tuple((sums_C / tokens_C).tolist()))


def bands(targets: int, context: int, windows: int) -> dict[str, np.ndarray]:
    """Which targets are of each kind."""
    place_N, window_N = np.arange(targets) % context, np.arange(targets) // context % windows
    later_N = window_N > 0
    kinds = {
        "all targets": np.ones(targets, bool),
        "first windows": ~later_N,
        "later windows": later_N,
    }
    edges = [0, *(2**power for power in range(context.bit_length()))]
    for low, high in pairwise(edges):
        name = f"token {low + 1}" if high - low == 1 else f"tokens {low + 1} to {high}"
        kinds[f"  {name}"] = later_N & (place_N >= low) & (place_N < high)
    return kinds


PAIRS = {
    "with - without": ("plain", "vector"),
    "another's - own": ("vector", "swapped"),
    "none - own": ("vector", "zeros"),
}


def report(seen: dict[str, dict[int, np.ndarray]], context: int, windows: int) -> str:
    """Losses without the vector, and how much lower or higher others are."""
    rows = [["", "without", *PAIRS]]
    targets = len(next(iter(seen["plain"].values())))
    for band, kept_N in bands(targets, context, windows).items():
        kept = {
            name: {seed: by_blocks(loss_N, kept_N) for seed, loss_N in its.items()}
            for name, its in seen.items()
        }
        mean = {
            name: {seed: float(loss_N[kept_N].mean()) for seed, loss_N in its.items()}
            for name, its in seen.items()
        }
        cells = [f"{np.mean(list(mean['plain'].values())):.3f}"]
        for a, b in PAIRS.values():
            text = text_of_pairs(kept[a], kept[b])
            assert text is not None
            (pair,) = compare({a: mean[a], b: mean[b]}, texts={(a, b): text})
            half = (pair.high - pair.low) / 2
            if pair.seeds == 1:
                half = t_quantile(0.975, text.freedom) * math.sqrt(text.value)
            cells.append(f"{pair.difference:+.4f} +- {half:.4f}")
        rows.append([band, *cells])
    return table_text(rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=262_144, help="of the training split")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--windows", type=int, default=10)
    parser.add_argument("--sequences", type=int, default=2, help="in a batch")
    parser.add_argument("--val-sequences", type=int, default=96)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    seen: dict[str, dict[int, np.ndarray]] = {name: {} for name in ("plain", *EVALUATED)}
    for seed in range(arguments.seeds):
        order = config_of(arguments, seed, vector=True)
        table = open_table(order.data)
        plain = trained(config_of(arguments, seed, vector=False), order, table)
        seen["plain"][seed] = losses(plain.gpt, table, EVALUATED["vector"])
        vector = trained(order, order, table)
        for name, carry in EVALUATED.items():
            seen[name][seed] = losses(vector.gpt, table, carry)
        print(f"\n{arguments.path}, {order.steps:,} steps, {seed + 1} seeds, nats per token\n")
        print(report(seen, arguments.context, arguments.windows), flush=True)


if __name__ == "__main__":
    main()
