"""`sweep ensemble`: what the trials of a sweep come to together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.cli.confirm import budget_option, read_budget
from sweep.cli.options import (
    address_option,
    folder_argument,
    here_option,
    json_option,
    plain_option,
    print_json,
    runs_option,
    same_command,
)
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TRIALS
from sweep.records import Role
from sweep.space import BudgetConfig

if TYPE_CHECKING:
    from sweep.predictions.ensemble import Ensemble
    from sweep.run import Lesson, Options

MOST_MEMBERS = 1000  # that may be asked for
MOST_LINKS = 100


@click.command()
@folder_argument
@click.option(
    "--method",
    type=click.Choice(["uniform", "greedy", "learned"]),
    default="greedy",
    show_default=True,
    help="How members are chosen; all are told.",
)
@click.option(
    "--logits",
    is_flag=True,
    help="Average the logits of its networks too: all of them read all of val once.",
)
@click.option("--log", is_flag=True, help="Log the ensemble as an MLflow model of the sweep.")
@click.option("--only", metavar="TRIALS", help="Of these trials alone, such as 0003,0012.")
@click.option(
    "--train",
    "members",
    type=click.IntRange(1, MOST_MEMBERS),
    metavar="K",
    help="First train K fresh members of one recipe, the first K fresh seeds of it.",
)
@click.option("--of", metavar="TRIAL", help="Whose recipe they are of.  [default: the best]")
@click.option(
    "--distill",
    is_flag=True,
    help="Train one network of the recipe on what the ensemble predicts, mixed with the text.",
)
@click.option(
    "--chain",
    type=click.IntRange(1, MOST_LINKS),
    metavar="K",
    help="Distil into K networks one after another, each taught by the one before; the first by "
    "the best trial.",
)
@click.option(
    "--teacher-weight",
    type=click.FloatRange(0, 1),
    help="Of the teacher in the loss; the text has the rest.  [default: 0.5]",
)
@click.option(
    "--temperature",
    type=click.FloatRange(0.1, 100),
    help="That softens what teacher and student predict.  [default: 1]",
)
@budget_option
@address_option
@here_option
@plain_option
@runs_option
@json_option
def ensemble(
    folder: Path | None,
    method: str,
    logits: bool,
    log: bool,
    only: str | None,
    members: int | None,
    of: str | None,
    distill: bool,
    chain: int | None,
    teacher_weight: float | None,
    temperature: float | None,
    budgets: tuple[str, ...],
    address: str | None,
    here: bool,
    plain: bool,
    runs: Path,
    as_json: bool,
) -> None:
    """Mix what the trials of FOLDER predict, and say what that gains over the best of them.

    Members and weights are chosen on the last quarter of val, and reported on the rest. The folder
    gets ensemble.json, with who is in it. With --train fresh seeds of a trial join the candidates:
    the runs that sweep confirm makes too, never made twice. Ctrl-C stops; the same command
    continues.

    \b
      sweep ensemble
      sweep ensemble runs/quickstart --method learned --json
      sweep ensemble runs/quickstart --train 8 --budget hours=2 --log
      sweep ensemble runs/quickstart --distill --teacher-weight 0.7
      sweep ensemble runs/quickstart --chain 4
    """
    budget = read_budget(budgets)
    distills = distill or bool(chain)
    if (of or budgets) and not (members or distills):
        raise SweepError("--of and --budget are for what --train, --distill or --chain trains")
    if (teacher_weight is not None or temperature is not None) and not distills:
        raise SweepError("--teacher-weight and --temperature are for --distill and --chain")
    if distill and chain:
        raise SweepError(
            "--distill and --chain exclude each other",
            hint="--distill: one network taught by the ensemble; --chain: each by the one before.",
        )

    from sweep.folder import begun
    from sweep.journal import read_view
    from sweep.predictions.ensemble import ensemble_of, write_result
    from sweep.predictions.ensemble_report import ensemble_data, ensemble_text
    from sweep.predictions.logits import by_logits
    from sweep.predictions.students import taught, taught_data, taught_text
    from sweep.run import Lesson, Options

    folder, view = begun(folder, runs)
    if folder.name in ("", ".."):  # the folder beside others that it is, not the way to it
        folder = folder.resolve()
    options = Options(folder.parent, address, here, plain, tuple(sys.orig_argv))
    if members:
        _train(folder, members, budget, options, of or "")
        view = read_view(folder / JOURNAL)
    names = [name.strip() for name in only.split(",")] if only else []
    its = ensemble_of(folder, view, method, names)
    try:
        write_result(its)
    except OSError as error:  # a folder of someone else's may be read
        click.echo(f"not kept in {folder}: {error.strerror or error}", err=True)
    students = []
    if distills:
        lesson = Lesson(
            Lesson.weight if teacher_weight is None else teacher_weight,
            Lesson.temperature if temperature is None else temperature,
        )
        names = _distill(its, of, lesson, chain, budget, options)
        students = taught(read_view(folder / JOURNAL), its, names)
    averaged = by_logits(its) if logits else None
    if as_json:
        print_json({**ensemble_data(its, averaged), "students": taught_data(students)})
    else:
        click.echo(ensemble_text(its, averaged))
        if students:
            click.echo("\n" + taught_text(its, students))
    if log:
        click.echo(f"logged: {_log(its)}", err=True)


def _networks(its: Ensemble, what: str) -> list[tuple[str, float]]:
    """The members by name, and their weights. Raises SweepError if one has no network."""
    members = its.trained()
    if len(members) < len(its.chosen.weights):
        raise SweepError(
            f"the ensemble cannot {what}: of epochs only the predictions were kept",
            hint="--only leaves those trials out.",
        )
    return [(member.trial.name, weight) for member, weight in members]


def _log(its: Ensemble) -> str:
    """Log the ensemble to MLflow; the model's address."""
    from sweep.tracking.ensemble import log_ensemble

    return log_ensemble(
        its.folder,
        [(n, its.folder / TRIALS / n, weight) for n, weight in _networks(its, "be logged")],
        {"val_loss": its.chosen.loss, "gain": -its.chosen.against_best.mean},
    )


def _distill(
    its: Ensemble,
    of: str | None,
    lesson: Lesson,
    chain: int | None,
    budget: BudgetConfig,
    options: Options,
) -> list[str]:
    """Train students; their names. Ends the command where they could not be trained."""
    from sweep.run import distill

    best = of or next(m.trial.name for m in its.members if m.trial.role is Role.SEARCH)
    members = [(best, 1.0)] if chain else _networks(its, "teach")
    code, names = distill(its.folder, members, best, lesson, chain or 1, budget, options)
    _leave(code)
    return names


def _leave(code: int) -> None:
    """End the command where training did not come to its end."""
    if code >= 128:
        click.echo(f"stopped; state saved. Continue: {same_command()}", err=True)
    if code:
        sys.exit(code)


def _train(folder: Path, members: int, budget: BudgetConfig, options: Options, of: str) -> None:
    """Train members; ends the command where they could not be trained."""
    from sweep.run import train_members

    _leave(train_members(folder, members, budget, options, of))
