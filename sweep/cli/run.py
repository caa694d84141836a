"""`sweep run`: the search itself, begun or continued."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sweep.cli.options import (
    address_option,
    here_option,
    plain_option,
    runs_option,
    same_command,
    set_option,
)
from sweep.cli.space import say_notes
from sweep.cli.text import counted
from sweep.space.language import read_space


@click.command()
@click.argument("space", type=click.Path(path_type=Path))
@set_option
@click.option("--name", default="", help="Name of the run folder.  [default: from SPACE]")
@click.option("--trials", type=int, help="Search trials to run.  [default: from SPACE]")
@address_option
@here_option
@plain_option
@runs_option
def run(
    space: Path,
    overrides: tuple[str, ...],
    name: str,
    trials: int | None,
    address: str | None,
    here: bool,
    plain: bool,
    runs: Path,
) -> None:
    """Run the sweep described by SPACE, or continue it if it has already begun.

    Finished trials are never repeated. Ctrl-C stops cleanly; the same command continues.

    \b
      sweep run search_spaces/quickstart.yaml
      sweep run search_spaces/quickstart.yaml --set data.path=book.txt --name book
    """
    if trials is not None:
        overrides = (*overrides, f"budget.trials={trials}")
    checked = read_space(space, overrides, name, counted)
    say_notes(checked)

    from sweep.folder import JOURNAL
    from sweep.format import terminal_width
    from sweep.journal import read_view
    from sweep.results import report
    from sweep.results.external import external_text
    from sweep.run import Options
    from sweep.run import run as run_sweep

    code, folder = run_sweep(
        checked,
        space.read_text(encoding="utf-8"),
        Options(runs, address, here, plain, tuple(sys.orig_argv)),
    )
    view = read_view(folder / JOURNAL)
    if code >= 128:
        click.echo(f"stopped; state saved. Continue: {same_command()}", err=True)
    else:
        click.echo(report.result(view, folder, terminal_width()))
        if others := external_text(folder):
            click.echo(f"\n{others}")
    sys.exit(code)
