"""`sweep page`: trained networks that continue a prompt, in the browser or as a Space."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.cli.options import runs_option


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@click.option(
    "--top",
    type=click.IntRange(1),
    default=4,
    show_default=True,
    metavar="N",
    help="Of a run folder, so many of its best trials.",
)
@click.option("--title", metavar="TEXT", help="Of the page.  [default: what the sweep is called]")
@click.option("--port", type=click.IntRange(1, 65_535), default=7860, show_default=True)
@click.option(
    "--export",
    "folder",
    type=click.Path(path_type=Path),
    help="Write the page as a Hugging Face Space into this folder instead.",
)
@runs_option
def page(
    models: tuple[str, ...],
    top: int,
    title: str | None,
    port: int,
    folder: Path | None,
    runs: Path,
) -> None:
    """Show trained networks on a page: two continue the same prompt side by side. Ctrl-C stops it.

    MODEL is a run folder (its best trials), a trial, or a folder with a model; by default the
    latest run folder. The page answers on this machine alone and loads nothing from a network.

    \b
      sweep page runs/quickstart
      sweep page runs/quickstart --export space
    """
    from sweep.page.offered import offered

    if folder is not None:
        from sweep.page.export import export_space, size_text

        named, networks = offered(models, top, runs)
        written = export_space(title or named, networks, folder)
        click.echo(f"{folder}: {', '.join(its.name for its in networks)}. {size_text(written)}")
        click.echo(f"Try it: cd {folder}, pip install -r requirements.txt, python app.py", err=True)
        return

    from sweep.page.serve import need_gradio, need_port, serve

    need_gradio()
    need_port(port)
    named, networks = offered(models, top, runs)
    try:
        serve(title or named, networks, port, _ready)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)


def _ready(link: str) -> None:
    click.echo(f"Page: {link}\nCtrl-C stops it.", err=True)
