"""The command as a user types it, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.cli import cli

ROOT = Path(__file__).parents[1]


def sweep(*arguments: object, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sweep", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_bad_space_gives_one_message_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("search:\n  optim.lrr: [1]\n  train.epochs: [none]\n")

    done = sweep("run", path, "--runs", tmp_path / "runs")

    assert done.returncode == 2
    assert "has 2 problems" in done.stderr
    assert "line 2: optim.lrr: no such setting; did you mean optim.lr?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--set", "optim.lrr=1"], "did you mean optim.lr?"),
        (["train", "--set", "data.path=nowhere.txt"], "nothing at nowhere.txt"),
        (["status", "nowhere"], "is no run folder"),
        (["settings", "optimm"], "did you mean optim?"),
        (["check", "nowhere.yaml"], "No such file"),
        (["run", "search_spaces/quickstart.yaml", "--set", "data.path=nowhere"], "nothing at"),
    ],
)
def test_bad_input_gives_one_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = sweep(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_lists_every_setting_with_unit_default_and_bounds() -> None:
    from model.config import SETTINGS
    from sweep.space import SWEEP_SETTINGS

    listed = json.loads(sweep("settings", "--json").stdout)

    assert {s["name"] for s in listed} == {*SETTINGS, *SWEEP_SETTINGS}
    assert all({"unit", "default", "bounds", "meaning"} <= s.keys() for s in listed)


def test_training_stops_and_goes_on_in_its_folder(small: dict[str, object], tmp_path: Path) -> None:
    sets = [word for item in small.items() for word in ("--set", "=".join(map(str, item)))]

    first, second = (sweep("train", *sets, "--out", tmp_path / "run") for _ in range(2))

    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "100.0 %" in first.stdout


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    command = cli.commands[name]

    assert command.help is not None
    first_line = command.help.splitlines()[0]
    assert re.fullmatch(r"[A-Z][^.]*\.( .*)?", first_line)
    assert f"sweep {name}" in command.help
    assert f"`sweep {name}" in (ROOT / "README.md").read_text()


def test_a_machine_without_git_can_run_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.run import _environment

    monkeypatch.setenv("PATH", "")

    assert _environment()["commit"] is None


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_stopped_at_any_moment_says_so_by_its_exit_code(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    """Here while it reads a corpus that never comes: a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "space.yaml")
    run = subprocess.Popen(
        [sys.executable, "-m", "sweep", "check", tmp_path / "space.yaml"],
        stderr=subprocess.PIPE,
    )
    with (tmp_path / "space.yaml").open("wb"):  # returns once the command has opened it to read
        run.send_signal(number)
        run.communicate()

    assert run.returncode == code


def test_a_reader_that_leaves_early_is_no_error() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "sweep", "settings"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()

    assert listing.stderr.read() == b""
    listing.stderr.close()
    listing.wait()


def test_training_whose_reader_leaves_early_is_not_called_impossible(
    small: dict[str, object], tmp_path: Path
) -> None:
    sets = [word for item in small.items() for word in ("--set", "=".join(map(str, item)))]
    training = subprocess.Popen(
        [sys.executable, "-m", "sweep", "train", *sets, "--out", tmp_path / "run"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert training.stdout is not None
    assert training.stderr is not None
    training.stdout.close()

    assert b"Error" not in training.stderr.read()
    training.stderr.close()
    assert training.wait() == 1
