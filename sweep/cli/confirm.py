"""`sweep confirm`: the best trials, run again with fresh seeds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

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
from sweep.space import SWEEP_SETTINGS, BudgetConfig, read_overrides

ANY = 10**9  # runs, unless the budget says otherwise
LARGEST = 1000  # seeds that may be asked for
MOST = 64  # seeds with --until-separated
USUAL = 4
LIMITS = ("trials", "failures", "hours", "device_hours", "flops")

budget_option = click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Spend no more on it: trials, hours, device_hours, flops, failures; repeatable.",
)


@click.command()
@folder_argument
@click.option(
    "--top",
    default=6,
    show_default=True,
    type=click.IntRange(1),
    metavar="K",
    help="Confirm the K best recipes of the search: its finalists.",
)
@click.option(
    "--seeds",
    type=click.IntRange(2, LARGEST),
    metavar="N",
    help="Fresh seeds of each finalist on average: at most K x N runs in all, after two of each "
    "where they decide. With --until-separated the most of one finalist.  "
    f"[default: {USUAL}, or {MOST}]",
)
@click.option(
    "--until-separated",
    is_flag=True,
    help="Go on until the best is told apart from each of the others.",
)
@budget_option
@click.option(
    "--test/--no-test",
    default=None,
    help="Look at the sealed test split, or do not.  [default: once, when all is done]",
)
@click.option("--again", is_flag=True, help="Look at it although it was looked at before.")
@address_option
@here_option
@plain_option
@json_option
@runs_option
def confirm(
    folder: Path | None,
    top: int,
    seeds: int | None,
    until_separated: bool,
    budgets: tuple[str, ...],
    test: bool | None,
    again: bool,
    address: str | None,
    here: bool,
    plain: bool,
    as_json: bool,
    runs: Path,
) -> None:
    """Run the best trials of FOLDER again with fresh seeds, the same ones for each.

    Runs go to those that may be the best, and end when it is told apart. More seeds may be asked
    for after any result: intervals hold for that. Then, once, tell the winner's loss on the test
    split, which nothing before has seen. Finished runs are never repeated. Ctrl-C stops cleanly;
    the same command continues.

    \b
      sweep confirm
      sweep confirm runs/quickstart --top 5 --until-separated --budget hours=2
    """
    budget = read_budget(budgets)

    from sweep.folder import JOURNAL, run_folder
    from sweep.journal import read_view
    from sweep.records import Ending
    from sweep.results import report
    from sweep.results.confirmation_report import confirmation_data, confirmation_text
    from sweep.run import Options, Request, has_test_split
    from sweep.run import confirm as run_confirmation

    folder = run_folder(folder, runs)
    if folder.name in ("", ".."):  # the folder beside others that it is, not the way to it
        folder = folder.resolve()
    most = seeds or (MOST if until_separated else USUAL)
    request = Request(top, most, until_separated, budget, test, again)
    options = Options(folder.parent, address, here, plain, tuple(sys.orig_argv))
    code = run_confirmation(folder, request, options)
    view = read_view(folder / JOURNAL)
    if code >= 128:
        click.echo(f"stopped; state saved. Continue: {same_command()}", err=True)
    elif as_json:
        print_json(confirmation_data(view))
    else:
        click.echo(confirmation_text(view) or "nothing was confirmed")
        if worth := report.confirmed_worth_line(view):
            click.echo(f"\n{worth}")
        if view.end and view.end.ending is not Ending.CONFIRMED:
            click.echo(f"\nIt ended before its plan was through: {view.end}.")
        if not has_test_split(view):
            click.echo("\nThe data has no test split, so nothing is sealed.")
        elif not view.sealed:
            click.echo("\nThe test split is still sealed; --test looks at it, once.")
    sys.exit(code)


def read_budget(words: tuple[str, ...]) -> BudgetConfig:
    """The budget of KEY=VALUE words. Raises SweepError with everything that is wrong."""
    limits = {key: SWEEP_SETTINGS[f"budget.{key}"] for key in LIMITS}
    pairs, problems = read_overrides(words, limits, "--budget")
    if problems:
        keys = ", ".join(LIMITS)
        raise SweepError("--budget is not understood", problems, hint=f"KEY is one of {keys}.")
    settings: dict[str, Any] = {"trials": ANY, **dict(pairs)}
    return BudgetConfig(**settings)
