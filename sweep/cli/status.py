"""`sweep status`: how a sweep stands."""

from __future__ import annotations

import time
from pathlib import Path

import click

from sweep.cli.options import folder_argument, json_option, print_json, runs_option


@click.command()
@folder_argument
@runs_option
@json_option
def status(folder: Path | None, runs: Path, as_json: bool) -> None:
    """Show how the sweep in FOLDER stands; by default the latest one.

    \b
      sweep status
      sweep status runs/quickstart --json
    """
    from sweep.folder import begun, is_driven
    from sweep.format import terminal_width
    from sweep.results import report
    from sweep.results.confirmation_report import confirmation_text
    from sweep.results.edges import edges_data, edges_text
    from sweep.results.external import external_data, external_text
    from sweep.results.settling import settling_text
    from sweep.results.time_left import speed_text, time_left_text

    folder, view = begun(folder, runs)
    driven = is_driven(folder)
    if as_json:
        beside = {"edges": edges_data(view, folder), "external": external_data(folder)}
        print_json({**report.sweep_data(view, driven), **beside})
        return
    click.echo(f"{view.header['name']} ({report.state(view, driven)})  {report.counts(view)}")
    if text := report.text_read(view):
        click.echo(text)
    if driven:
        left = [time_left_text(view, time.time_ns() // 1_000_000), speed_text(view)]
        click.echo(", ".join(filter(None, left)))
    for trial in view.running():
        last = trial.last
        at = f"{last['basis_points'] / 100:.0f} %, val loss {last['val_loss']:.4f}" if last else "-"
        click.echo(f"  {trial.name}  {at}")
    parts = [confirmation_text(view), report.leaderboard(view, terminal_width())]
    parts += [settling_text(view), edges_text(view, folder)]
    click.echo("\n\n".join(filter(None, parts)))
    if others := external_text(folder):
        click.echo(f"\n{others}")
