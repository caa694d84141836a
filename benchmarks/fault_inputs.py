"""Broken files and words through the command line, in this process: each gets a message, no more.

Nothing is trained: commands that read are what takes them.
"""

from __future__ import annotations

import csv
import io
import json
import random
import re
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from click.testing import CliRunner

from model.config import SETTINGS
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.space import SWEEP_SETTINGS

ROOT = Path(__file__).parents[1]
DOCUMENTED = (0, 1, 2, 3, 4, 5, 6)  # exit codes: docs/internals.md
SECONDS = 60  # for one command, before it counts as hanging
NASTY = (
    "nan", ".inf", "-.inf", "-1", "0", "1e400", "1e-400", "99999999999999999999", "0x10", "0o17",
    "1_000", "1,000", "32k", "1T", "2026-11-22", "12:30:45", "~", "null", "true", "no", "''",
    "[]", "{}", "[[1]]", "{a: {b: 1}}", "{min: 2, max: 1}", "{min: 0, max: 1, log: true}",
    "{values: []}", "[1, 1]", "[1, x]", "&a [*a]", "*a", "!!python/object:os.system {}",
    "!!binary aGk=", "<<: {a: 1}", "? x", "- x", "| x", "> x", "%YAML 9.9", "---", "...",
    "\x00", "\x07", "\ud7ff", "\U0001f4a3", "../../etc/passwd", "~root", "file:///", "s3://x/y",
    "http://127.0.0.1:9/x", "x" * 5000, "{" * 60, "[" * 60, "a: b: c", "when", "\t", "#", "@", "`",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One command with broken input, and what went wrong; nothing if `wrong` is empty."""

    kind: str
    words: tuple[str, ...]
    code: int
    wrong: str


class Inputs:
    """Makes cases in `folder`; `run` is a run folder whose sweep has ended."""

    def __init__(self, folder: Path, run: Path) -> None:
        self._folder, self._run, self._draw = folder, run, random.Random()
        spaces = sorted((ROOT / "search_spaces").glob("*.yaml"))
        self._spaces = [path.read_text() for path in spaces]
        self._names = [*SETTINGS, *SWEEP_SETTINGS]
        self.kinds: dict[str, Callable[[], Case]] = {
            "spaces": self.space,
            "overrides": self.override,
            "journals": self.journal,
            "imports": self.imported,
            "data": self.data,
        }

    def case(self, kind: str, seed: str) -> Case:
        """The same for the same seed."""
        self._draw = random.Random(seed)
        return self.kinds[kind]()

    def space(self) -> Case:
        """A space with some of its words, lines or indents changed."""
        text = self._draw.choice(self._spaces)
        for _ in range(self._draw.randint(1, 4)):
            text = self._broken_text(text)
        path = self._folder / "space.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        words = self._draw.choice((["check"], ["plan", "--rate", "1T"]))
        return command("spaces", [words[0], str(path), *words[1:]])

    def override(self) -> Case:
        """Settings of a sound space with values of every kind."""
        words = []
        for _ in range(self._draw.randint(1, 3)):
            name = self._draw.choice(self._names)
            if self._draw.random() < 0.1:
                name = self._broken_text(name)
            value = self._value().replace("\0", "")  # no argument can have that
            words += ["--set", f"{name}={value}".replace("\0", "")]
        return command("overrides", ["check", str(ROOT / "search_spaces/quickstart.yaml"), *words])

    def journal(self) -> Case:
        """A run folder whose journal has flipped bits, a cut, or lines elsewhere."""
        run = self._folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self._run, run, ignore=lambda *_: ["trials"])
        path = run / "journal.jsonl"
        path.write_bytes(self._broken_journal(path.read_bytes()))
        commands = (
            ["status", "--json"],
            ["status"],
            ["best", "--json"],
            ["efficiency"],
            ["laws"],
            ["report", "--markdown"],
            ["doctor"],
            ["doctor", "--repair"],
            ["reproduce", "--check"],
        )
        words = self._draw.choice(commands)
        return command("journals", [words[0], str(run), *words[1:]])

    def imported(self) -> Case:
        """Runs of others, in a table that is not quite one."""
        run = self._folder / "into"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self._run, run, ignore=lambda *_: ["trials"])
        text, suffix = self._draw.choice((self._table, self._history))()
        for _ in range(self._draw.randint(0, 3)):
            text = self._broken_text(text)
        path = self._folder / f"export{suffix}"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        words = ["import", str(path), "--into", str(run)]
        words += self._draw.choice(([], ["--loss", "val_loss"], ["--params", "lr,x"]))
        return command("imports", words)

    def data(self) -> Case:
        """A file of text or tokens of some format, damaged."""
        make = self._draw.choice((self._text, self._parquet, self._tokens, self._noise))
        content, suffix = make()
        if self._draw.random() < 0.7:
            content = self._flipped(content)
        if self._draw.random() < 0.3:
            content = content[: self._draw.randint(0, len(content))]
        folder = self._folder / "data"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        path = (
            folder / f"corpus{self._draw.choice((suffix, suffix, suffix, '.txt', '.bin', '.pt'))}"
        )
        path.write_bytes(content)
        words = ["data", self._draw.choice(("prepare", "prepare", "info")), str(path)]
        return command("data", [*words, "--val_tokens", "64", "--test_tokens", "0"])

    def _value(self) -> str:
        draw = self._draw
        choices = (
            lambda: draw.choice(NASTY),
            lambda: str(draw.randint(-3, 10**9)),
            lambda: repr(draw.uniform(-2, 2) * 10 ** draw.randint(-12, 12)),
            lambda: ",".join(str(draw.randint(0, 9)) for _ in range(draw.randint(1, 4))),
        )
        return draw.choice(choices)()

    def _broken_text(self, text: str) -> str:
        draw, lines = self._draw, text.split("\n")
        at = draw.randrange(len(lines))
        ways: tuple[Callable[[], str], ...] = (
            lambda: "\n".join(lines[:at] + lines[at + 1 :]),
            lambda: "\n".join([*lines[:at], lines[at], *lines[at:]]),
            lambda: "\n".join(
                [*lines[:at], " " * draw.randint(1, 9) + lines[at], *lines[at + 1 :]]
            ),
            lambda: "\n".join([*lines[:at], lines[at].lstrip(), *lines[at + 1 :]]),
            lambda: "\n".join([*lines[:at], self._other_value(lines[at]), *lines[at + 1 :]]),
            lambda: "\n".join([*lines[:at], self._other_value(lines[at]), *lines[at + 1 :]]),
            lambda: "\n".join([*lines[:at], self._other_word(lines[at]), *lines[at + 1 :]]),
            lambda: self._with_letter(text),
            lambda: text[: draw.randint(0, len(text))],
        )
        return draw.choice(ways)()

    def _other_value(self, line: str) -> str:
        """The line with what follows a colon, a comma or an equals sign replaced."""
        parts = re.split(r"([:=,]\s*)", line)
        if len(parts) < 3:
            return line + self._value()
        at = self._draw.randrange(2, len(parts), 2)
        return "".join([*parts[:at], self._value(), *parts[at + 1 :]])

    def _other_word(self, line: str) -> str:
        """The line with a name in place of one of its words."""
        words = re.findall(r"[\w.]+", line)
        return (
            line.replace(self._draw.choice(words), self._draw.choice(self._names))
            if words
            else line
        )

    def _with_letter(self, text: str) -> str:
        at = self._draw.randint(0, len(text))
        letter = chr(self._draw.choice((self._draw.randrange(0x250), self._draw.randrange(32))))
        return text[:at] + letter + text[at + self._draw.randint(0, 1) :]

    def _flipped(self, content: bytes) -> bytes:
        its = bytearray(content)
        for _ in range(self._draw.randint(1, 6)):
            if its:
                its[self._draw.randrange(len(its))] ^= 1 << self._draw.randrange(8)
        return bytes(its)

    def _broken_journal(self, content: bytes) -> bytes:
        draw, lines = self._draw, content.splitlines(keepends=True)
        a, b = draw.randrange(len(lines)), draw.randrange(len(lines))
        way = draw.randrange(6)
        if way == 0:
            return self._flipped(content)
        if way == 1:
            return content[: draw.randint(0, len(content))]
        if way == 2:
            lines[a], lines[b] = lines[b], lines[a]
        elif way == 3:
            lines.insert(a, lines[b])
        elif way == 4:
            del lines[a : a + draw.randint(1, 3)]
        else:
            event = json.loads(lines[a])
            self._change(event)
            lines[a] = json.dumps(event).encode() + b"\n"
        return b"".join(lines)

    def _change(self, event: dict[str, Any]) -> None:
        """Another value for a key, at any depth, or the key gone."""
        key = self._draw.choice([*event])
        if isinstance(event[key], dict) and event[key] and self._draw.random() < 0.5:
            self._change(event[key])
        elif self._draw.random() < 0.2:
            del event[key]
        else:
            values = (None, "", "x", -1, 0, 1e300, True, [], {}, [1], {"a": 1}, "0000", 10**400)
            event[key] = self._draw.choice(values)

    def _table(self) -> tuple[str, str]:
        rows = [["Name", "State", "lr", "epochs", "val_loss", "Created"]]
        for number in range(self._draw.randint(1, 5)):
            values = [
                f"run{number}",
                "finished",
                "0.01",
                "4",
                f"{3 + number / 9:.3f}",
                "2026-01-01",
            ]
            rows.append([v if self._draw.random() < 0.8 else self._value() for v in values])
        out = io.StringIO()
        csv.writer(out).writerows(rows)
        return out.getvalue(), ".csv"

    def _history(self) -> tuple[str, str]:
        rows: list[dict[str, Any]] = [
            {"run": f"r{step % 2}", "_step": step, "val_loss": 4 - step / 9, "lr": 0.1}
            for step in range(self._draw.randint(1, 8))
        ]
        for row in rows:
            if self._draw.random() < 0.3:
                self._change(row)
        if self._draw.random() < 0.5:
            return "\n".join(json.dumps(row) for row in rows), ".jsonl"
        return json.dumps(rows), ".json"

    def _text(self) -> tuple[bytes, str]:
        lines = (f"line {self._draw.random()} of a text" for _ in range(self._draw.randint(1, 80)))
        return "\n".join(lines).encode(), ".txt"

    def _parquet(self) -> tuple[bytes, str]:
        out = pa.BufferOutputStream()
        text = [f"document {n} " * 20 for n in range(self._draw.randint(1, 9))]
        name = self._draw.choice(("text", "content", "tokens"))
        pq.write_table(pa.table({name: text}), out)
        return out.getvalue().to_pybytes(), ".parquet"

    def _tokens(self) -> tuple[bytes, str]:
        """As llm.c and nanoGPT keep them: a heading or none, then two bytes a token."""
        heading = np.zeros(256, "<i4")
        heading[:3] = 20240520, 1, self._draw.choice((500, 5, -1, 2**30))
        tokens = np.random.default_rng(self._draw.randrange(99)).integers(0, 300, 500)
        with_heading = self._draw.random() < 0.5
        return (heading.tobytes() if with_heading else b"") + tokens.astype("<u2").tobytes(), ".bin"

    def _noise(self) -> tuple[bytes, str]:
        return self._draw.randbytes(self._draw.randint(0, 5000)), self._draw.choice(
            (".gz", ".arrow")
        )


class TooSlow(BaseException):
    """A command takes longer than SECONDS; no handler of its own catches it."""


def command(kind: str, words: Sequence[str]) -> Case:
    """Give `words` to the command line. Wrong is a traceback, a strange exit code, or too long."""
    with _limited(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            done = CliRunner().invoke(cli, [*words], standalone_mode=False)
            error = done.exception
        except TooSlow:
            return Case(kind, tuple(words), -1, f"more than {SECONDS} s")
    if error is None:
        code = done.exit_code
    elif isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else -1
    elif isinstance(error, SweepError):
        code = error.code
    elif isinstance(error, click.ClickException):
        code = error.exit_code
    else:
        told = traceback.format_exception(error)[-3:]
        return Case(kind, tuple(words), 1, " ".join("".join(told).split())[-400:])
    return Case(kind, tuple(words), code, "" if code in DOCUMENTED else f"exit code {code}")


@contextmanager
def _limited():  # type: ignore[no-untyped-def]
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
