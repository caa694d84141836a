"""The plain baseline: what its runs are, or the table that stands for them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.config import SETTINGS, ConfigError, Value
from sweep.errors import SweepError
from sweep.records import SCALE, SEEDS, BaselinePoint, BaselineRun
from sweep.space.hyperparameter import as_number
from sweep.space.settings import BaselineConfig
from sweep.space.space import Space

# What a plain baseline does without, and how long it trains. Its optimizer is AdamW at its defaults
# whatever the space fixes: other rates and schedules were tuned for another recipe.
PLAIN: Mapping[str, Value] = {
    "data.curriculum": "no",
    "data.reference": "",
    SCALE: 1.0,
    "gpt.init": "",
    "gpt.init_digest": "",
    "gpt.dropout": 0.0,
    "gpt.stochastic_depth": 0.0,
    "gpt.replay_passes": 0,
    "gpt.mtp": "no",
    "optim.name": "adamw",
    "optim.weight_decay_multiplier": 1.0,
    "optim.schedule": "cosine",
    "train.epochs": 1,
    "train.members": 1,
    "train.meta_step": 0.0,
    "train.evaluate": "raw",
    "train.teacher": "",
    "train.ema_epochs": 0.0,
    "train.average_last": 0,
    "train.average_cycles": 0,
    "train.chain_after": 0,
}
SHUFFLE = "train.shuffle"
SLOWRUN = "slowrun"
# data_eff/README.md of qlabs-eng/slowrun: nanochat's defaults at depths 12, 20 and 26.
SLOWRUN_RUNS: Mapping[int, tuple[float, ...]] = {
    200_000_000: (3.703, 3.794, 3.883),
    400_000_000: (3.460, 3.416, 3.370),
    600_000_000: (3.356, 3.270, 3.200),
    800_000_000: (3.302, 3.184, 3.123),
    1_000_000_000: (3.251, 3.124, 3.046),
    2_000_000_000: (3.144, 2.973, 2.892),
}
WHOLE_VAL = 9_900_000  # tokens; its older file lost the last, incomplete sequence
Problem = Callable[[str], None]


def baseline_points(space: Space) -> list[BaselinePoint]:
    """What the plain baseline is measured on: budgets x sizes x seeds."""
    sizes, repeats = space.baseline.sizes, space.baseline.seeds
    first = [int(as_number(space.fixed.get(name, 0))) for name in SEEDS]
    seeds = [tuple(n + repeat for n in first) for repeat in range(repeats)]
    return [
        BaselinePoint(multiple, size, numbers)
        for multiple in space.baseline.multiples
        for size in (sizes if sizes != (1.0,) else [None])
        for numbers in (seeds if repeats > 1 else [()])
    ]


def baseline_settings(space: Space, point: BaselinePoint) -> dict[str, Value]:
    """The plain recipe on a multiple of the training budget: same text, same network."""
    kept = {name: v for name, v in space.fixed.items() if not name.startswith("optim.")}
    if kept.get(SHUFFLE) == "offsets":  # one epoch of draws with replacement misses a third
        del kept[SHUFFLE]
    return {
        **kept,
        **PLAIN,
        "optim.lr": space.baseline.lr,
        "data.train_tokens": point.multiple * space.train_tokens,
        **point.varied,
    }


def as_entries(value: object) -> object:
    """`{200M: 3.7}` or `{200M: [3.7, 3.8]}` of a YAML file as the list that `--set` takes."""
    if not isinstance(value, Mapping):
        return value
    losses = {n: v if isinstance(v, list) else [v] for n, v in value.items()}
    return [f"{tokens}:{loss}" for tokens, several in losses.items() for loss in several]


def read_entries(values: Sequence[object], problem: Problem) -> tuple[str, ...]:
    """`baseline.table` spelled out, a file's rows included, so that resolved.yaml holds numbers.

    values   `tokens:loss` pairs, one CSV file, or the name of the built-in table
    Tells `problem` of everything that is wrong.
    """
    texts = [str(value).strip() for value in values]
    if texts == [SLOWRUN] or not texts:
        return tuple(texts)
    if len(texts) == 1 and ":" not in texts[0]:
        pairs = _read_csv(Path(texts[0]).expanduser(), problem)
    else:
        pairs = [(entry, entry.partition(":")[0], entry.partition(":")[2]) for entry in texts]
    entries = [_entry(*pair, problem) for pair in pairs]
    good = [entry for entry in entries if entry]
    if entries and len(good) == len(entries) and len({e.partition(":")[0] for e in good}) < 2:
        problem("needs at least two token counts to draw a line between")
    return tuple(good)


def _read_csv(path: Path, problem: Problem) -> list[tuple[str, str, str]]:
    """(where, tokens, loss) of each cell: a row is a token count and a loss for each size."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        problem(f"expected tokens:loss pairs, {SLOWRUN}, or a CSV file; {path}: {reason}")
        return []
    filled = [(n, row) for n, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    if filled and not re.match(r"\s*[\d.]", filled[0][1][0]):
        filled = filled[1:]  # the heading; a count that is misspelled is none
    if not filled:
        problem(f"{path} has no rows; expected tokens, then a loss for each size")
    return [
        (f"{path} line {number}", row[0], cell)
        for number, row in filled
        for cell in row[1:] or [""]
    ]


def _token_count(text: str) -> float | None:
    """A number of tokens with its suffix."""
    try:
        return as_number(SETTINGS["data.train_tokens"].check(text.strip()))
    except ConfigError:
        return None


def _entry(where: str, tokens: str, loss: str, problem: Problem) -> str:
    count = _token_count(tokens)
    try:
        nats = float(loss)
    except ValueError:
        nats = math.nan
    if count is None or not 0 < nats < math.inf:
        problem(f"{where}: expected tokens:loss such as 100M:3.7, in nats per token")
        return ""
    return f"{int(count)}:{nats:g}"


def table_runs(entries: Sequence[str]) -> list[BaselineRun]:
    """The runs that `baseline.table` stands for; several at one token count are sizes."""
    if list(entries) == [SLOWRUN]:
        pairs = [(n, loss) for n, losses in SLOWRUN_RUNS.items() for loss in losses]
    else:
        pairs = [(int(e.partition(":")[0]), float(e.partition(":")[2])) for e in entries]
    seen: dict[int, int] = {}
    runs = []
    for tokens, loss in pairs:
        seen[tokens] = seen.get(tokens, 0) + 1
        runs.append(BaselineRun(tokens, loss, float(seen[tokens])))
    return runs


def is_slowruns(recorded: Mapping[str, Any]) -> bool:
    """Whether validation tokens are those that Slowrun's table was measured on.

    recorded   what a token table says of itself. It is Slowrun's if the val split is byte for
               byte the file it pins, be it imported or made again from FineWeb by the same rule.
    """
    from model.data import (
        slowrun_files as fineweb,  # imports numpy, which reading a space needs not
    )

    digests = {fineweb.DIGESTS["val"], fineweb.OLD_DIGESTS["val"]}
    held = {recorded.get("slowrun", {}).get("val"), *recorded.get("files", {}).values()}
    return bool(digests & held) and recorded["tokens"]["val"] >= WHOLE_VAL


def with_known_table(baseline: BaselineConfig, recorded: Mapping[str, Any]) -> BaselineConfig:
    """`baseline` with Slowrun's table where nothing else is asked for and its tokens are used.

    Raises SweepError if the table is asked for and the tokens are others: a multiplier read off
    another text's curve means nothing.
    """
    from model.data import slowrun_files as fineweb

    same = is_slowruns(recorded)
    if baseline.table == (SLOWRUN,) and not same:
        raise SweepError(
            "baseline.table: slowrun was measured on other validation tokens than these",
            [
                f"expected the {fineweb.TOKENS['val']:,} GPT-2 tokens of FineWeb that "
                f"fineweb_val.pt holds, SHA-256 {fineweb.DIGESTS['val']}",
                f"found {recorded['tokens']['val']:,} tokens of "
                f"{recorded.get('source', 'a table')}",
            ],
            hint="Use them (sweep data prepare fineweb), or measure a baseline: "
            "baseline.multiples=1,2,4,8",
        )
    if same and not baseline.multiples and not baseline.table:
        return replace(baseline, table=(SLOWRUN,))
    return baseline
