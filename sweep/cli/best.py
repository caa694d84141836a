"""`sweep best`: the command that trains the best settings again."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import folder_argument, json_option, print_json, runs_option
from sweep.errors import SweepError


@click.command()
@folder_argument
@runs_option
@json_option
def best(folder: Path | None, runs: Path, as_json: bool) -> None:
    """Print the command that trains the best settings of a sweep again: confirmed, if it was.

    \b
      sweep best
      sweep best runs/quickstart --json
    """
    from sweep.folder import begun
    from sweep.results import report
    from sweep.results.edges import edges_data, edges_text
    from sweep.results.settling import settling_text

    folder, view = begun(folder, runs)
    winner = report.winner(view)
    if winner is None:
        raise SweepError(f"{view.header['name']} has no complete trial yet", code=1)
    if as_json:
        sweep = report.sweep_data(view, driven=False)
        trial = next(trial for trial in sweep["trials"] if trial["trial"] == winner.name)
        trial |= {"told": report.winner_line(view), "confirmed": sweep["confirmed"]}
        trial |= {"edges": edges_data(view, folder)}
        print_json(trial)
        return
    said = [report.winner_line(view), settling_text(view), edges_text(view, folder)]
    click.echo("\n".join(filter(None, said)), err=True)
    click.echo(report.train_command(winner.settings))
