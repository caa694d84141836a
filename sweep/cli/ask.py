"""`sweep ask` and `sweep tell`: the study for loops that train elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from model.config import read_number
from sweep.cli.options import json_option, print_json, runs_option, set_option
from sweep.errors import NO_MORE, SweepError


@click.command()
@click.argument("source", type=click.Path(path_type=Path), metavar="SPACE|RUN")
@set_option
@click.option("--name", default="", help="Name of the run folder.  [default: from SPACE]")
@click.option(
    "--again",
    metavar="AGE",
    help="First give out again a trial that was not told of for so long, such as 6h; 0: any.",
)
@json_option
@runs_option
def ask(
    source: Path,
    overrides: tuple[str, ...],
    name: str,
    again: str | None,
    as_json: bool,
    runs: Path,
) -> None:
    """Propose the next trial of SPACE, for a loop of your own to train.

    Prints its name and what is searched; --json has all settings and a folder to keep files in. The
    exit code is 6 when there is no trial to give out. What `sweep tell` reports, the study learns
    from, as with `sweep run`. A trial that nobody tells of stays out, for --again.

    \b
      sweep ask search_spaces/quickstart.yaml --name mine --json
      sweep ask runs/mine --again 6h
    """
    from sweep.run import ask as ask_run

    silent = _seconds(again) if again is not None else None
    if source.is_dir():
        if overrides or name:
            raise SweepError(
                f"{source} is a run folder: --set and --name go with a space",
                hint="Give the space again to change its budget.",
            )
        answer = ask_run(source, None, silent=silent)
    else:
        from sweep.space.language import read_space

        space = read_space(source, overrides, name)
        text = source.read_text(encoding="utf-8")
        answer = ask_run(runs / space.name, space, text, silent)
    trial = answer.trial
    if as_json:
        print_json(answer.to_dict())
    elif trial is not None:
        searched = [f"{setting}={value}" for setting, value in trial.searched.items()]
        click.echo(" ".join([trial.name, *searched]))
    if trial is None:
        out = f"; out: {', '.join(answer.open)}" if answer.open else ""
        click.echo(f"no trial to give out: {answer.reason}{out}", err=True)
        sys.exit(NO_MORE)


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("trial")
@click.option("--loss", type=float, metavar="NATS", help="Its validation loss, or whatever falls.")
@click.option(
    "--at",
    type=click.FloatRange(0, 1, min_open=True),
    default=1.0,
    metavar="FRACTION",
    help="How much of its own schedule is done.  [default: all]",
)
@click.option("--failed", default="", metavar="REASON", help="It ended without a loss.")
@click.option("--train-loss", type=float, default=float("nan"), metavar="NATS")
@click.option("--error", type=float, default=float("nan"), help="Standard error of the loss.")
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    help="Training so far.  [default: since it was given out]",
)
@json_option
def tell(
    run: Path,
    trial: str,
    loss: float | None,
    at: float,
    failed: str,
    train_loss: float,
    error: float,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Tell what TRIAL of RUN came to, and hear whether it should go on.

    Prints `go on`, or `stop` with the reason; the exit code is 6 for a trial that should be stopped
    before its end. Evaluations are compared at equal fractions: tell the same ones of each trial.
    To tell something twice changes nothing.

    \b
      sweep tell runs/mine 0003 --loss 3.41 --at 0.25
      sweep tell runs/mine 0003 --loss 3.02
      sweep tell runs/mine 0003 --failed "out of memory"
    """
    from sweep.run import Report
    from sweep.run import tell as tell_run

    if (loss is None) == (not failed):
        raise SweepError("expected either --loss or --failed")
    name = trial.zfill(4) if trial.isdecimal() else trial
    told = Report(float("nan") if loss is None else loss, at, train_loss, error, seconds, failed)
    answer = tell_run(run, name, told)
    if as_json:
        print_json(answer.to_dict())
    else:
        reason = f": {answer.reason}" if answer.reason else ""
        click.echo(f"{'stop' if answer.stop else 'go on'}{reason}")
    if answer.stop and at < 1 and not failed:
        sys.exit(NO_MORE)


def _seconds(text: str) -> float:
    try:
        seconds = read_number(text, "seconds")
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise SweepError(f"--again: expected a time such as 6h, 30min or 0, got {text!r}")
    return seconds
