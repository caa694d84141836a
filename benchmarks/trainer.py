"""How fast the trainer trains, beside nanoGPT's own model and loop at the same size in one run.

    git clone https://github.com/karpathy/nanoGPT
    taskset -c 0,1 python benchmarks/trainer.py --nanogpt nanoGPT     # about 15 minutes
    taskset -c 0 python benchmarks/trainer.py --nanogpt nanoGPT       # in CPU seconds of one core
    python benchmarks/trainer.py --preset slowrun-tiny --preset slowrun-one-hour     # on a GPU

Every variant of a size is built and warmed up first; then they take turns, so that what else the
machine does hits all of them. On one core of a CPU, seconds are those of the CPU. Freed memory is
kept, as in training (model/training/device.py), which makes nanoGPT faster too. Tokens per second
are medians of the turns with their quartiles. FLOP/s count a network's products and causal
attention (model/config/size.py), as many for equal networks; `of bf16` is their share of what this
machine's fastest square bf16 product reached in this run. Compiling is not in the turns: `first` is
what the first step took, in seconds.

nanoGPT      its GPT and what the loop of its train.py does: windows at random from a memory-mapped
             file, its autocast (none on a CPU), gradients clipped, its choice of AdamW.
ours         the same network and optimizer in model/: batches, objective, step, as in training.
ours fp32    the same without bf16, on machines that have it.
ours modern  the parts of the preset cpu-tiny at the same depth, width, context and batch, with its
             Muon, and with nanoGPT's AdamW.

Losses: the same steps of the documented size with one seed in bf16 and in fp32, and with another
seed in fp32: precision must matter less than the seed. Means of the last fifth of the steps.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, quantiles
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch

from model.config.config import Config
from model.config.presets import CPU, PRESETS
from model.config.size import flops_per_token, scaled
from model.data.batches import TokenTable, batch, open_table
from model.network.gpt import GPT
from model.optim.optimizers import make_optimizers, step
from model.training.device import has_bf16_instructions, keep_freed_memory, runtime

HAS_BF16 = torch.cuda.is_available() or has_bf16_instructions()
VOCABULARY = 65  # of Shakespeare's characters
TOKENS = 1_000_000
BETAS, LR, DECAY, CLIP = (0.9, 0.99), 1e-3, 0.1, 1.0


class Size(NamedTuple):
    context: int
    sequences: int  # in a batch
    layers: int
    heads: int
    width: int

    def __str__(self) -> str:
        return f"{self.layers} x {self.width}, context {self.context}, batch {self.sequences}"


DOCUMENTED = Size(64, 12, 4, 4, 128)  # nanoGPT's README, for a CPU
SIZES = [DOCUMENTED, Size(128, 16, 4, 4, 128), Size(128, 16, 6, 8, 256), Size(256, 16, 6, 6, 384)]


class Variant(NamedTuple):
    name: str
    train: Callable[[int], float]  # one step, by its number; the loss in nats
    tokens: int  # in a step
    flops: float  # per token


class Row(NamedTuple):
    variant: Variant
    first: float  # seconds of the first step, in which it is compiled
    speeds: list[float]  # tokens per second of each turn

    @property
    def median(self) -> float:
        return median(self.speeds)


def settings(size: Size) -> dict[str, Any]:
    """nanoGPT's network and optimizer at `size`."""
    published = PRESETS["nanogpt-char-cpu"].settings
    return {
        **{name: value for name, value in published.items() if name.startswith(("gpt.", "optim."))},
        "data.train_tokens": TOKENS,
        "gpt.layers": size.layers,
        "gpt.width": size.width,
        "gpt.head_width": size.width // size.heads,
        "gpt.context": size.context,
        "train.batch_tokens": size.context * size.sequences,
    }


