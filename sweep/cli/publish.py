"""The command line of publishing: a store that was away, or another one, gets what it lacks."""

from __future__ import annotations

import os
from pathlib import Path

import click

from sweep.cli.options import runs_option
from sweep.errors import REFUSED_TO_CONTINUE, UNREACHABLE, SweepError


@click.command()
@click.argument("folder", metavar="[RUN]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--to",
    "uri",
    metavar="URI",
    default="",
    help="MLflow server or database.  [default: $MLFLOW_TRACKING_URI, else that of `sweep ui`]",
)
@runs_option
def publish(folder: Path | None, uri: str, runs: Path) -> None:
    """Send to MLflow what it lacks of the sweep in RUN; by default the latest one.

    Sending twice doubles nothing. Ctrl-C stops; the same command goes on.

    \b
      sweep publish
      sweep publish runs/quickstart --to http://127.0.0.1:5000
    """
    from model import files
    from model.secrets import without_password
    from sweep.folder import JOURNAL, TRACKING_LOG, run_folder
    from sweep.journal import read_view
    from sweep.tracking import process

    folder = run_folder(folder, runs)
    read_view(folder / JOURNAL)  # a damaged journal must not look like a fault of the store
    if not os.access(folder, os.W_OK):
        raise SweepError(
            f"{folder} cannot be written to, where it is kept how much of it MLflow has",
            hint="Publish a copy of it: cp -r, then sweep publish COPY.",
        )
    uri = uri or process.store_uri(folder.parent)
    shown = without_password(uri)
    if files.is_locked(process.lock_path(folder, uri)):
        raise SweepError(
            f"{folder} is being published to {shown} already",
            hint="A sweep that runs publishes itself.",
            code=REFUSED_TO_CONTINUE,
        )
    log = folder / TRACKING_LOG
    logged_before = log.stat().st_size if log.exists() else 0
    publishing = process.start(folder, uri, process.ONCE)
    try:
        complete = process.finish(publishing, seconds=None)
    except KeyboardInterrupt:
        publishing.kill()
        raise
    if not complete:
        raise SweepError(
            f"MLflow at {shown} did not take all of {folder}",
            [_last_line(log, logged_before)],
            hint="What it took stays; the same command sends the rest.",
            code=UNREACHABLE,
        )
    click.echo(f"MLflow at {shown} has all of {folder}", err=True)


def _last_line(log: Path, begin: int) -> str:
    """The last line of `log` from byte `begin` on; rather one of what the store did not take."""
    text = log.read_bytes()[begin:].decode(errors="replace") if log.exists() else ""
    lines = text.splitlines()
    refusals = [line for line in lines if "did not take" in line]
    return (refusals or lines or ["nothing was said"])[-1]
