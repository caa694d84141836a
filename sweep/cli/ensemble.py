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
from sweep.space import BudgetConfig

if TYPE_CHECKING:
    from sweep.predictions.ensemble import Ensemble
    from sweep.run import Options

MOST_MEMBERS = 1000  # that may be asked for


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
    """
    budget = read_budget(budgets)
    if (of or budgets) and not members:
        raise SweepError("--of and --budget are for the members that --train K trains")

    from sweep.folder import begun
    from sweep.journal import read_view
    from sweep.predictions.ensemble import ensemble_of, write_result
    from sweep.predictions.ensemble_report import ensemble_data, ensemble_text
    from sweep.predictions.logits import by_logits
    from sweep.run import Options

    folder, view = begun(folder, runs)
    if members:
        if folder.name in ("", ".."):  # the folder beside others that it is, not the way to it
            folder = folder.resolve()
        _train(folder, members, budget, Options(folder.parent, address, here, plain), of or "")
        view = read_view(folder / JOURNAL)
    names = [name.strip() for name in only.split(",")] if only else []
    its = ensemble_of(folder, view, method, names)
    write_result(its)
    averaged = by_logits(its) if logits else None
    if as_json:
        print_json(ensemble_data(its, averaged))
    else:
        click.echo(ensemble_text(its, averaged))
    if log:
        click.echo(f"logged: {_log(its)}", err=True)


def _log(its: Ensemble) -> str:
    """Log the ensemble to MLflow; the model's address."""
    from sweep.tracking.ensemble import log_ensemble

    members = its.trained()
    if len(members) < len(its.chosen.weights):
        raise SweepError(
            "the ensemble cannot be logged: of epochs only the predictions were kept",
            hint="--only leaves those trials out.",
        )
    return log_ensemble(
        its.folder,
        [(m.name, its.folder / TRIALS / m.trial.name, weight) for m, weight in members],
        {"val_loss": its.chosen.loss, "gain": -its.chosen.against_best.mean},
    )


def _train(folder: Path, members: int, budget: BudgetConfig, options: Options, of: str) -> None:
    """Train members; ends the command where they could not be trained."""
    from sweep.run import train_members

    code = train_members(folder, members, budget, options, of)
    if code >= 128:
        click.echo(f"stopped; state saved. Continue: {same_command()}", err=True)
    if code:
        sys.exit(code)
