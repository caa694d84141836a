"""What docs/security.md promises: nothing that is read can run, and no name leaves its folder."""

from __future__ import annotations

import ast
import json
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from sweeps import make_space

from model.config import Config, ConfigError
from model.data.batches import open_table
from model.data.prepare import prepare
from model.training import checkpoint, log_probs
from model.training.release import CHECKPOINT, read_run
from model.training.train import train
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, LEDGER, RESOLVED, TRIALS
from sweep.journal import read_view
from sweep.session import read_ledger
from sweep.space.language import saved_space

ROOT = Path(__file__).parents[1]
# Calls that run, or build whatever, what a file says; allowed with this argument.
NEEDS = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
}
REFUSED = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pickle.load", "pickle.loads",
    "yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "joblib.load",
    "marshal.loads", "marshal.load", "shelve.open", "dill.load", "dill.loads", "cloudpickle.load",
    "cloudpickle.loads", "pandas.read_pickle", "pd.read_pickle", "torch.jit.load",
    "shutil.unpack_archive", "tarfile.open",
}  # fmt: skip


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("package", ["model", "sweep"])
def test_no_source_runs_what_it_reads(package: str) -> None:
    wrong = []
    for path in sorted((ROOT / package).rglob("*.py")):
        for name, call in calls(path):
            given = {word.arg: ast.unparse(word.value) for word in call.keywords}
            argument, value = NEEDS.get(name, ("", None))
            if name in REFUSED or (argument and given.get(argument) != str(value)):
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno} {name}")
            if given.get("shell") == "True":
                wrong.append(f"{path.relative_to(ROOT)}:{call.lineno} {name} by a shell")

    assert not wrong


class Bomb:
    """A pickle of it makes a file when it is opened."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that is never made."""
    path = tmp_path / "it ran"
    yield path
    assert not path.exists()


def test_a_pickle_in_the_place_of_any_file_is_refused_and_not_run(
    mark: Path, tmp_path: Path, small: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    bomb = pickle.dumps(Bomb(mark))
    config = Config.from_settings(small)
    run = tmp_path / "run"
    run.mkdir()
    for name in (CHECKPOINT, log_probs.NAME, LEDGER, RESOLVED, JOURNAL):
        (run / name).write_bytes(bomb)

    assert next(train(config, run)).checkpoint_lost  # it began again
    (run / CHECKPOINT).write_bytes(bomb)
    with pytest.raises(checkpoint.Damaged, match="is damaged"):
        checkpoint.restore(run)
    assert read_run(run) is None
    with pytest.raises(SweepError, match="not a database"):
        read_ledger(run / LEDGER)
    assert saved_space(run) is None
    with pytest.raises(SweepError, match="damaged"):
        read_view(run / JOURNAL)
    prepare(config.data).write_bytes(bomb)
    with pytest.raises(ConfigError, match="is damaged"):
        open_table(config.data)


def test_objects_in_arrays_and_tags_in_yaml_are_refused_and_not_made(
    mark: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([Bomb(mark)], dtype=object))
    with (
        np.load(tmp_path / "a.npz", allow_pickle=False) as arrays,
        pytest.raises(ValueError, match="allow_pickle"),
    ):
        arrays["a"]
    tag = f"!!python/object/apply:pathlib.Path.touch [{mark}]"
    for text in (f"name: {tag}", f"search: {{optim.lr: {tag}}}", tag):
        with pytest.raises(SweepError, match="YAML: could not determine a constructor"):
            make_space(tmp_path, text)
        (tmp_path / RESOLVED).write_text(text)
        assert saved_space(tmp_path) is None


def laughs(levels: int) -> str:
    lines = ["a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join([*lines, f"name: *a{levels - 1}"])


def merges(levels: int) -> str:
    lines = ["a0: &a0 {k: 1}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, levels)]
    return "\n".join([*lines, f"fixed: *a{levels - 1}"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (laughs(12), "has more than 100,000 values, those that aliases stand for counted"),
        (merges(12), "has more than 100,000 values, those that aliases stand for counted"),
        ("a: &a [*a]", "has more than 100,000 values, those that aliases stand for counted"),
        ("a: &a {b: *a}", "has more than 100,000 values, those that aliases stand for counted"),
        ("[" * 4000, "is nested too deeply"),
        (f"name: {'x' * (2 << 20)}", "is longer than 1,048,576 characters"),
    ],
    ids=["laughs", "merge keys", "list in itself", "map in itself", "nested", "long"],
)
def test_yaml_that_stands_for_too_much_is_one_message(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="problem") as caught:
        make_space(tmp_path, text)

    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    (tmp_path / RESOLVED).write_text(text)
    assert saved_space(tmp_path) is None


def test_a_yaml_without_bombs_may_use_aliases(tmp_path: Path) -> None:
    text = "search:\n  optim.lr: &lr {min: 1e-3, max: 1e-2, log: true}\n  optim.head_lr: *lr\n"

    assert len(make_space(tmp_path, text).hyperparameters) == 2


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, words)])


