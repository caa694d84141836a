"""Runs that others finished, read from their exports: tables of runs, histories, charts.

W&B's runs table as CSV     a row is a run; Name, State, Created, ... are its own columns
W&B's chart as CSV          Step, then `RUN - METRIC` columns with __MIN and __MAX beside them
run.history(), scan_history() of W&B's API as CSV or JSON lines: a row is a step of a run
runs of its API as JSON     a list of {name, state, config, summary}
plain CSV                   a row is a run, any columns
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.config import did_you_mean
from sweep.errors import SweepError

NAMES = ("name", "run", "run_name", "run name", "run_id", "id")
STEPS = ("_step", "step", "global_step", "trainer/global_step")
LOSSES = ("val_loss", "val/loss", "curves/val_loss", "final/val_loss", "eval/loss", "eval_loss")
# Columns of W&B's table that are neither settings nor results.
KEPT_BY_WANDB = {
    "state", "notes", "user", "tags", "created", "runtime", "sweep", "host", "hostname", "github",
    "group", "job type", "entity", "project", "url", "command", "updated", "end time", "id",
}  # fmt: skip
STATE = "state"
CHART = " - "
CHART_ENDS = ("__MIN", "__MAX")
FURTHEST = 2**62  # step: MLflow keeps 64 bits
UNFINISHED = ("running", "crashed", "failed", "killed", "preempting", "preempted", "pending")


@dataclass(frozen=True)
class ExternalRun:
    """A run of somebody else's, as far as its export tells."""

    name: str
    val_loss: float  # the last one, as its authors measured it
    params: dict[str, str]
    curve: list[tuple[int, float]]  # (step, loss), if the export has it
    source: str  # name of the file

    @property
    def digest(self) -> str:
        """Changes with the run, not with the name of its file."""
        content = {**asdict(self), "source": ""}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Export:
    """What a file holds, and the runs in it that are not over."""

    runs: list[ExternalRun]
    left_out: list[str]


def read_external(path: Path, loss: str = "", params: Sequence[str] = (), name: str = "") -> Export:
    """The runs in `path`.

    loss, name   columns of the loss and the runs' names; empty: the usual ones
    params       columns of settings; empty: all that are left
    Raises SweepError listing every problem found.
    """
    problems: list[str] = []
    rows = read_rows(path, problems)
    _raise(path, problems)
    columns = list(dict.fromkeys(key for _, row in rows for key in row))
    if _is_chart(columns):
        return Export(_chart(path, rows, loss, problems), _raise(path, problems))
    of = _columns(path, columns, [loss, name, *params], problems)
    # A table of runs may show the last step of each, but only a table tells their states.
    if of.step and STATE not in map(str.lower, columns):
        return Export(_histories(path, rows, of, problems), _raise(path, problems))
    return _table(path, rows, of, problems)


@dataclass(frozen=True)
class _Columns:
    """Which column is what; empty where there is none."""

    loss: str
    name: str
    step: str
    params: Sequence[str]


def _columns(
    path: Path, columns: Sequence[str], asked: Sequence[str], problems: list[str]
) -> _Columns:
    """The columns to read, of the file's `columns`, by the loss, name and params `asked` for."""
    loss, name, *params = asked
    lower = {column.lower(): column for column in reversed(columns)}
    usual = [next((lower[n] for n in names if n in lower), "") for names in (LOSSES, NAMES, STEPS)]
    if not (loss or usual[0]):
        shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
        problems.append(f"which column is the validation loss? it has {shown}")
    lacking = [column for column in (loss, name, *params) if column and column not in columns]
    problems += [f"no column {column}{did_you_mean(column, columns)}" for column in lacking]
    _raise(path, problems)
    loss, name, step = loss or usual[0], name or usual[1], usual[2]
    taken = {loss, name, step, ""}
    left = [c for c in columns if c not in taken and c.lower() not in KEPT_BY_WANDB]
    return _Columns(loss, name, step, params or [c for c in left if not c.startswith("_")])


def _number(cell: object) -> float | None:
    if isinstance(cell, bool):
        return None
    try:
        number = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number


def _step(cell: object) -> int | None:
    number = _number(cell)
    return int(number) if number is not None and abs(number) <= FURTHEST else None


def _table(
    path: Path,
    rows: Rows,
    of: _Columns,
    problems: list[str],
) -> Export:
    """A row is a run."""
    runs: list[ExternalRun] = []
    left_out = []
    for number, row in rows:
        name = str((of.name and row.get(of.name)) or f"{path.stem}-{number}")
        state = next((str(v).lower() for k, v in row.items() if k.lower() == STATE), "")
        if state in UNFINISHED:
            left_out.append(name)
            continue
        loss = _number(row.get(of.loss))
        if loss is None or not math.isfinite(loss):
            problems.append(
                f"line {number}: {of.loss} of {name} is no number: {row.get(of.loss)!r}"
            )
            continue
        runs.append(ExternalRun(name, loss, _params(row, of.params), [], path.name))
    seen = [run.name for run in runs]
    for twice in sorted({n for n in seen if seen.count(n) > 1}):
        problems.append(
            f"run {twice} is there {seen.count(twice)} times; --name COLUMN tells apart"
        )
    _raise(path, problems)
    if not runs:
        raise SweepError(f"{path} has no finished run", [f"{n} is not over" for n in left_out])
    return Export(runs, left_out)


def _params(row: Row, names: Sequence[str]) -> dict[str, str]:
    return {n: str(row[n]) for n in names if row.get(n) not in (None, "")}


