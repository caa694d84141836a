"""What feeding and preparing tokens costs: the loader against the trainer's need, and MB/s.

    python benchmarks/data.py feed                     # tokens/s of each order, and the need
    python benchmarks/data.py prepare book.txt         # beside what nanoGPT's prepare does
    python benchmarks/data.py memory --megabytes 1000  # peak memory while streaming a made-up file

feed     Batches of the largest published shape, from a table of `--tokens` made-up tokens in
         documents of about 700, on one core. The need is an upper bound: what a GPU with `--flops`
         would consume if it did nothing but the multiplications of training, at each shape's
         parameters.
prepare  The same file, gpt2: `sweep`'s preparation (documents, splits, digests, table), and the
         way of nanoGPT's data/openwebtext/prepare.py: documents tokenised by processes, written
         with a separator each to a memory map of uint16; and of data/shakespeare/prepare.py:
         the whole text at once. Text files are a document, Parquet files one a row.
memory   A Parquet file of random words, prepared in a process of its own.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from model.config.config import Config, DataConfig
from model.config.presets import PRESETS, preset
from model.config.size import flops_per_token, scaled
from model.data.batches import batch
from model.data.table import TokenTable, read_table

DOCUMENT = 700  # tokens, FineWeb's mean
WORDS = 600  # of a made-up document


def made_up_table(tokens: int, folder: Path) -> TokenTable:
    """A table whose tokens are memory-mapped from a file, like a real one's."""
    random = np.random.default_rng(0)
    path = folder / "tokens.bin"
    random.integers(0, 50_257, tokens, dtype=np.uint16).tofile(path)
    train = np.memmap(path, dtype=np.uint16, mode="r")
    lengths = random.geometric(1 / DOCUMENT, 2 * tokens // DOCUMENT)
    offsets = np.cumsum([0, *lengths])
    offsets = np.append(offsets[offsets < tokens], tokens)
    ratios = random.random(len(offsets) - 1)
    empty = train[:0]
    return TokenTable(
        "", 50_257, np.ones(1), train, empty, empty, {"train": offsets}, compression=ratios
    )


def feed(arguments: argparse.Namespace) -> None:
    needs = {}
    for name in PRESETS:
        config = Config.from_settings({**preset(name).settings})
        needs[name] = arguments.flops / flops_per_token(scaled(config.gpt), 50_304)
    print(f"need at {arguments.flops:.2g} FLOP/s, tokens/s:")
    for name, need in sorted(needs.items(), key=lambda entry: entry[1]):
        print(f"  {name:<24}{need:>14,.0f}")
    largest = min(needs.values())
    with tempfile.TemporaryDirectory() as folder:
        table = made_up_table(arguments.tokens, Path(folder))
        config = Config.from_settings(
            {
                "data.train_tokens": arguments.tokens,
                "gpt.context": 2048,
                "train.batch_tokens": 1 << 19,
                "train.evals": 1,
            }
        )
        print(f"loader, {arguments.tokens:,} tokens, one core:")
        for shuffle in ("no", "sequences", "documents"):
            report(f"train.shuffle={shuffle}", with_shuffle(config, shuffle), table, largest)
        for curriculum in ("shortest", "compression"):
            ordered = replace(config, data=replace(config.data, curriculum=curriculum))
            report(f"data.curriculum={curriculum}", ordered, table, largest)


def with_shuffle(config: Config, shuffle: str) -> Config:
    return replace(config, train=replace(config.train, shuffle=shuffle))


def report(name: str, config: Config, table: TokenTable, need: float) -> None:
    started = time.perf_counter()
    batch(config, table, 0)
    first = time.perf_counter() - started
    steps = min(60, config.steps_per_epoch)
    started = time.perf_counter()
    for step in range(steps):
        batch(config, table, step)
    rate = steps * config.train.batch_tokens / (time.perf_counter() - started)
    print(
        f"  {name:<28}{rate:>14,.0f} tokens/s, {rate / need:>7,.0f} x the largest shape's need; "
        f"first batch of an epoch {first * 1e3:.0f} ms"
    )


def texts_of(path: Path) -> list[str]:
    if path.suffix != ".parquet":
        return [path.read_text(encoding="utf-8")]
    import pyarrow.parquet as pq

    return [str(text) for text in pq.read_table(path, columns=["text"])["text"].to_pylist()]


def tokens_of(text: str) -> list[int]:
    import tiktoken

    encoding = tiktoken.get_encoding("gpt2")
    return [*encoding.encode_ordinary(text), encoding.eot_token]


def by_document(path: Path, out: Path) -> int:
    """As data/openwebtext/prepare.py: processes tokenise, one writes a memory map."""
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        tokenised = list(pool.map(tokens_of, texts_of(path), chunksize=16))
    total = sum(map(len, tokenised))
    file = np.memmap(out, dtype=np.uint16, mode="w+", shape=(total,))
    at = 0
    for tokens in tokenised:
        file[at : at + len(tokens)] = tokens
        at += len(tokens)
    file.flush()
    return total


def at_once(path: Path, out: Path) -> int:
    """As data/shakespeare/prepare.py: all of the text by one thread."""
    tokens = tokens_of("\n".join(texts_of(path)))
    np.array(tokens, dtype=np.uint16).tofile(out)
    return len(tokens)


def by_sweep(path: Path, out: Path) -> int:
    from model.data.prepare import prepare as prepare_table

    os.environ["SWEEP_CACHE"] = str(out)
    data = DataConfig(path=str(path), tokenizer="gpt2", val_tokens=10_000, test_tokens=10_000)
    return sum(read_table(prepare_table(data)).recorded["tokens"].values())


WAYS: dict[str, Callable[[Path, Path], int]] = {
    "sweep": by_sweep,
    "nanoGPT, by document": by_document,
    "nanoGPT, at once": at_once,
}


def prepare(arguments: argparse.Namespace) -> None:
    """Each way in a process of its own, as its imports and its memory are part of what it costs."""
    size = sum(len(text.encode()) for text in texts_of(arguments.file)) / 1e6
    print(f"{arguments.file}: {size:,.1f} MB of text, {len(os.sched_getaffinity(0))} cores")
    for name in WAYS:
        command = [sys.executable, __file__, "way", str(arguments.file), "--name", name]
        runs = [float(word) for word in repeated(command, arguments.repeats)]
        best = min(runs)
        print(f"  {name:<24}{best:>8.2f} s {size / best:>8.1f} MB/s")


def repeated(command: list[str], times: int) -> Iterator[str]:
    for _ in range(times):
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        yield done.stdout.split()[-1]


def way(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        WAYS[arguments.name](arguments.file, Path(folder) / "out")
        print(time.perf_counter() - started)


def memory(arguments: argparse.Namespace) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from model.data.prepare import prepare as prepare_table

    random = np.random.default_rng(0)
    words = np.array([f"{number:x}" for number in random.integers(0, 1 << 24, 5000)])
    schema = pa.schema([("text", pa.string())])
    with tempfile.TemporaryDirectory() as folder:
        path, size = Path(folder) / "made_up.parquet", 0
        with pq.ParquetWriter(path, schema) as writer:
            while size < arguments.megabytes * 1e6:
                texts = [" ".join(random.choice(words, WORDS)) for _ in range(250)]
                size += sum(map(len, texts))
                writer.write_table(pa.table({"text": texts}, schema=schema))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        os.environ["SWEEP_CACHE"] = folder
        data = DataConfig(path=str(path), tokenizer=arguments.tokenizer, splits=arguments.splits)
        started = time.perf_counter()
        table = read_table(prepare_table(data))
        seconds = time.perf_counter() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{size / 1e6:,.0f} MB of text, {sum(table.recorded['tokens'].values()):,} tokens of "
            f"{arguments.tokenizer}: {seconds:.1f} s, {size / 1e6 / seconds:.1f} MB/s, peak "
            f"{peak:.0f} MB (before preparing {before:.0f} MB)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("feed")
    command.add_argument("--tokens", type=int, default=100_000_000)
    command.add_argument("--flops", type=float, default=9.9e14, help="an H200's dense bf16")
    command.set_defaults(run=feed)
    command = commands.add_parser("prepare")
    command.add_argument("file", type=Path)
    command.add_argument("--repeats", type=int, default=3)
    command.set_defaults(run=prepare)
    command = commands.add_parser("way")
    command.add_argument("file", type=Path)
    command.add_argument("--name", choices=WAYS, required=True)
    command.set_defaults(run=way)
    command = commands.add_parser("memory")
    command.add_argument("--megabytes", type=int, default=1000)
    command.add_argument("--tokenizer", default="gpt2")
    command.add_argument("--splits", default="stream", choices=("hash", "stream"))
    command.set_defaults(run=memory)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
