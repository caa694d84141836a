"""Runs of others beside a sweep's own: kept in its folder, shown under their own heading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from model.files import replaced
from sweep.errors import SweepError
from sweep.folder import EXTERNAL
from sweep.format import table
from sweep.results.external_reader import ExternalRun

SHOWN = 10


def keep(folder: Path, runs: Sequence[ExternalRun]) -> list[ExternalRun]:
    """Add `runs` to the run folder; those that were new or differ from what was kept.

    A run that is kept under the same name is replaced.
    """
    kept = {run.name: run for run in read_kept(folder)}
    new = [r for r in runs if r.name not in kept or kept[r.name].digest != r.digest]
    if new:
        kept |= {run.name: run for run in new}
        lines = [json.dumps({**asdict(run), "digest": run.digest}) for run in kept.values()]
        with replaced(folder / EXTERNAL) as beside:
            beside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return new


def read_kept(folder: Path) -> list[ExternalRun]:
    """The runs that were imported into the run folder. Raises SweepError if the file is damaged."""
    path = folder / EXTERNAL
    if not path.exists():
        return []
    runs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = json.loads(line)
            run = ExternalRun(
                name=entry["name"],
                val_loss=float(entry["val_loss"]),
                params=dict(entry["params"]),
                curve=[(int(step), float(loss)) for step, loss in entry["curve"]],
                source=entry["source"],
            )
        except (ValueError, KeyError, TypeError):
            raise SweepError(
                f"{path} is damaged at line {number}",
                hint="Remove it and import again: sweep import FILE",
                code=1,
            ) from None
        runs.append(run)
    return runs


def external_text(folder: Path) -> str:
    """The imported runs, lowest loss first; empty if there are none."""
    runs = sorted(read_kept(folder), key=lambda run: run.val_loss)
    if not runs:
        return ""
    rows = [["run", "val loss", "settings", "file"]]
    for run in runs[:SHOWN]:
        settings = " ".join(f"{key}={value}" for key, value in run.params.items())
        shown = settings if len(settings) <= 60 else f"{settings[:57]}..."
        rows.append([run.name, f"{run.val_loss:.4f}", shown or "-", run.source])
    more = f"\nand {len(runs) - SHOWN} more" if len(runs) > SHOWN else ""
    return (
        "External runs, with losses as their authors measured them, on their data and tokenizer:\n"
        f"{table(rows)}{more}"
    )


def external_data(folder: Path) -> list[dict[str, Any]]:
    """The imported runs as plain data, for --json."""
    return [asdict(run) for run in read_kept(folder)]
