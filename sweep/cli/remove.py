"""`sweep remove`: room on the disk, never without saying what goes."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.best import trial_called
from sweep.errors import SweepError


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--trial", "names", multiple=True, metavar="N", help="Files of this one; repeatable.")
@click.option("--checkpoints", is_flag=True, help="Weights alone, of all trials or of --trial.")
@click.option("--yes", is_flag=True, help="Do it. Without this it only says what would go.")
def remove(folder: Path, names: tuple[str, ...], checkpoints: bool, yes: bool) -> None:
    """Remove the run folder FOLDER, or files in it, after saying what that loses.

    A trial whose files are removed stays in the journal, with all that is known of it.
    --checkpoints keeps those that something rests on: the best, unfinished trials, finalists and
    their runs, teachers, members of the ensemble. While a driver is at work nothing is removed.

    \b
      sweep remove runs/quickstart
      sweep remove runs/quickstart --checkpoints --yes
      sweep remove runs/quickstart --trial 0011 --yes
    """
    from sweep.folder import JOURNAL, locked, run_folder
    from sweep.format import bytes_text
    from sweep.journal import read_view
    from sweep.run import removal

    folder = run_folder(folder, folder.parent)
    with locked(folder):
        view = read_view(folder / JOURNAL)
        trials = [trial_called(name, view, folder) for name in names]
        if checkpoints:
            what = removal.of_checkpoints(folder, view, trials)
        elif trials:
            what = removal.of_trials(folder, trials)
        else:
            what = removal.of_everything(folder, view)
        given_back = bytes_text(what.bytes)
        if not what.paths:
            raise SweepError(f"there is nothing of that to remove in {folder}", what.lines)
        if not yes:
            raise SweepError(
                f"nothing was removed: without --yes this only says what would go, {given_back}",
                what.lines,
                hint="The same command with --yes removes it.",
            )
        removal.remove(what, folder)
    click.echo(f"removed {given_back}:\n" + "\n".join(f"  {line}" for line in what.lines), err=True)
