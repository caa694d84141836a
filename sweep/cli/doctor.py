"""`sweep doctor`: what is wrong in a run folder, and its repair."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sweep.cli.options import folder_argument, json_option, print_json, runs_option


@click.command()
@folder_argument
@click.option("--repair", is_flag=True, help="Repair what can be, keeping what is replaced.")
@runs_option
@json_option
def doctor(folder: Path | None, repair: bool, runs: Path, as_json: bool) -> None:
    """Hold every file of a run folder against the others, and say what is wrong.

    With --repair the ledger is written anew from the journal, damaged and doubled lines of the
    journal are taken out, and folders of no trial are moved aside. What that replaces is kept
    under repairs/ in the run folder. Exit 0: all is sound; 1: something is wrong.

    \b
      sweep doctor runs/quickstart
      sweep doctor runs/quickstart --repair
    """
    from sweep.doctor import Damage, examine
    from sweep.doctor import repair as repair_run
    from sweep.folder import is_driven, locked, run_folder

    folder = run_folder(folder, runs)
    repaired: list[Damage] = []
    kept = Path()
    if repair:
        with locked(folder):
            repaired, kept = repair_run(folder)
    elif is_driven(folder):
        click.echo("a driver is at work: what it is writing now may look wrong", err=True)
    damages = examine(folder)
    if as_json:
        print_json(
            {
                "run": str(folder),
                "sound": not damages,
                "damages": [damage.to_dict() for damage in damages],
                "repaired": [damage.to_dict() for damage in repaired],
                "kept": str(kept) if repaired else None,
            }
        )
        sys.exit(1 if damages else 0)
    for damage in repaired:
        click.echo(f"{damage.file}: {damage.what}\n  repaired: {damage.can}")
    if repaired:
        click.echo(f"what was replaced is in {kept}")
    for damage in damages:
        click.echo(f"{damage.file}: {damage.what}\n  {damage.means}")
        if damage.can:
            click.echo(f"  --repair {damage.can}")
    if not damages:
        click.echo(f"{folder} is sound")
    sys.exit(1 if damages else 0)
