"""`sweep reproduce`: a trial trained again, held against what the journal has of it."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.config import SETTINGS, Value
from sweep.cli.best import folder_and_trial, trial_called
from sweep.cli.options import Finite, json_option, print_json, runs_option
from sweep.errors import SweepError
from sweep.space import read_overrides

if TYPE_CHECKING:
    from sweep.run.reproduction import Prepared, Reproduction

HEADING = f"{'done':>8}  {'val loss then':>13}  {'now':>8}  {'apart':>9}"


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN] [TRIAL]")
@click.option("--check", is_flag=True, help="Verify versions, digests and settings; train nothing.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for what is trained, which the same command goes on from.  [default: none]",
)
@click.option(
    "--set",
    "files",
    multiple=True,
    metavar="KEY=VALUE",
    help="Where a file lies that has moved: data.path, gpt.init, train.teacher; repeatable.",
)
@click.option(
    "--noise",
    type=Finite(min=0, min_open=True),
    help="Standard deviation between seeds, nats per token.  [default: as the sweep measured it]",
)
@runs_option
@json_option
def reproduce(
    words: tuple[str, ...],
    check: bool,
    keep: Path | None,
    files: tuple[str, ...],
    noise: float | None,
    runs: Path,
    as_json: bool,
) -> None:
    """Train a trial again and hold each evaluation against the journal's.

    First versions, digests, settings and the machine are held against what trained it then. Where
    all agree on a CPU, the losses must be the same bit for bit; else the last one must be within
    the noise between seeds. RUN is by default the latest, TRIAL the best. Nothing in RUN changes.
    Exit 0: reproduced; 1: it was not, and a table says what differs.

    \b
      sweep reproduce
      sweep reproduce runs/quickstart 0011 --check
    """
    from sweep.folder import begun
    from sweep.results import report
    from sweep.run import reproduction

    run, name = folder_and_trial(words)
    run, view = begun(run, runs)
    trial = trial_called(name, view, run) if name else report.winner(view)
    if trial is None:
        raise SweepError(f"{view.header['name']} has no complete trial yet", code=1)
    if keep is not None and keep.resolve().is_relative_to(run.resolve()):
        raise SweepError(f"--keep {keep}: {run} stays as it is; choose a folder outside of it")
    prepared = reproduction.prepare(run, view, trial, _files(files, reproduction.FILES))
    click.echo(_agreements(prepared), err=as_json)
    if check:
        if as_json:
            print_json(_data(run, keep, reproduction.as_data(prepared, None)))
        sys.exit(0 if all(each.agrees for each in prepared.agreements) else 1)
    outcome = _train(prepared, keep, noise, quiet=as_json)
    if as_json:
        print_json(_data(run, keep, reproduction.as_data(prepared, outcome)))
    sys.exit(0 if outcome.reproduced else 1)


def _files(words: Sequence[str], allowed: Sequence[str]) -> dict[str, Value]:
    """Where files lie, of KEY=VALUE words. Raises SweepError with every problem."""
    pairs, problems = read_overrides(words, {name: SETTINGS[name] for name in allowed})
    if problems:
        raise SweepError(
            "--set says only where files lie: another setting would make it another trial",
            problems,
            hint=f"One of {', '.join(allowed)}.",
        )
    return dict(pairs)


def _data(run: Path, keep: Path | None, its: dict[str, object]) -> dict[str, object]:
    return {"run": str(run), **its, "kept": str(keep) if keep else None}


def _agreements(prepared: Prepared) -> str:
    """What agrees, in a line, what does not, as a table, and what follows for the losses."""
    from sweep.format import table, time_text

    trial, its = prepared.trial, prepared.agreements
    loss = f"val loss {trial.val_loss:.4f} at {trial.done:.0%}"
    lines = [f"trial {trial.name}: {loss}, {time_text(prepared.seconds)} of training then"]
    agree = ", ".join(each.what for each in its if each.agrees)
    lines += [f"as it was: {agree}"] if agree else []
    rows = [
        [each.what, each.then or "not noted", each.now, "yes" if each.counts else "no"]
        for each in its
        if not each.agrees
    ]
    if rows:
        lines += ["", table([["otherwise", "then", "now", "losses may depend on it"], *rows]), ""]
    if prepared.same_kind:
        expected = "the same losses, bit for bit"
    elif prepared.on_gpu:
        expected = "a last loss within the noise: a GPU does not promise the same bits twice"
    else:
        expected = "a last loss within the noise between seeds"
    return "\n".join([*lines, f"expected: {expected}"])


def _train(prepared: Prepared, keep: Path | None, noise: float | None, quiet: bool) -> Reproduction:
    """Train it, with a line for each evaluation and then what came of it; to stderr if `quiet`."""
    from sweep.run import reproduction

    pairs = []
    with ExitStack() as stack:
        folder = keep
        if folder is None:
            place = tempfile.TemporaryDirectory(prefix="sweep-reproduce-")
            folder = Path(stack.enter_context(place))
        click.echo(HEADING, err=quiet)
        try:
            for then, again in reproduction.train_again(prepared, folder):
                pairs.append((then, again))
                before = f"{then['val_loss']:.4f}" if then else "-"
                apart = f"{again.val_loss - then['val_loss']:+.1e}" if then else "-"
                same = "same" if then and not reproduction.differences(then, again) else apart
                done = f"{again.basis_points / 100:.1f} %"
                row = f"{done:>8}  {before:>13}  {again.val_loss:>8.4f}  {same:>9}"
                click.echo(row, err=quiet)
        except KeyboardInterrupt:
            where = "with --keep FOLDER it would" if keep is None else "the same command does"
            click.echo(f"stopped; {where} go on from where it is", err=True)
            sys.exit(130)
    outcome = reproduction.verdict(prepared, pairs, noise)
    answer = "reproduced" if outcome.reproduced else "not reproduced"
    click.echo(f"{answer}, {outcome.text}", err=quiet)
    if outcome.differences and not outcome.reproduced:
        click.echo(_differences(outcome), err=quiet)
    return outcome


def _differences(outcome: Reproduction) -> str:
    """The numbers that differ, as a table with all their digits."""
    from sweep.format import table

    rows = [["at", "what", "then", "again"]]
    for each in outcome.differences:
        at = f"{each.basis_points / 100:g} %"
        rows.append([at, each.what, repr(each.then), repr(each.again)])
    return table(rows)