@pytest.mark.parametrize("name", ["../out", "..", "a/b", ".hidden", "", "a\0b"])
def test_a_trial_of_a_journal_whose_name_leaves_the_folder_is_no_trial(
    name: str, tmp_path: Path
) -> None:
    event = {"time": 1, "trial": name, "role": "search", "searched": {}, "settings": {}}
    lines = [{"event": "sweep", "time": 1, "name": "s"}, {"event": "trial", **event}]
    (tmp_path / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))

    for verb in ("status", "remove", "best"):
        error = invoke(verb, tmp_path).exception
        assert isinstance(error, SweepError)
        assert "is no name of a trial" in str(error)


@pytest.mark.parametrize("name", ["../out", "a/b", "/abs", ".hidden", "a b", "<b>"])
def test_a_sweep_whose_name_leaves_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    text = "search: {optim.lr: [0.1, 0.2]}"

    with pytest.raises(SweepError, match=r"name: use letters, digits, \. _ and -"):
        make_space(tmp_path, f"name: '{name}'\n{text}")
    (tmp_path / "space.yaml").write_text(text)
    words = ["--name", name, "--runs", tmp_path / "runs"]
    error = invoke("run", tmp_path / "space.yaml", *words).exception
    assert "use letters, digits" in str(error)
    assert not (tmp_path / "runs").exists()


def test_remove_follows_no_link_out_of_the_run_folder(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / CHECKPOINT).write_text("theirs")
    run = tmp_path / "run"
    (run / TRIALS).mkdir(parents=True)
    (run / TRIALS / "0000").symlink_to(other)
    event = {"time": 1, "trial": "0000", "role": "search", "searched": {}, "settings": {}}
    ended = {"time": 1, "trial": "0000", "outcome": "failed", "ending": "failed", "reason": ""}
    lines = [{"event": "sweep", "time": 1, "name": "s"}, {"event": "trial", **event}]
    lines += [{"event": "outcome", **ended}]
    (run / JOURNAL).write_text("".join(json.dumps(line) + "\n" for line in lines))

    error = invoke("remove", run, "--checkpoints", "--yes").exception
    assert "where a link leads" in str(error)
    assert invoke("remove", run, "--trial", "0000", "--yes").exit_code == 0

    assert (other / CHECKPOINT).read_text() == "theirs"
    assert not (run / TRIALS / "0000").is_symlink()


def test_a_secret_in_a_setting_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    search = "search: {optim.lr: [0.1, 0.2]}\nfixed: {data.path: 's3://AKIA:hidden@bucket/a'}"
    (tmp_path / "space.yaml").write_text(search)
    runs = tmp_path / "runs"

    for words in (
        ["run", tmp_path / "space.yaml", "--runs", runs],
        ["train", "--out", runs, "--set", "data.path=https://host/a?token=hidden"],
        ["data", "prepare", "s3://AKIA:hidden@bucket/a"],
    ):
        error = invoke(*words).exception
        assert isinstance(error, SweepError)
        assert "has a password or a key" in str(error)
        assert "hidden" not in str(error)
    assert not runs.exists()


def test_mlflow_is_shown_to_other_machines_only_by_a_word(tmp_path: Path) -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        error = invoke("ui", "--host", host, "--runs", tmp_path).exception
        assert isinstance(error, SweepError)
        assert "--expose" in str(error)
    for host in ("127.0.0.1", "localhost", "::1"):
        error = invoke("ui", "--host", host, "--runs", tmp_path).exception
        assert "no sweep under" in str(error)


def test_a_study_is_read_without_its_own_objects(tmp_path: Path, mark: Path) -> None:
    """Optuna keeps JSON; a blob in its place is text that is none."""
    database = sqlite3.connect(tmp_path / LEDGER)
    database.execute("CREATE TABLE studies (study_id, study_name)")
    database.execute("INSERT INTO studies VALUES (?, ?)", (1, pickle.dumps(Bomb(mark))))
    database.commit()
    database.close()

    with pytest.raises(SweepError):
        read_ledger(tmp_path / LEDGER)