def ours(name: str, config: Config, table: TokenTable) -> Variant:
    """What model/training/train.py does in a step."""
    where = runtime(config)
    torch.manual_seed(config.train.seed)
    gpt = GPT(config.gpt, table.vocabulary, where.manual_attention).to(where.device)
    optimizers = make_optimizers(gpt, config.optim, where.precision == torch.bfloat16)
    objective = torch.compile(gpt.objective) if where.compile else gpt.objective
    pieces = config.train.batch_tokens // (
        config.train.micro_batch_tokens or config.train.batch_tokens
    )

    def train(number: int) -> float:
        done = number % config.steps
        gpt.enter(done / config.steps, config.train.seed, done)
        total = torch.zeros((), device=where.device)
        x_BT, y_BT = batch(config, table, done)
        for x, y in zip(np.split(x_BT, pieces), np.split(y_BT, pieces), strict=True):
            with where.autocast():
                loss, plain = objective(
                    torch.from_numpy(x).to(where.device), torch.from_numpy(y).to(where.device)
                )
            (loss / pieces).backward()
            total += plain.detach() / pieces
        step(optimizers, gpt, config.optim, (done + 1) / config.steps, config.train.epochs)
        return float(total)

    flops = flops_per_token(scaled(config.gpt), table.vocabulary)
    return Variant(name, train, config.train.batch_tokens, flops)


def nanogpt(name: str, source: ModuleType, size: Size, file: Path, compiled: bool) -> Variant:
    """What nanoGPT's train.py does in an iteration, with its defaults on this machine."""
    kind = "cuda" if torch.cuda.is_available() else "cpu"
    shape = source.GPTConfig(
        block_size=size.context,
        vocab_size=VOCABULARY,
        n_layer=size.layers,
        n_head=size.heads,
        n_embd=size.width,
        dropout=0.0,
        bias=False,
    )
    network = source.GPT(shape).to(kind)
    optimizer = network.configure_optimizers(DECAY, LR, BETAS, kind)
    compiled_network = torch.compile(network) if compiled else network
    autocast = torch.autocast("cuda", torch.bfloat16) if kind == "cuda" else nullcontext()

    def windows() -> tuple[torch.Tensor, torch.Tensor]:
        data = np.memmap(file, dtype=np.uint16, mode="r")
        starts = torch.randint(len(data) - size.context, (size.sequences,))
        x, y = (
            torch.stack(
                [torch.from_numpy(data[s : s + size.context].astype(np.int64)) for s in starts + by]
            )
            for by in (0, 1)
        )
        if kind == "cpu":
            return x, y
        return x.pin_memory().to(kind, non_blocking=True), y.pin_memory().to(
            kind, non_blocking=True
        )

    x, y = windows()

    def train(number: int) -> float:
        nonlocal x, y
        for group in optimizer.param_groups:
            group["lr"] = LR
        with autocast:
            _, loss = compiled_network(x, y)
        x, y = windows()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    shape = Config.from_settings(settings(size)).gpt
    return Variant(name, train, size.context * size.sequences, flops_per_token(shape, VOCABULARY))


def turns(variants: list[Variant], repetitions: int, seconds: float) -> list[Row]:
    """Warm each variant up, then let them take turns of at least so many seconds."""
    rows = []
    for variant in variants:
        first = timed(variant, 0, 1)
        timed(variant, 1, 2)
        rows.append(Row(variant, first, []))
    for _ in range(repetitions):
        for row in rows:
            done, spent = 0, 0.0
            while spent < seconds:
                spent += timed(row.variant, 3 + done, 1)
                done += 1
            row.speeds.append(done * row.variant.tokens / spent)
    return rows


def timed(variant: Variant, number: int, steps: int) -> float:
    """Seconds of so many steps; reading a loss waits for the device."""
    begun = clock()
    for later in range(steps):
        variant.train(number + later)
    return clock() - begun


