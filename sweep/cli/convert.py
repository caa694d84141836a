"""`sweep convert`: a trained network as Hugging Face keeps GPT-2."""

from __future__ import annotations

from pathlib import Path

import click

from model.config import ConfigError
from sweep.cli.options import runs_option
from sweep.errors import SweepError


@click.command()
@click.argument("model")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@runs_option
def convert(model: str, folder: Path, runs: Path) -> None:
    """Write MODEL into FOLDER as GPT-2 in Hugging Face's layout, which transformers reads.

    MODEL is what `sweep sample` takes. Only GPT-2's architecture has a place there: LayerNorm,
    learned positions, plain attention and one of its MLPs (presets gpt2-124m, nanogpt-char).
    Anything else is refused with each setting that stands in the way.

    \b
      sweep convert runs/train/3f2a... gpt2-of-mine
      sweep convert out/ckpt.pt gpt2-of-mine
    """
    from model.training.weights import write_weights
    from sweep.models import named

    its = named(model, runs)
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SweepError(f"{folder} is there already", hint="Name another folder.")
    try:
        files = write_weights(its.trained, folder)
    except ConfigError as error:
        raise SweepError(f"{model} is no GPT-2", error.problems) from None
    except OSError as error:
        raise SweepError(f"cannot write {folder}: {error.strerror or error}") from None
    click.echo(f"wrote {', '.join(files)} into {folder}", err=True)
    if "vocab.json" not in files:
        click.echo(
            f"its tokens ({its.trained.tokenizer.name}) are none that transformers has a tokenizer "
            "for; sweep_tokenizer.json says what each stands for, and sweep reads it",
            err=True,
        )