def _histories(
    path: Path,
    rows: Rows,
    of: _Columns,
    problems: list[str],
) -> list[ExternalRun]:
    """A row is a step; rows without a loss logged something else."""
    curves: dict[str, list[tuple[int, float]]] = {}
    last: dict[str, Row] = {}
    for number, row in rows:
        name = str((of.name and row.get(of.name)) or path.stem)
        last[name] = {**last.get(name, {}), **{k: v for k, v in row.items() if v not in (None, "")}}
        if row.get(of.loss) in (None, ""):
            continue
        step, loss = _step(row.get(of.step)), _number(row[of.loss])
        if step is None or loss is None:
            what = f"{of.step} {row.get(of.step)!r}, {of.loss} {row[of.loss]!r}"
            problems.append(f"line {number}: expected numbers, got {what}")
        elif math.isfinite(loss):
            curves.setdefault(name, []).append((step, loss))
    problems += [f"run {name} has no {of.loss}" for name in last if name not in curves]
    return [
        ExternalRun(name, sorted(c)[-1][1], _params(last[name], of.params), sorted(c), path.name)
        for name, c in curves.items()
    ]


def _is_chart(columns: Sequence[str]) -> bool:
    return bool(columns) and columns[0] == "Step" and any(CHART in c for c in columns[1:])


def _chart(path: Path, rows: Rows, loss: str, problems: list[str]) -> list[ExternalRun]:
    """A column is a run."""
    runs = []
    for column in [c for c in rows[0][1] if CHART in c and not c.endswith(CHART_ENDS)]:
        name, _, metric = column.rpartition(CHART)
        if metric == "_step" or (loss and metric != loss):
            continue
        curve = list(_cells(rows, column, problems))
        if curve:
            runs.append(ExternalRun(name, curve[-1][1], {}, curve, path.name))
    names = [run.name for run in runs]
    if len(set(names)) < len(names):
        problems.append("the chart shows several metrics; name one with --loss")
    if not runs:
        problems.append(f"no column `RUN - {loss or 'METRIC'}` has numbers")
    return runs


def _cells(rows: Rows, column: str, problems: list[str]) -> Iterator[tuple[int, float]]:
    for number, row in rows:
        if row[column] == "":
            continue
        step, loss = _step(row["Step"]), _number(row[column])
        if step is None or loss is None:
            problems.append(
                f"line {number}: expected numbers, got {row['Step']!r}, {row[column]!r}"
            )
        elif math.isfinite(loss):
            yield step, loss


def _raise(path: Path, problems: list[str]) -> list[str]:
    """Raise the problems so far; an empty list if there are none."""
    if problems:
        shown = problems[:20] + ([f"and {len(problems) - 20} more"] if len(problems) > 20 else [])
        raise SweepError(
            f"{path} cannot be imported: {len(problems)} problem{'s' * (len(problems) > 1)}",
            shown,
            hint="Columns are named with --loss COLUMN, --params A,B and --name COLUMN.",
        )
    return []


Row = Mapping[str, Any]
Rows = list[tuple[int, Row]]  # with the line or place of each


def read_rows(path: Path, problems: list[str]) -> Rows:
    """(line or place, row) of a CSV, JSON or JSON lines file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text in UTF-8"
        raise SweepError(f"cannot read {path}: {reason}") from None
    if not text.strip():
        problems.append("it is empty")
        return []
    if text.lstrip()[0] in "[{":
        return _json_rows(text, problems)
    reader = csv.reader(io.StringIO(text, newline=""))  # a quoted cell may have several lines
    try:
        header = next(reader)
        rows: Rows = []
        for cells in reader:
            if len(cells) != len(header) and any(cells):
                what = f"{len(cells)} cells under {len(header)} headings"
                problems.append(f"line {reader.line_num}: {what}")
            elif any(cells):
                rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        problems.append(f"line {reader.line_num}: {error}")
        return []
    if not rows and not problems:
        problems.append("it has headings and no rows")
    twice = sorted({column for column in header if header.count(column) > 1})
    problems += [f"heading {column} is there twice" for column in twice]
    return rows


def _json_rows(text: str, problems: list[str]) -> Rows:
    numbered: list[tuple[int, Any]] = []
    if text.lstrip()[0] == "[":
        try:
            numbered = list(enumerate(json.loads(text), 1))
        except (ValueError, RecursionError) as error:
            problems.append(f"not JSON: {error}")
            return []
        if not numbered:
            problems.append("it has no rows")
    else:
        for number, line in enumerate(text.split("\n"), 1):  # JSON text may hold other line ends
            try:
                numbered += [(number, json.loads(line))] if line.strip() else []
            except (ValueError, RecursionError):
                problems.append(f"line {number}: not JSON")
    rows: Rows = []
    for number, row in numbered:
        if not isinstance(row, dict):
            problems.append(f"row {number}: expected an object, got {row!r:.40}")
            continue
        if not _is_unicode(row):
            problems.append(f"row {number}: has half a character, such as \\ud800")
            continue
        nested = {key: row.pop(key) for key in ("config", "summary") if key in row}
        merged = dict(row)
        for inner in nested.values():
            merged |= _flat(inner) if isinstance(inner, dict) else {}
        rows.append((number, merged))
    return rows


def _is_unicode(row: Row) -> bool:
    """Whether the texts of a row can be written: JSON can spell halves of surrogate pairs."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _flat(nested: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """{optim: {lr: 1}} as {optim.lr: 1}; W&B's own keys begin with _ and stay out."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, dict) and set(value) == {"value"}:
            value = value["value"]  # as W&B's config files have it
        if isinstance(value, dict):
            flat |= _flat(value, f"{before}{key}.")
        elif not key.startswith("_"):
            flat[before + key] = value
    return flat
