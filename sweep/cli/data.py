"""The command line of token tables: prepare one, look at one, look for duplicates in one."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from model.config import ALL, SETTINGS, VOCABULARIES, ConfigError, DataConfig
from sweep.cli.options import print_json
from sweep.errors import SweepError

if TYPE_CHECKING:
    from model.data.table import TokenTable

NAMED = {"fineweb": "hf://datasets/HuggingFaceFW/fineweb/sample/10BT"}
# What NanoGPT Slowrun takes of it; a test split of our own follows
FINEWEB = {
    "data.tokenizer": "gpt2",
    "data.splits": "stream",
    "data.train_tokens": "100M",
    "data.val_tokens": "10M",
    "data.test_tokens": "10M",
}
OPTIONS = ("train-tokens", "val-tokens", "test-tokens", "tokenizer", "vocabulary", "splits")


def data_options(command: Callable[..., None]) -> Callable[..., None]:
    """SOURCE and the settings that decide what a table holds."""
    for name in (*OPTIONS, "column"):
        setting = SETTINGS[f"data.{name.replace('-', '_')}"]
        shown = setting.bounds if setting.choices else setting.unit or "NAME"
        command = click.option(f"--{name}", metavar=shown, help=f"{setting.meaning}.")(command)
    json_option = click.option("--json", "as_json", is_flag=True, help="Print data, not text.")
    return click.argument("source", default="")(json_option(command))


@click.group()
def data() -> None:
    """Prepare text, or tokens that others prepared, as a table that runs can share.

    \b
      sweep data prepare book.txt --tokenizer gpt2
      sweep data prepare fineweb --train-tokens 100M --val-tokens 10M
      sweep data info book.txt --tokenizer gpt2
    """


@data.command()
@data_options
def prepare(source: str, as_json: bool, **options: str | None) -> None:
    """Make the token table of SOURCE, if it is not there yet, and say how to use it.

    SOURCE is a text or Parquet file, a folder of them, tokens of nanoGPT, llm.c, Slowrun or Hugging
    Face datasets, a URI (hf://datasets/OWNER/NAME/FOLDER, https, s3, ...) of Parquet files, or
    `fineweb`. Interrupted, it leaves nothing; the same command starts again.

    \b
      sweep data prepare corpus/ --tokenizer bpe --vocabulary 8192
      sweep data prepare fineweb --train-tokens 100M --val-tokens 10M
    """
    from model.data.batches import open_table
    from model.data.prepare import prepare as prepare_table

    settings = _settings(source, options)
    config = _config(settings)
    try:
        with Bar(config) as bar:
            path = prepare_table(config, bar.show)
        table = open_table(config)
    except ConfigError as error:
        raise SweepError("the data cannot be used", error.problems) from None
    _print(table, path, settings, as_json)


@data.command()
@data_options
def info(source: str, as_json: bool, **options: str | None) -> None:
    """Show the token table of SOURCE, or SOURCE itself if it is one, and check its digest.

    \b
      sweep data info book.txt --tokenizer gpt2
      sweep data info tokens.arrow --json
    """
    table, path, settings = _open(source, options)
    _print(table, path, settings, as_json)


@data.command()
@data_options
@click.option("--near", type=click.FloatRange(0.1, 1), help="Alike by this share of 5-grams, too.")
def duplicates(source: str, as_json: bool, near: float | None, **options: str | None) -> None:
    """Look for training text in the held-out splits of a token table.

    Always: the share of val's passages of 64 tokens that are also in train. With --near: documents
    that are alike, by MinHash.

    \b
      sweep data duplicates book.txt --tokenizer gpt2 --near 0.8
    """
    from model.data.overlap import near_duplicates, share_of_val_in_train
    from model.data.table import SPLITS

    table, _, _ = _open(source, options)
    looked_for: dict[str, Any] = {
        "recorded": table.recorded.get("duplicates", {}),
        "val_passages_in_train": share_of_val_in_train(table.train, table.val),
        "test_passages_in_train": share_of_val_in_train(table.train, table.test),
    }
    if near is not None:
        splits = {name: getattr(table, name) for name in SPLITS}
        try:
            pairs = near_duplicates(splits, table.documents, near)
        except ConfigError as error:
            raise SweepError("near duplicates cannot be looked for", error.problems) from None
        looked_for["near"] = [pair._asdict() for pair in pairs]
    if as_json:
        print_json(looked_for)
    else:
        click.echo(describe_duplicates(looked_for))


@data.command()
@click.argument("run", type=click.Path(path_type=Path))
@data_options
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="losses.npy")
def score(run: Path, source: str, as_json: bool, out: Path, **options: str | None) -> None:
    """Let the run trained in folder RUN say how hard each training document of SOURCE is.

    \b
      sweep data score runs/train/a1b2 book.txt --tokenizer gpt2 --out losses.npy
      sweep train --set data.curriculum=reference --set data.reference=losses.npy
    """
    import numpy as np

    from model.training.document_losses import document_losses

    table, _, _ = _open(source, options)
    try:
        losses_N = document_losses(run, table)
        with out.open("wb") as file:
            np.save(file, losses_N)
    except ConfigError as error:
        raise SweepError("the documents cannot be scored", error.problems) from None
    except OSError as error:
        raise SweepError(f"cannot write {out}: {error.strerror}") from None
    summary = {"documents": len(losses_N), "mean": float(losses_N.mean()), "out": str(out)}
    if as_json:
        print_json(summary)
    else:
        click.echo(f"{out}: {len(losses_N):,} documents, {losses_N.mean():.3f} nats per token")


def _settings(source: str, options: Mapping[str, str | None]) -> dict[str, str]:
    """The command line's options as settings; values are text as typed."""
    settings = dict(FINEWEB) if source == "fineweb" else {}
    settings |= {f"data.{key}": value for key, value in options.items() if value is not None}
    settings["data.path"] = NAMED.get(source, source)
    if settings.get("data.train_tokens") == ALL:  # which is what is made without it
        del settings["data.train_tokens"]
    if settings.get("data.splits") == "stream" and "data.train_tokens" in settings:
        settings["data.pool_tokens"] = settings["data.train_tokens"]
    return settings


def _config(settings: Mapping[str, str]) -> DataConfig:
    values, problems = {}, []
    for name, text in settings.items():
        try:
            values[name.partition(".")[2]] = SETTINGS[name].check(text)
        except ConfigError as error:
            problems.append(f"{name}: {error}")
    config = DataConfig(**values) if not problems else DataConfig()  # type: ignore[arg-type]
    problems += config.problems()
    if problems:
        raise SweepError("these settings cannot be prepared", problems)
    if "data.train_tokens" not in settings:
        return DataConfig(**{**values, "train_tokens": 2})  # type: ignore[arg-type]
    return config


def _open(
    source: str, options: Mapping[str, str | None]
) -> tuple[TokenTable, Path, dict[str, str]]:
    """A table that exists, every token checked."""
    from model.data.batches import open_table
    from model.data.prepare import is_table, table_path
    from model.data.table import read_table

    settings = _settings(source, options)
    try:
        if is_table(source):
            table = read_table(Path(source).expanduser())
            settings |= {f"data.{n}_tokens": str(len(getattr(table, n))) for n in ("val", "test")}
            settings = {**_tokenizer(table), **settings}
        config = _config(settings)
        path = table_path(config)
        if not path.exists():
            raise SweepError(
                f"{source or 'the embedded corpus'} is not prepared with these settings",
                hint="`sweep data prepare` takes the same arguments.",
            )
        return open_table(config, verify=True), path, settings
    except ConfigError as error:
        raise SweepError("the data cannot be used", error.problems) from None


def _tokenizer(table: TokenTable) -> dict[str, str]:
    """The settings that stand for the tokenizer of `table`, if there are any."""
    name = table.recorded["tokenizer"]["name"]
    settings = {"data.tokenizer": name} if name in VOCABULARIES else {}
    return {**settings, "data.vocabulary": str(table.vocabulary)} if name == "bpe" else settings


def _print(table: TokenTable, path: Path, settings: Mapping[str, str], as_json: bool) -> None:
    with_digest = {"data.train_tokens": str(len(table.train)), **settings}
    with_digest = {"data.path": settings["data.path"], **with_digest, "data.digest": table.digest}
    if as_json:
        everything = {"table": str(path), "settings": with_digest, **table.recorded}
        print_json(everything)
    else:
        click.echo(describe_table(path, table.recorded, with_digest))


SHOWN_EVERY = 0.2  # seconds


class Bar:
    """A progress bar on a terminal: of the tokens asked for, else of the text there is."""

    def __init__(self, config: DataConfig) -> None:
        from model.data.corpus import text_bytes

        pool = config.pool_tokens
        self.of_tokens = bool(pool)
        asked = pool + config.val_tokens + config.text_test_tokens
        self.bar = click.progressbar(
            length=asked if pool else max(1, text_bytes(config)),
            label="tokens" if pool else "text",
            file=sys.stderr,
            show_pos=True,
            hidden=not sys.stderr.isatty(),
        )
        self.done, self.shown = 0, time.monotonic()

    def __enter__(self) -> Bar:
        self.bar.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.finish()
        self.bar.__exit__(None, None, None)

    def show(self, characters: int, tokens: int) -> None:
        """Draw the bar, at most five times a second; what was done is counted from the start."""
        now = time.monotonic()
        if now - self.shown >= SHOWN_EVERY:
            at = tokens if self.of_tokens else characters
            self.bar.update(at - self.done)
            self.done, self.shown = at, now


NOTHING_SEALED = (
    "there is no test split, so nothing is sealed: what a search chose by is all it can report; "
    "data.test_tokens sets some aside"
)
TEXTS = ("data.path", "data.column", "data.digest")  # settings that may look like numbers


def describe_table(path: Path, recorded: Mapping[str, Any], settings: Mapping[str, str]) -> str:
    """The record of the table at `path`, and the settings that lead to the table."""
    commit = f" at commit {recorded['commit']}" if recorded["commit"] else ""
    imported = f", tokens of {recorded['imported']}" if "imported" in recorded else ""
    coded = recorded["tokenizer"]
    unsure = imported and coded["name"] != "meta.pkl"
    by_whom = "; data.tokenizer says so, the files do not tell" if unsure else ""
    first, last = recorded["choose"]
    lines = [
        f"{path}  {path.stat().st_size / 1e6:,.1f} MB",
        f"source      {recorded['source']}{commit}{imported}",
        f"tokenizer   {coded['name']}, {coded['vocabulary']:,} tokens, {coded['digest'][:16]}"
        f"{by_whom}",
        f"splits      {recorded['rule']}",
    ]
    for name, tokens in recorded["tokens"].items():
        size, documents = recorded["text_bytes"][name], recorded["documents"][name]
        per_token = f"{size / tokens:.3f} bytes each" if tokens else ""
        lines.append(
            f"{name:<12}{tokens:>15,} tokens {documents:>10,} documents  {per_token:<18}"
            f"{recorded['digests'][name][:16]}"
        )
    if not recorded["tokens"]["test"]:
        lines.append(f"sealed      {NOTHING_SEALED}")
    lines.append(f"choose      val[{first:,}:{last:,}], to choose ensemble members on")
    for name, count in recorded.get("duplicates", {}).items():
        lines.append(f"duplicates  {name}: {count:,} documents")
    if "val_passages_in_train" in recorded:
        lines.append(
            f"overlap     {recorded['val_passages_in_train']:.2%} of val's passages in train"
        )
    lines += ["in a space, or each with --set:", "fixed:"]
    return "\n".join([*lines, *(f"  {_line(*setting)}" for setting in settings.items())])


def describe_splits(table: TokenTable) -> str:
    """The sizes of the splits in a line, and what it means if none is for testing."""
    sizes = [f"{name} {table.recorded['tokens'][name]:,}" for name in ("train", "val", "test")]
    text = f"tokens: {', '.join(sizes)}"
    return text if len(table.test) else f"{text}; {NOTHING_SEALED}"


def _line(name: str, text: str) -> str:
    """A setting as a line of YAML: quoted where that would read something else."""
    line = f"{name}: {text}"
    try:
        read = yaml.safe_load(line)
    except yaml.YAMLError:
        read = None
    as_typed = read == {name: text} or (text.isdecimal() and name not in TEXTS)
    return line if as_typed else f"{name}: {json.dumps(text, ensure_ascii=False)}"


def describe_duplicates(looked_for: Mapping[str, Any]) -> str:
    """Duplicates that preparing recorded, and those that this command looked for."""
    lines = [
        f"exact duplicates, {name}: {count:,} documents"
        for name, count in looked_for["recorded"].items()
    ]
    for split in ("val", "test"):
        share = looked_for[f"{split}_passages_in_train"]
        lines.append(f"{split}: {share:.2%} of its passages of 64 tokens are also in train")
    for pair in looked_for.get("near", ()):
        lines.append(
            f"{pair['split']} document {pair['document']} and train's {pair['train_document']}: "
            f"{pair['similarity']:.2f} alike"
        )
    if looked_for.get("near") == []:
        lines.append("no held-out document is so like one of train")
    return "\n".join(lines)
