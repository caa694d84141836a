"""`sweep best`: the command that trains the best settings again, or those of another trial."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import json_option, print_json, runs_option
from sweep.errors import SweepError
from sweep.view import TrialView, View


@click.command()
@click.argument("words", nargs=-1, metavar="[FOLDER] [TRIAL]")
@runs_option
@json_option
def best(words: tuple[str, ...], runs: Path, as_json: bool) -> None:
    """Print the command that trains the best settings of a sweep again, or those of TRIAL.

    The best is the confirmed one, if any was. FOLDER is by default the latest run folder.

    \b
      sweep best
      sweep best runs/quickstart --json
      sweep best 0011
    """
    from sweep.folder import begun
    from sweep.results import report
    from sweep.results.edges import edges_data, edges_text
    from sweep.results.settling import settling_text

    folder, name = folder_and_trial(words)
    folder, view = begun(folder, runs)
    winner = trial_called(name, view, folder) if name else report.winner(view)
    if winner is None:
        raise SweepError(f"{view.header['name']} has no complete trial yet", code=1)
    line = report.trial_line(view, winner) if name else report.winner_line(view)
    if as_json:
        sweep = report.sweep_data(view, driven=False)
        trial = next(trial for trial in sweep["trials"] if trial["trial"] == winner.name)
        trial |= {"told": line, "confirmed": sweep["confirmed"]}
        trial |= {"edges": edges_data(view, folder)}
        print_json(trial)
        return
    said = [line] if name else [line, settling_text(view), edges_text(view, folder)]
    click.echo("\n".join(filter(None, said)), err=True)
    click.echo(report.train_command(winner.settings))


def folder_and_trial(words: tuple[str, ...]) -> tuple[Path | None, str]:
    """What is a folder among the words, and what a trial; "" where none is named."""
    if len(words) > 2:
        raise SweepError(f"expected at most a run folder and a trial, got {' '.join(words)}")
    if len(words) == 2:
        run, trial = sorted(words, key=lambda word: not Path(word).is_dir())  # in either order
        return Path(run), trial
    folder = Path(words[0]) if words and (Path(words[0]).exists() or "/" in words[0]) else None
    return folder, words[0] if words and folder is None else ""


def trial_called(name: str, view: View, folder: Path) -> TrialView:
    """The trial of the sweep in `folder` with this name; 11 is 0011. Raises SweepError."""
    trial = view.trials.get(name) or view.trials.get(name.zfill(4))
    if trial is None:
        some = ", ".join([*view.trials][:3]) or "no trial"
        raise SweepError(
            f"{name}: no such trial in {folder}, which has {some}"
            + " and so on" * (len(view.trials) > 3),
            hint="`sweep status --json` lists every trial. A run folder is named by its path, as "
            "`sweep list` does.",
        )
    return trial
