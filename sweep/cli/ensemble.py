"""`sweep ensemble`: what the trials of a sweep come to together."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import folder_argument, json_option, print_json, runs_option


@click.command()
@folder_argument
@click.option(
    "--method",
    type=click.Choice(["uniform", "greedy", "learned"]),
    default="greedy",
    show_default=True,
    help="How members are chosen; all are told.",
)
@click.option("--only", metavar="TRIALS", help="Of these trials alone, such as 0003,0012.")
@runs_option
@json_option
def ensemble(folder: Path | None, method: str, only: str | None, runs: Path, as_json: bool) -> None:
    """Mix what the trials of FOLDER predict, and say what that gains over the best of them.

    Members and weights are chosen on the last quarter of val, and reported on the rest. The folder
    gets ensemble.json, with who is in it.

    \b
      sweep ensemble
      sweep ensemble runs/quickstart --method learned --json
    """
    from sweep.folder import begun
    from sweep.predictions.ensemble import ensemble_of, write_result
    from sweep.predictions.ensemble_report import ensemble_data, ensemble_text

    folder, view = begun(folder, runs)
    names = [name.strip() for name in only.split(",")] if only else []
    its = ensemble_of(folder, view, method, names)
    write_result(its)
    if as_json:
        print_json(ensemble_data(its))
    else:
        click.echo(ensemble_text(its))
