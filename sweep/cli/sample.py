"""`sweep sample`: text from a trained network, while it is written."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from model.config import ConfigError
from model.trained.sampling import MOST_SEED, Sampling
from sweep.cli.options import json_option, print_json, runs_option
from sweep.errors import SweepError
from sweep.format import count_text

if TYPE_CHECKING:
    from sweep.models import Named

BETWEEN = "-" * 15  # samples, as nanoGPT has it
MOST_SAMPLES = 1000
STDIN = "-"


@click.command()
@click.argument("model", required=False)
@click.option("--prompt", metavar="TEXT", help="What the text begins with.  [default: nothing]")
@click.option("--prompt-file", metavar="FILE", help="The same from a file; - is stdin.")
@click.option(
    "--num",
    type=click.IntRange(1, MOST_SAMPLES),
    default=1,
    show_default=True,
    metavar="N",
    help="Texts, one after another.",
)
@click.option(
    "--tokens",
    type=int,
    default=Sampling.tokens,
    show_default=True,
    metavar="N",
    help="Tokens of each at most; fewer where the network ends the document.",
)
@click.option(
    "--temperature",
    type=float,
    default=Sampling.temperature,
    show_default=True,
    metavar="T",
    help="Below 1 the likely tokens become likelier; 0 always takes the likeliest.",
)
@click.option(
    "--top-k",
    type=int,
    default=Sampling.top_k,
    show_default=True,
    metavar="K",
    help="Draw from the K likeliest tokens; 0: from all.",
)
@click.option(
    "--seed",
    type=int,
    default=Sampling.seed,
    show_default=True,
    metavar="N",
    help="Of the first text; each other has the next. The same seed writes the same text.",
)
@runs_option
@json_option
def sample(
    model: str | None,
    prompt: str | None,
    prompt_file: str | None,
    num: int,
    tokens: int,
    temperature: float,
    top_k: int,
    seed: int,
    runs: Path,
    as_json: bool,
) -> None:
    """Write text with the network MODEL, which continues a prompt. Ctrl-C stops.

    MODEL is a trial (0012 of the latest sweep, or RUN/0012), a run folder (its best trial; by
    default the latest), its ensemble.json, a folder of sweep train, or any other folder with a
    model. Text goes to stdout, the rest to stderr.

    \b
      sweep sample --prompt "def "
      sweep sample runs/quickstart --num 3 --tokens 500 --temperature 0.7
      sweep sample runs/quickstart/ensemble.json --prompt-file begin.txt > text.txt
    """
    samplings = _samplings(num, tokens, temperature, top_k, seed)
    begin = _prompt(prompt, prompt_file)

    from sweep.folder import latest
    from sweep.models import named

    its = named(model or str(latest(runs)), runs)
    click.echo(_heading(its), err=True)
    try:
        if as_json:
            print_json(_as_data(its, begin, samplings))
        else:
            _write(its, begin, samplings)
    except ConfigError as error:
        raise SweepError("no text was written", error.problems) from None
    except KeyboardInterrupt:
        click.echo("\nstopped", err=True)
        sys.exit(128 + signal.SIGINT)


def _samplings(num: int, tokens: int, temperature: float, top_k: int, seed: int) -> list[Sampling]:
    """One for each text. Raises SweepError with every option that is out of bounds."""
    try:
        first = Sampling(tokens=tokens, temperature=temperature, top_k=top_k, seed=seed)
    except ConfigError as error:
        problems = [f"--{problem.replace('top_k', 'top-k', 1)}" for problem in error.problems]
        raise SweepError("no text was written", problems) from None
    return [replace(first, seed=(seed + number) % (MOST_SEED + 1)) for number in range(num)]


def _prompt(prompt: str | None, file: str | None) -> str:
    """What the user wants continued. Raises SweepError if that cannot be read."""
    if prompt is not None and file is not None:
        raise SweepError("--prompt and --prompt-file exclude each other")
    if file is None:
        return prompt or ""
    try:
        read = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return read.decode()
    except OSError as error:
        raise SweepError(f"cannot read the prompt in {file}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise SweepError(
            f"the prompt in {file} is not UTF-8 (byte {error.start:,} is no text)",
            hint="iconv -f latin1 -t utf-8 makes it so, if it is Latin-1.",
        ) from None


def _write(its: Named, prompt: str, samplings: list[Sampling]) -> None:
    """Print each text as it comes, its prompt before it."""
    from model.trained.generate import stream

    for number, sampling in enumerate(samplings):
        pieces = stream(its.trained, prompt, sampling)
        click.echo((f"\n{BETWEEN}\n" if number else "") + prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)  # which flushes
    click.echo()


def _as_data(its: Named, prompt: str, samplings: list[Sampling]) -> dict[str, Any]:
    from model.trained.generate import stream

    samples = []
    for sampling in samplings:
        began = time.perf_counter()
        text = "".join(stream(its.trained, prompt, sampling))
        seconds = time.perf_counter() - began
        samples.append({"seed": sampling.seed, "text": text, "seconds": seconds})
    first = samplings[0]
    return {
        "model": its.name,
        "folder": str(its.folder),
        "parameters": its.parameters,
        "val_loss": its.val_loss,
        "prompt": prompt,
        "tokens": first.tokens,
        "temperature": first.temperature,
        "top_k": first.top_k,
        "samples": samples,
    }


def _heading(its: Named) -> str:
    """Which network it is, how large and what it is worth."""
    loss = "" if its.val_loss is None else f", val loss {its.val_loss:.4f}"
    return f"{its.name}: {count_text(its.parameters)} parameters{loss}"
