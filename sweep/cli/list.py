"""`sweep list`: the sweeps there are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from sweep.cli.options import json_option, print_json, runs_option


@click.command(name="list")
@runs_option
@json_option
def list_(runs: Path, as_json: bool) -> None:
    """List the sweeps under --runs: when, how many trials, what they found and take of the disk.

    \b
      sweep list
      sweep list --json
    """
    from sweep.folder import run_folders
    from sweep.format import bytes_text, table, terminal_width

    sweeps = [sweep_data(folder) for folder in reversed(run_folders(runs))]
    if as_json:
        print_json(sweeps)
        return
    rows = [["run folder", "begun", "trials", "state", "best", "val loss", "data", "on disk"]]
    for sweep in sweeps:
        rows.append(
            [
                sweep["folder"],
                _day(sweep["begun"]),
                sweep["trials"] or "-",
                sweep["state"],
                sweep["best"] or "-",
                "-" if sweep["val_loss"] is None else f"{sweep['val_loss']:.4f}",
                sweep["data_efficiency"] or "-",
                bytes_text(sweep["bytes"]),
            ]
        )
    click.echo(table(rows, terminal_width()))


def sweep_data(folder: Path) -> dict[str, Any]:
    """One sweep as plain data; a damaged journal is its state, so that the others are shown."""
    from sweep.errors import SweepError
    from sweep.folder import JOURNAL, is_driven, size
    from sweep.format import finite_or_none
    from sweep.journal import read_view
    from sweep.results import report

    overview: dict[str, Any] = {"name": folder.name, "folder": str(folder), "begun": None}
    overview |= dict.fromkeys(("trials", "best", "val_loss", "data_efficiency"))
    overview |= {"state": "has not begun", "bytes": size(folder)}
    try:
        view = read_view(folder / JOURNAL)
    except SweepError as error:
        return {**overview, "state": "damaged", "problem": str(error)}
    if view.header:
        overview |= {"begun": view.began, "trials": report.progress(view)}
        overview["state"] = report.state(view, is_driven(folder))
    if winner := report.winner(view):
        loss, multiplier = report.worth(view, winner)
        overview |= {"best": winner.name, "val_loss": finite_or_none(loss)}
        overview["data_efficiency"] = str(multiplier) if multiplier else None
    return overview


def _day(milliseconds: int | None) -> str:
    """A moment in local time, to the minute."""
    if milliseconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))