def clock() -> float:
    """Seconds; those of the CPU where one core does all, so that others' work hardly counts."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def matmul_peak(precision: torch.dtype) -> float:
    """FLOP/s of the fastest square product tried."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    best = 0.0
    for n in (4096, 8192) if device == "cuda" else (512, 1024, 2048):
        a, b = (torch.randn(n, n, device=device).to(precision) for _ in range(2))
        for _ in range(12):
            begun = clock()
            float((a @ b)[0, 0])
            best = max(best, 2 * n**3 / (clock() - begun))
    return best


def show(title: str, rows: list[Row], peaks: dict[str, float]) -> None:
    """A table; speeds also as multiples of nanoGPT's, eager and compiled."""
    base = {r.variant.name: r.median for r in rows if r.variant.name.startswith("nanoGPT")}
    print(f"\n{title}")
    against = "".join(f"{'x ' + name.removeprefix('nanoGPT '):>12}" for name in base)
    print(
        f"{'':28}{'tokens/s':>10}{'quartiles':>22}{against}{'GFLOP/s':>10}"
        + "".join(f"{'of ' + name:>9}" for name in peaks)
        + f"{'first':>8}"
    )
    for row in rows:
        low, _, high = quantiles(row.speeds, n=4) if len(row.speeds) > 1 else row.speeds * 3
        against = "".join(f"{row.median / speed:12.2f}" for speed in base.values())
        flops = row.median * row.variant.flops
        print(
            f"{row.variant.name:28}{row.median:10,.0f}{f'{low:,.0f} to {high:,.0f}':>22}{against}"
            f"{flops / 1e9:10,.1f}"
            + "".join(f"{flops / peak:9.1%}" for peak in peaks.values())
            + f"{row.first:8.1f}",
            flush=True,
        )


def characters() -> TokenTable:
    """Real text in 65 symbols: Python's own library, its rarer bytes as one."""
    table = open_table(Config.from_settings({"data.train_tokens": TOKENS}).data)
    kinds = np.argsort(-np.bincount(table.train[:TOKENS], minlength=table.vocabulary))
    symbols = np.full(table.vocabulary, VOCABULARY - 1, dtype=np.uint16)
    symbols[kinds[: VOCABULARY - 1]] = np.arange(VOCABULARY - 1)
    return replace(table, vocabulary=VOCABULARY, train=symbols[table.train[:TOKENS]])


