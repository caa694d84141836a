"""`sweep sample`: text from a trained network, as it writes it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from model.config import ConfigError
from model.trained.sampling import Sampling
from sweep.cli.options import runs_option
from sweep.errors import SweepError

if TYPE_CHECKING:
    from sweep.models import Named


@click.command()
@click.argument("model")
@click.option("--prompt", default="", metavar="TEXT", help="What the text begins with.")
@click.option("--tokens", type=int, default=Sampling.tokens, show_default=True, metavar="N")
@click.option("--temperature", type=float, default=Sampling.temperature, show_default=True)
@click.option("--top-k", type=int, default=Sampling.top_k, show_default=True, metavar="K")
@click.option("--seed", type=int, default=Sampling.seed, show_default=True, metavar="N")
@runs_option
def sample(
    model: str,
    prompt: str,
    tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    runs: Path,
) -> None:
    """Write text with a trained network.

    \b
      sweep sample runs/quickstart --prompt "def "
    """
    try:
        sampling = Sampling(tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    except ConfigError as error:
        raise SweepError("nothing was sampled", error.problems) from None

    from model.trained.generate import stream
    from sweep.models import named

    its = named(model, runs)
    click.echo(_heading(its), err=True)
    try:
        for piece in stream(its.trained, prompt, sampling):
            click.echo(piece, nl=False)
    except ConfigError as error:
        raise SweepError("nothing was sampled", error.problems) from None
    click.echo()


def _heading(its: Named) -> str:
    """Which network it is and what it is worth."""
    loss = "" if its.val_loss is None else f", val loss {its.val_loss:.4f}"
    return f"{its.name}{loss}"
