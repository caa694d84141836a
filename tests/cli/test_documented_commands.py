"""Commands as README.md and the pages of docs/ have them, executed on tiny runs."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from gpt2_files import write_gpt2

from sweep.cli.main import cli

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.xdist_group("trained runs")  # they take seconds to train
NETWORK = ("fineweb", "pip ", "optuna-dashboard", "python3", " gpt2 ")
# What `sweep train` does with settings is for other tests, and so is what trains on or goes on from
# runs of its own, or asks a cluster: test_shrink, test_laws, test_outside, test_ray_cluster.
ELSEWHERE = ("sweep train", "sweep laws", "sweep ask", "sweep tell", "sweep shrink")
ELSEWHERE += ("sweep cluster", "torchrun")
# Of the table of commands, those that need no more than a finished sweep.
READING = ("status", "best", "list", "efficiency", "report", "ensemble", "compare")
READING += ("settings", "presets", "schema")


def commands() -> list[tuple[str, str]]:
    """Every line of every block of shell commands, with its page; `run` becomes `check`."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = [
        (page.name, line.partition("  #")[0].strip())
        for page in pages
        for block in re.findall(r"^```sh\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
        for line in block.replace("\\\n", " ").splitlines()
    ]
    shown = [(page, line) for page, line in lines if not any(word in line for word in NETWORK)]
    checked = [(page, re.sub("^sweep run", "sweep check", line)) for page, line in shown]
    return [(page, line) for page, line in checked if not line.startswith(ELSEWHERE)]


@pytest.fixture
def home(tmp_path: Path, trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader of the pages stands: the files that they name, and a sweep that is over."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained_runs, tmp_path / "runs")
    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    words = " ".join(f"{number} times ten is {10 * number}." for number in range(20_000))
    (tmp_path / "book.txt").write_text(
        "\n\n".join(words[at : at + 2000] for at in range(0, len(words), 2000))
    )
    (tmp_path / "corpus").mkdir()
    for number in range(40):
        (tmp_path / "corpus" / f"{number}.txt").write_text(words[number * 997 :][:8000])
    write_gpt2(tmp_path / "FOLDER", n_positions=256)
    return tmp_path


def test_the_blocks_of_the_pages_are_found() -> None:
    assert {page for page, _ in commands()} >= {"README.md", "data.md", "report.md"}
    assert len(commands()) > 6


def test_what_the_pages_tell_to_type_can_be_typed(home: Path) -> None:
    """In one folder, in their order: later lines of a page may need what earlier ones made."""
    for page, line in commands():
        done = CliRunner().invoke(cli, _words(line), catch_exceptions=True)

        assert done.exit_code == 0, f"{page}: {line}\n{done.output}\n{done.exception}"


@pytest.mark.parametrize("verb", READING)
def test_reading_commands_do_without_arguments(home: Path, verb: str) -> None:
    words = ["0000", "0001"] if verb == "compare" else []

    done = CliRunner().invoke(cli, [verb, *words])

    assert done.exit_code == 0, f"{done.output}\n{done.exception}"
    assert f"`sweep {verb}" in (ROOT / "README.md").read_text()


def _words(line: str) -> list[str]:
    """A command's arguments; `check` takes no name for the run folder."""
    words = shlex.split(line)[1:]
    if words[0] == "check" and "--name" in words:
        at = words.index("--name")
        del words[at : at + 2]
    return words