def noise(table: TokenTable, steps: int) -> dict[str, float]:
    """Losses at the documented size in bf16, in fp32, and in fp32 from another seed."""
    losses = {}
    for name, precision, seed in (
        ("bf16", "bf16", 0),
        ("fp32", "fp32", 0),
        ("fp32, seed 1", "fp32", 1),
    ):
        changed = {"train.precision": precision, "train.seed": seed, "train.compile": "no"}
        plain = settings(DOCUMENTED)
        epochs = math.ceil(steps / Config.from_settings(plain).steps_per_epoch)
        config = Config.from_settings({**plain, **changed, "train.epochs": epochs})
        train = ours(name, config, table).train
        losses[name] = mean([train(number) for number in range(steps)][-steps // 5 :])
    return losses


def variants_of(
    size: Size, compiled: bool, source: ModuleType | None, table: TokenTable, file: Path
) -> Iterator[Variant]:
    """Ours and nanoGPT's at one size."""
    kind = "compiled" if compiled else "eager"
    plain = {**settings(size), "train.compile": "yes" if compiled else "no"}
    modern = {k: v for k, v in CPU.items() if k.startswith(("gpt.", "optim."))}
    modern["gpt.head_width"] = plain["gpt.head_width"]
    if source is not None:
        yield nanogpt(f"nanoGPT {kind}", source, size, file, compiled)
    yield ours(f"ours {kind}", Config.from_settings(plain), table)
    if HAS_BF16:
        fp32 = {**plain, "train.precision": "fp32"}
        yield ours(f"ours fp32 {kind}", Config.from_settings(fp32), table)
    yield ours(f"ours modern {kind}", Config.from_settings({**plain, **modern}), table)
    network = {name: value for name, value in modern.items() if name.startswith("gpt.")}
    yield ours(f"ours modern, AdamW {kind}", Config.from_settings({**plain, **network}), table)


def of_preset(name: str, compiled: bool) -> Variant:
    """A preset's first step over and over, on tokens drawn at random: only its speed counts."""
    preset = PRESETS[name]
    compile_ = {"train.compile": "yes" if compiled else "no", "train.shuffle": "sequences"}
    config = Config.from_settings({**preset.settings, **compile_})
    tokens = 2 * config.train.batch_tokens + 1
    config = replace(config, data=replace(config.data, train_tokens=tokens))
    drawn = np.random.default_rng(0).integers(0, preset.vocabulary, tokens).astype(np.uint16)
    table = replace(characters(), vocabulary=preset.vocabulary, train=drawn)
    variant = ours("compiled" if compiled else "eager", config, table)
    return variant._replace(train=lambda number: variant.train(0))


def presets(asked: argparse.Namespace, peaks: dict[str, float]) -> None:
    """Each preset eager, then compiled: two of the large ones at once would not fit."""
    for name in asked.preset:
        torch._dynamo.reset()
        rows = []
        for compiled in asked.kinds:
            rows += turns([of_preset(name, compiled)], asked.repetitions, asked.seconds)
        show(name, rows, peaks)


def sizes(asked: argparse.Namespace, peaks: dict[str, float], folder: Path) -> None:
    """Each size in every variant, in turns; then the losses."""
    source = load(asked.nanogpt / "model.py") if asked.nanogpt else None
    table = characters()
    table.train.tofile(folder / "train.bin")
    for size in SIZES[: asked.sizes]:
        torch._dynamo.reset()  # it compiles so many networks and no more
        variants: list[Variant] = []
        for compiled in asked.kinds:
            variants += variants_of(size, compiled, source, table, folder / "train.bin")
        show(str(size), turns(variants, asked.repetitions, asked.seconds), peaks)
    if asked.loss_steps and HAS_BF16:
        losses = noise(table, asked.loss_steps)
        print(f"\nLoss in nats of the last fifth of {asked.loss_steps} steps at {DOCUMENTED}:")
        print(", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
        print(f"bf16 - fp32: {losses['bf16'] - losses['fp32']:+.4f}", end="; ")
        print(f"seed 1 - seed 0: {losses['fp32, seed 1'] - losses['fp32']:+.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nanogpt", type=Path, help="folder of a nanoGPT checkout")
    parser.add_argument("--preset", action="append", choices=list(PRESETS), help="instead of sizes")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="how many of the sizes")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--loss-steps", type=int, default=1000, help="0: no losses")
    parser.add_argument("--eager", action="store_true", help="compile nothing")
    asked = parser.parse_args()
    asked.kinds = (False,) if asked.eager else (False, True)
    if asked.nanogpt and not (asked.nanogpt / "model.py").exists():
        parser.error(f"--nanogpt: {asked.nanogpt} holds no model.py")

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    keep_freed_memory()
    peaks = {"fp32": matmul_peak(torch.float32)}
    if HAS_BF16:
        peaks["bf16"] = matmul_peak(torch.bfloat16)
    fastest = ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items())
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads; fastest product: {fastest}"
    )
    if not HAS_BF16:
        print("This CPU has no bf16 instructions: ours trains in fp32 too.")
    with tempfile.TemporaryDirectory() as folder:
        # What was compiled before must not shorten compiling now.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(Path(folder) / "compiled")
        if asked.preset:
            presets(asked, peaks)
        else:
            sizes(asked, peaks, Path(folder))


def load(path: Path) -> ModuleType:
    """nanoGPT's model.py as a module; it is no package."""
    spec = importlib.util.spec_from_file_location("nanogpt_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclass looks itself up
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
