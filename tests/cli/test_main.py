"""The command as a user types it; in a process of its own where that is the point."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from mlflow_server import wait_until

from model.files import cache_folder
from sweep.cli.main import cli, main

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def sweep(*arguments: object) -> Done:
    """The entry point with these words, in this process: starting Python and torch takes longer."""
    out, err = io.StringIO(), io.StringIO()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["sweep", *map(str, arguments)])
        try:
            with pytest.raises(SystemExit) as ended:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_a_bad_space_gives_one_message_and_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("search:\n  optim.lrr: [1]\n  train.epochs: [none]\n")

    done = subprocess.run(
        [sys.executable, "-m", "sweep", "run", path, "--runs", tmp_path / "runs"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert "has 2 problems" in done.stderr
    assert "line 2: optim.lrr: no such setting; did you mean optim.lr?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_model_py_where_one_stands_is_not_taken_for_our_package(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("raise RuntimeError('the user has this')")

    done = subprocess.run(
        [sys.executable, "-m", "sweep", "check", ROOT / "search_spaces" / "quickstart.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--set", "optim.lrr=1"], "did you mean optim.lr?"),
        (["train", "--set", "data.path=nowhere.txt"], "no such file or folder: nowhere.txt"),
        (["train", "--preset", "cpu-tny"], "cpu-tny: no such preset; did you mean cpu-tiny?"),
        (["train", "--gpus", "many"], "--gpus: expected a number such as 8, or auto, got 'many'"),
        (["train", "--preset", "cpu-tiny", "--set", "gpt.width=10"], "must be a multiple of 4"),
        (["status", "nowhere"], "is no run folder"),
        (["settings", "optimm"], "did you mean optim?"),
        (["settings", "reference.lr"], "reference.lr: is called baseline.lr now"),
        (["check", "nowhere.yaml"], "No such file"),
        (
            ["run", "search_spaces/quickstart.yaml", "--set", "data.path=nowhere"],
            "no such file or folder",
        ),
    ],
)
def test_bad_input_gives_one_message_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    done = sweep(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_without_a_value_trains_nothing(tmp_path: Path) -> None:
    """The embedded corpus is what data.path "" means, which nobody asked for."""
    words = ["--set", "data.path", "--set", "optim.lrr=1", "--set", "budget.trials=2"]

    done = sweep("train", "--preset", "cpu-tny", *words, "--out", tmp_path / "run")

    assert done.returncode == 2
    assert done.stderr.splitlines()[1:5] == [
        "  cpu-tny: no such preset; did you mean cpu-tiny?",
        "  --set data.path: expected KEY=VALUE",
        "  --set optim.lrr=1: no such setting; did you mean optim.lr?",
        "  --set budget.trials=2: cannot be set here",
    ]
    assert not (tmp_path / "run").exists()


def test_settings_lists_every_setting_with_unit_default_and_bounds() -> None:
    from model.config.config import SETTINGS
    from sweep.space.settings import SWEEP_SETTINGS

    listed = json.loads(sweep("settings", "--json").stdout)

    assert {s["name"] for s in listed} == {*SETTINGS, *SWEEP_SETTINGS}
    assert all({"unit", "default", "bounds", "meaning"} <= s.keys() for s in listed)


def test_training_stops_and_goes_on_in_its_folder(small: dict[str, object], tmp_path: Path) -> None:
    sets = [word for item in small.items() for word in ("--set", "=".join(map(str, item)))]

    first, second = (sweep("train", *sets, "--out", tmp_path / "run") for _ in range(2))

    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    assert "100.0 %" in first.stdout


def test_training_begins_with_a_preset_and_says_what_comes_of_it(
    small: dict[str, object], tmp_path: Path
) -> None:
    small |= {"gpt.layers": 3, "gpt.scale": 2, "optim.decay_timescale": 4, "train.ema_epochs": 1}
    sets = [word for item in small.items() for word in ("--set", "=".join(map(str, item)))]

    done = sweep("train", "--preset", "cpu-tiny", *sets, "--out", tmp_path / "run")

    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[0] == f"training in {tmp_path / 'run'}"
    network = re.fullmatch(r"(\d) layers, width (\d+), . heads: .*K parameters, .*K .*", said[1])
    assert network
    assert int(network[1]) * int(network[2]) ** 2 > 1.5 * 3 * 16**2
    assert re.fullmatch(r"gpt.scale 2 asks for .*K in blocks: [+-]\d\.\d % off", said[2])
    assert said[3] == "16 steps of 256 tokens in 2 epochs of 2.049K"
    assert re.fullmatch(r"weight decay .* times 0.1: a timescale of 4 epochs .*", said[4])
    assert re.fullmatch(r"tokens: train [\d,]+, val 1,025, test 1,025", said[5])
    groups = {line.split("  ")[0]: line.split()[-2:] for line in said[7:]}
    assert groups["embedding"] == ["0.008", f"{0.008 / (0.02 * 8 * 4):.3g}"]
    assert groups["head_gates"] == ["0.008", "0"]
    table = [line.split("  ") for line in done.stdout.splitlines()]
    assert [cell.strip() for cell in table[0] if cell][-3:] == ["raw", "ema", "seconds"]
    assert len(table) == 1 + 4


def test_settings_given_replace_those_of_the_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    trained = []
    monkeypatch.setattr("sweep.cli.train._train", lambda config, *rest: trained.append(config))
    given = ["--set", "gpt.layers=8", "--set", "optim.decay_timescale=0.5"]

    cli(["train", "--preset", "slowrun-tiny", *given], standalone_mode=False)

    (config,) = trained
    assert (config.gpt.layers, config.gpt.width, config.train.epochs) == (8, 1024, 15)
    assert config.optim.decay_timescale == 0.5


def test_presets_are_listed_with_their_size_and_source() -> None:
    from model.config.presets import PRESETS

    lines = sweep("presets").stdout.splitlines()
    listed = {about["name"]: about for about in json.loads(sweep("presets", "--json").stdout)}

    assert [line.split()[0] for line in lines[1:]] == list(listed) == list(PRESETS)
    assert re.search(r"slowrun-tiny +316.8M +16 x 1024 +15 x 100M .*#99", "\n".join(lines))
    assert listed["gpt2-124m"]["parameters"] == 124_337_664
    assert listed["slowrun-tiny"]["settings"]["optim.lr"] == 0.032


@pytest.mark.parametrize("decay", ["optim.decay_timescale", "optim.weight_decay_multiplier"])
def test_the_command_that_best_prints_trains_the_same_again(decay: str, tmp_path: Path) -> None:
    """The two ways to say decay follow from each other: printing both could contradict."""
    from sweeps import make_space

    from model.config.config import Config
    from sweep.results.report import train_command

    text = f"preset: slowrun-tiny\nsearch: {{train.epochs: [8, 16], {decay}: [0.31, 2.7]}}"
    settings = {**make_space(tmp_path, text).fixed, "train.epochs": 16, decay: 0.31}
    command = shlex.split(train_command(json.loads(json.dumps(settings))).replace("\\\n", ""))

    again = dict(word.split("=", 1) for word in command if "=" in word)

    assert len(again.keys() & {"optim.decay_timescale", "optim.weight_decay_multiplier"}) == 1
    assert Config.from_settings(again) == Config.from_settings(settings)


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    command = cli.commands[name]

    assert command.help is not None
    first_line = command.help.splitlines()[0]
    assert re.fullmatch(r"[A-Z][^.]*\.( .*)?", first_line)
    assert f"sweep {name}" in command.help
    assert f"`sweep {name}" in (ROOT / "README.md").read_text()


def test_help_lists_every_command_under_a_heading_with_its_whole_sentence() -> None:
    text = sweep("--help").stdout

    commands = text.partition("A search:")[2]
    listed = re.findall(r"^  ([a-z]+)  ", commands, re.MULTILINE)
    assert sorted(listed) == sorted(cli.commands)
    assert "..." not in commands
    words = " ".join(commands.split())
    assert "Run the sweep described by SPACE, or continue it if it has already begun" in words


def test_the_version_is_told() -> None:
    from importlib.metadata import version

    assert sweep("--version").stdout.split()[-1] == version("sweep")


def test_settings_are_found_by_a_word_in_their_name_or_meaning() -> None:
    listed = [s["name"] for s in json.loads(sweep("settings", "lr", "--json").stdout)]
    meant = [s["name"] for s in json.loads(sweep("settings", "autocast", "--json").stdout)]

    assert listed[:2] == ["optim.lr", "optim.rest_lr"]
    assert "baseline.lr" in listed
    assert "optim.weight_decay_multiplier" in listed[-2:]
    assert meant == ["train.precision"]


@pytest.mark.parametrize("width", [80, 110])
def test_every_setting_fits_a_terminal(width: int) -> None:
    from model.config.config import SETTINGS
    from sweep.cli.settings import lines_of
    from sweep.space.settings import SWEEP_SETTINGS

    for setting in {**SETTINGS, **SWEEP_SETTINGS}.values():
        lines = lines_of(setting, width)
        assert max(map(len, lines)) <= width
        assert lines[0].startswith(f"{setting.name} = ")
        assert setting.meaning in " ".join(line.strip() for line in lines)


def test_a_machine_without_git_can_run_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    from sweep.run.manifest import environment

    monkeypatch.setenv("PATH", "")

    assert environment()["commit"] is None


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
    state = Path(f"/proc/{run.pid}/stat")
    with (tmp_path / "space.yaml").open("wb"):  # returns once the command has opened it to read
        # A signal just before a read begins does not end that read, in Python as in C.
        wait_until(lambda: ") S " in state.read_text(), "the command to read")
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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gc", "--max-gb", "nan"], "expected a finite number, got nan"),
        (["gc", "--max-gb", "inf"], "expected a finite number, got inf"),
        (["reproduce", "--noise", "nan"], "expected a finite number, got nan"),
        (["cluster", "check", "--set", "train.epochs=2"], "--set fixes settings of SPACE"),
    ],
)
def test_an_option_that_means_nothing_is_refused_before_anything_is_done(
    words: list[str], said: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(cli, [*words, "--runs", str(tmp_path / "runs")])

    assert said in f"{done.output}{done.exception}"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("raised", "said", "code"),
    [
        (OSError(errno.EROFS, "Read-only file system", "runs/a.part"), "cannot use runs/a.part", 2),
        (OSError(errno.ENOSPC, "No space left on device", "b"), "cannot use b: No space left", 2),
        (OSError(errno.ENAMETOOLONG, "File name too long", "aaa"), "cannot use aaa: File name", 2),
        (OSError(errno.EINVAL, "Invalid argument", "c"), "Traceback", 1),
        (RuntimeError("it holds hf_0123456789"), "RuntimeError: it holds ***", 1),
    ],
)
def test_what_a_place_refuses_is_one_message_and_a_bug_a_traceback_without_secrets(
    raised: Exception,
    said: str,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(**words: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as ended:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)

    message = capsys.readouterr().err
    assert said in message
    assert ("Traceback" in message) == (code == 1)
    assert "hf_0123456789" not in message
    assert ended.value.code == code


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    for name in ("SWEEP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(OSError, match="set SWEEP_CACHE"):
        cache_folder()
