"""`sweep laws`: what the loss does with more of everything."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import json_option, print_json, runs_option
from sweep.errors import SweepError


@click.command()
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path), metavar="[RUN]...")
@runs_option
@json_option
@click.option(
    "--where", multiple=True, metavar="KEY=VALUE", help="Only trials with this setting; repeatable."
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Draw the laws too, with their intervals and residuals.",
)
def laws(
    folders: tuple[Path, ...],
    runs: Path,
    as_json: bool,
    where: tuple[str, ...],
    plot: Path | None,
) -> None:
    """Fit laws of loss over parameters, tokens, epochs and members; by default of the latest RUN.

    Each law goes through the best recipe at each value: with intervals, what each point is off it,
    and losses beyond the data, marked as such. Several runs on the same tokens count as one.

    \b
      sweep laws runs/scale
      sweep laws runs/small runs/large --plot laws.svg
      sweep laws runs/scale --where optim.weight_decay_multiplier=0
    """
    from model.config import SETTINGS
    from sweep.folder import begun
    from sweep.results.laws_of_runs import laws_of, members_of
    from sweep.results.laws_report import laws_data, laws_text
    from sweep.space import read_overrides
    from sweep.view import View

    pairs, problems = read_overrides(where, SETTINGS, "--where")
    if problems:
        raise SweepError("no trials can be chosen", problems)
    views: dict[str, View] = {}
    members: dict[str, list[tuple[int, float]]] = {}
    for folder in folders or (None,):
        run_folder, view = begun(folder, runs)
        name = run_folder.name if run_folder.name not in views else str(run_folder)
        views[name] = view
        members |= members_of(name, run_folder)
    fitted = laws_of(views, dict(pairs), members)
    if as_json:
        print_json(laws_data(fitted))
    else:
        click.echo(laws_text(fitted))
    if plot is not None:
        from sweep.results.laws_plot import draw_laws

        try:
            draw_laws(fitted, plot)
        except OSError as error:
            raise SweepError(f"cannot write {plot}: {error.strerror or error}") from None
        click.echo(f"drawn: {plot}", err=True)
