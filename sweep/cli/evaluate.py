"""`sweep evaluate`: what a text costs a network that is trained already."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from model.config import SETTINGS, VOCABULARIES, Config, ConfigError, DataConfig
from sweep.cli.options import json_option, print_json, runs_option, set_option
from sweep.errors import SweepError
from sweep.space import read_overrides


@click.command()
@click.argument("model")
@click.argument("source", default="")
@click.option(
    "--split",
    type=click.Choice(["all", "val", "train"]),
    help="All of a text, or what training would hold out of it, or read.  [default: all]",
)
@set_option
@runs_option
@json_option
def evaluate(
    model: str,
    source: str,
    split: str | None,
    overrides: tuple[str, ...],
    runs: Path,
    as_json: bool,
) -> None:
    """Say what each token of SOURCE costs MODEL; nothing is trained.

    MODEL is what `sweep sample` takes. SOURCE is a text or Parquet file, a folder of them, or
    tokens that others prepared; without it the validation split of MODEL's own data is read.

    \b
      sweep evaluate gpt2 book.txt
      sweep evaluate runs/quickstart
      sweep evaluate out/ckpt.pt data/shakespeare_char --split val --set data.val_tokens=111540
    """
    from model.pretrained import is_weights, published
    from model.trained.text_loss import text_loss
    from sweep.models import named

    its = named(model, runs)
    if not source and (published(model) or is_weights(its.folder)):
        raise SweepError("a text to evaluate on has to be named: sweep evaluate MODEL SOURCE")
    split = split or ("all" if source else "val")
    try:
        data = _data(its.trained.config, source, its.trained.tokenizer.name, overrides)
        held = text_loss(its.trained, data, split)
    except ConfigError as error:
        raise SweepError(f"{model} cannot be evaluated", error.problems) from None
    loss, error_ = held.evaluation.loss, held.evaluation.standard_error
    numbers: dict[str, Any] = {
        "model": its.name,
        "source": data.path,
        "split": split,
        "tokens": held.tokens,
        "documents": held.documents,
        "loss": loss,
        "loss_error": error_,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_byte": held.evaluation.bits_per_byte,
    }
    if as_json:
        print_json(numbers)
        return
    apart = f" +- {error_:.4f}" if math.isfinite(error_) else ""
    unknown = "" if apart else "; too little text to say how sure that is"
    click.echo(
        f"{its.name} on {data.path or 'the embedded corpus'} ({split}): {held.tokens:,} tokens in "
        f"{held.documents:,} document{'s' * (held.documents != 1)}\n"
        f"loss {loss:.4f}{apart} nats per token{' (s.e.)' * bool(apart)}, perplexity "
        f"{numbers['perplexity']:.2f}, {numbers['bits_per_byte']:.4f} bits per byte{unknown}"
    )


def _data(config: Config, source: str, tokenizer: str, overrides: tuple[str, ...]) -> DataConfig:
    """The data of `source`, or of `config`, with what is set instead."""
    if source:
        values: dict[str, object] = {"data.path": source, "data.train_tokens": 2}
        if tokenizer in VOCABULARIES:
            values["data.tokenizer"] = tokenizer
        if tokenizer == "bpe":
            values["data.vocabulary"] = config.data.vocabulary
    else:
        settings = config.settings()
        values = {name: value for name, value in settings.items() if name.startswith("data.")}
    names = {name: setting for name, setting in SETTINGS.items() if name.startswith("data.")}
    chosen, problems = read_overrides(overrides, names)
    if problems:
        raise ConfigError(problems)
    checked: dict[str, Any] = {}
    for name, value in {**values, **dict(chosen)}.items():
        try:
            checked[name.partition(".")[2]] = SETTINGS[name].check(value)
        except ConfigError as error:
            problems.append(f"{name}: {error}")
    if problems or (problems := DataConfig(**checked).problems()):
        raise ConfigError(problems)
    return DataConfig(**checked)
