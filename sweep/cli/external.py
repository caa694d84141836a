"""The command line of importing: finished runs of others, put beside a sweep's own."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import json_option, print_json, runs_option


@click.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--into", type=click.Path(path_type=Path), help="Run folder.  [default: the latest sweep]"
)
@runs_option
@click.option("--loss", default="", metavar="COLUMN", help="Where the validation loss is.")
@click.option("--name", default="", metavar="COLUMN", help="Where the runs' names are.")
@click.option("--params", default="", metavar="A,B", help="Columns of settings.  [default: all]")
@json_option
def import_(
    file: Path, into: Path | None, runs: Path, loss: str, name: str, params: str, as_json: bool
) -> None:
    """Put the finished runs in FILE beside those of a sweep, marked as external.

    FILE is W&B's runs table or chart as CSV, a history or runs of its API as CSV or JSON, or any
    CSV with a row for each run. Imported again, nothing doubles. They never enter the ranking.

    \b
      sweep import wandb_export.csv --loss val/loss --params lr,weight_decay
      sweep import history.jsonl --into runs/quickstart
    """
    from sweep.folder import CURSOR, JOURNAL, run_folder
    from sweep.journal import read_view
    from sweep.results.external import external_data, external_text, keep
    from sweep.results.external_reader import read_external

    folder = run_folder(into, runs)
    columns = [column.strip() for column in params.split(",") if column.strip()]
    export = read_external(file, loss, columns, name)
    new = keep(folder, export.runs)
    if export.left_out:
        click.echo(f"left out, not over: {', '.join(export.left_out)}", err=True)
    click.echo(f"{len(export.runs)} runs in {file}, {len(new)} of them new in {folder}", err=True)
    header = read_view(folder / JOURNAL).header
    if (folder / CURSOR).exists() and header:
        _publish(folder, header["id"])
    if as_json:
        print_json(external_data(folder))
    else:
        click.echo(external_text(folder))


def _publish(folder: Path, sweep: str) -> None:
    """Send the imported runs to the sweep's store; print why if it does not take them."""
    from sweep.results.external import read_kept
    from sweep.tracking.external import publish_kept
    from sweep.tracking.process import store_uri

    reason = publish_kept(folder, sweep, read_kept(folder))
    if reason:
        click.echo(
            f"MLflow at {store_uri(folder.parent)} did not take them: {reason}; "
            "the same command tries again.",
            err=True,
        )
