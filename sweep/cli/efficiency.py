"""The command line of data efficiency."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import folder_argument, json_option, print_json, runs_option
from sweep.errors import SweepError


@click.command()
@folder_argument
@runs_option
@json_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Draw the curves too: by data, epoch and cost.",
)
def efficiency(folder: Path | None, runs: Path, as_json: bool, plot: Path | None) -> None:
    """Show what the trials in FOLDER are worth in data; by default those of the latest sweep.

    Multipliers by straight lines (NanoGPT Slowrun) and by the baseline's fitted law (2509.14786),
    with intervals of baseline noise and trial noise together.

    \b
      sweep efficiency
      sweep efficiency runs/quickstart --plot efficiency.svg
    """
    from sweep.folder import begun
    from sweep.results.efficiency_report import efficiency_data, efficiency_text, figures_of

    folder, view = begun(folder, runs)
    figures = figures_of(view)
    if as_json:
        print_json(efficiency_data(figures))
    else:
        click.echo(efficiency_text(figures))
    if plot is not None:
        from sweep.results.efficiency_plot import draw_figures

        try:
            draw_figures(figures, plot)
        except OSError as error:
            raise SweepError(f"cannot write {plot}: {error.strerror or error}") from None
        click.echo(f"drawn: {plot}", err=True)
