"""`sweep compare`: how far runs are apart on the same tokens, and where."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import json_option, print_json, runs_option


@click.command()
@click.argument("names", metavar="A B...", nargs=-1, required=True)
@runs_option
@json_option
def compare(names: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Compare runs with the first of them on the validation tokens they share.

    Each is a trial (0012 of the latest sweep, or RUN/0012), a run folder (its best trial), a
    folder of sweep train or one that a model was written into. Of two it says on which tokens,
    where in the context and in which documents they differ.

    \b
      sweep compare 0012 0014
      sweep compare runs/quickstart runs/train/3f2a... --json
    """
    from sweep.predictions import comparison
    from sweep.predictions.comparison_report import comparison_data, comparison_text

    its = comparison.compare(names, runs)
    if as_json:
        print_json(comparison_data(its))
    else:
        click.echo(comparison_text(its))
