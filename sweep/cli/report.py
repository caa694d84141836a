"""`sweep report`: one HTML file that says what won and what to do next."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import folder_argument, json_option, print_json, runs_option
from sweep.errors import SweepError

PAGE = "report.html"


@click.command()
@folder_argument
@runs_option
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help=f"Where to write it.  [default: {PAGE} in FOLDER]",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print tables for a pull request.")
@json_option
def report(
    folder: Path | None, runs: Path, output: Path | None, as_markdown: bool, as_json: bool
) -> None:
    """Write what the sweep in FOLDER found as one HTML file; by default of the latest sweep.

    What won and how sure that is, edges to widen, what was never tried, the next run as a space to
    paste, and charts of everything. Opens from disk; needs no server and no network.

    \b
      sweep report
      sweep report runs/quickstart --output quickstart.html
      sweep report --markdown
    """
    import gc

    from sweep.folder import begun
    from sweep.report import markdown, page, reading_of, report_data

    folder, view = begun(folder, runs)
    gc.freeze()  # the collector would look through 10,000 trials again and again, for 0.7 s of CPU
    reading = reading_of(folder, view)
    if as_json:
        print_json(report_data(reading))
    elif not as_markdown:
        _write(output or folder / PAGE, page(reading))
    elif output:
        _write(output, markdown(reading))
    else:
        click.echo(markdown(reading), nl=False)


def _write(path: Path, text: str) -> None:
    from model.files import write_text

    try:
        write_text(path, text)
    except OSError as error:
        raise SweepError(f"cannot write {path}: {error.strerror or error}") from None
    click.echo(f"wrote {path}", err=True)
