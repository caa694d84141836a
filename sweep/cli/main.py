"""The command line. Thin: it parses, calls, prints. Slow imports wait until they are needed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import sys
from pathlib import Path

import click

from sweep.cli.confirm import confirm
from sweep.cli.data import data
from sweep.cli.efficiency import efficiency
from sweep.cli.external import import_
from sweep.cli.options import (
    address_option,
    here_option,
    json_option,
    plain_option,
    runs_option,
    set_option,
)
from sweep.cli.publish import publish
from sweep.cli.replay import replay
from sweep.cli.space import init, plan, schema
from sweep.cli.train import presets, settings, train
from sweep.errors import SweepError
from sweep.space import Space
from sweep.space.language import read_space


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 88})
def cli() -> None:
    """Find the recipe that makes a fixed, small corpus go furthest.

    \b
      sweep run search_spaces/quickstart.yaml
      sweep status
      sweep ui
    """


for verb in (
    confirm,
    data,
    efficiency,
    import_,
    init,
    plan,
    presets,
    publish,
    replay,
    schema,
    settings,
    train,
):
    cli.add_command(verb)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@set_option
@click.option("--name", default="", help="Name of the run folder.  [default: from SPACE]")
@click.option("--trials", type=int, help="Search trials to run.  [default: from SPACE]")
@address_option
@here_option
@plain_option
@runs_option
def run(
    space: Path,
    overrides: tuple[str, ...],
    name: str,
    trials: int | None,
    address: str | None,
    here: bool,
    plain: bool,
    runs: Path,
) -> None:
    """Run the sweep described by SPACE, or continue it if it has already begun.

    Finished trials are never repeated. Ctrl-C stops cleanly; the same command continues.

    \b
      sweep run search_spaces/quickstart.yaml
      sweep run search_spaces/quickstart.yaml --set data.path=book.txt --name book
    """
    if trials is not None:
        overrides = (*overrides, f"budget.trials={trials}")
    checked = read_space(space, overrides, name)
    _say_notes(checked)

    from sweep.folder import JOURNAL
    from sweep.journal import read_view
    from sweep.results import report
    from sweep.results.external import external_text
    from sweep.run import Options
    from sweep.run import run as run_sweep

    code, folder = run_sweep(
        checked, space.read_text(encoding="utf-8"), Options(runs, address, here, plain)
    )
    view = read_view(folder / JOURNAL)
    if code >= 128:
        click.echo(f"stopped; state saved. Continue: {_same_command()}", err=True)
    else:
        click.echo(report.result(view, folder))
        if others := external_text(folder):
            click.echo(f"\n{others}")
    sys.exit(code)


@cli.command()
@click.argument("space", type=click.Path(path_type=Path))
@set_option
def check(space: Path, overrides: tuple[str, ...]) -> None:
    """Check SPACE and say what it searches; nothing is run.

    \b
      sweep check search_spaces/quickstart.yaml
    """
    checked = read_space(space, overrides)
    _say_notes(checked)
    hyperparameters = ", ".join(checked.searched)
    click.echo(f"{space} is fine: {checked.budget.trials} trials over {hyperparameters}")


@cli.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@runs_option
@json_option
def status(folder: Path | None, runs: Path, as_json: bool) -> None:
    """Show how the sweep in FOLDER stands; by default the latest one.

    \b
      sweep status
      sweep status runs/quickstart --json
    """
    from sweep.folder import begun, is_driven
    from sweep.results import report
    from sweep.results.confirmation_report import confirmation_text
    from sweep.results.external import external_data, external_text

    folder, view = begun(folder, runs)
    driven = is_driven(folder)
    if as_json:
        about = {**report.sweep_data(view, driven), "external": external_data(folder)}
        click.echo(json.dumps(about, indent=2, allow_nan=False))
        return
    click.echo(f"{view.header['name']} ({report.state(view, driven)})  {report.counts(view)}")
    for trial in view.running():
        last = trial.last
        at = f"{last['basis_points'] / 100:.0f} %, val loss {last['val_loss']:.4f}" if last else "-"
        click.echo(f"  {trial.name}  {at}")
    parts = [confirmation_text(view), report.leaderboard(view)]
    click.echo("\n\n".join(filter(None, parts)))
    if others := external_text(folder):
        click.echo(f"\n{others}")


@cli.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path))
@runs_option
@json_option
def best(folder: Path | None, runs: Path, as_json: bool) -> None:
    """Print the command that trains the best settings of a sweep again: confirmed, if it was.

    \b
      sweep best
      sweep best runs/quickstart --json
    """
    from sweep.folder import begun
    from sweep.results import report

    folder, view = begun(folder, runs)
    winner = report.winner(view)
    if winner is None:
        raise SweepError(f"{view.header['name']} has no complete trial yet", code=1)
    if as_json:
        trials = report.sweep_data(view, driven=False)["trials"]
        found_trial = next(trial for trial in trials if trial["trial"] == winner.name)
        found_trial["told"] = report.winner_line(view)
        found_trial["confirmed"] = report.sweep_data(view, driven=False)["confirmed"]
        click.echo(json.dumps(found_trial, indent=2, allow_nan=False))
        return
    click.echo(report.winner_line(view), err=True)
    click.echo(report.train_command(winner.settings))


@cli.command()
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@runs_option
def ui(port: int, host: str, runs: Path) -> None:
    """Open the MLflow server on the sweeps under --runs. Ctrl-C stops it.

    With $MLFLOW_TRACKING_URI set to a server, its address is printed instead.

    \b
      sweep ui --port 5001
    """
    from sweep.folder import latest
    from sweep.tracking.process import artifact_root, curves_path, store_uri

    uri = store_uri(runs)
    path = curves_path(latest(runs), uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLflow: {uri.rstrip('/')}{path}")
        return
    click.echo(f"Curves: http://{host}:{port}{path}\nCtrl-C stops the server.", err=True)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if artifact_root(runs, uri):
        command += ["--default-artifact-root", artifact_root(runs, uri)]
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.execv(sys.executable, command)


def _say_notes(space: Space) -> None:
    """What the file says in vain, so that nothing is dropped unseen."""
    for note in space.notes:
        click.echo(f"note: {note}", err=True)


def _same_command() -> str:
    return shlex.join(["sweep", *sys.argv[1:]])


def main() -> None:
    """Entry point: one message for what the user can mend, a traceback for what we must."""
    signal.signal(signal.SIGTERM, _stop)  # before there is anything to save
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except SweepError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.code)
    except (KeyboardInterrupt, click.Abort):
        click.echo(f"stopped; nothing is lost. Continue: {_same_command()}", err=True)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left early
        sys.exit(1)


def _stop(number: int, frame: object) -> None:
    sys.exit(128 + number)
