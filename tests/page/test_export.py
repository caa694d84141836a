"""A Space: all it needs is in its folder, and nothing else is ever overwritten."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from toy_network import network

from model.config import Config, ConfigError
from model.trained.generate import stream
from model.trained.sampling import Sampling
from model.training.trained import Trained
from sweep.errors import SweepError
from sweep.page.app import Offered, models_of
from sweep.page.export import GRADIO, NEEDED, export_space, requirements

ROOT = Path(__file__).parents[2]
OFFERED = [Offered(f"000{n}", lambda n=n: network(n), 1.25 + n, {"optim.lr": 0.1}) for n in (0, 1)]


@pytest.fixture
def space(tmp_path: Path) -> Path:
    export_space('the "cat" sat: a page', OFFERED, tmp_path / "space")
    return tmp_path / "space"


def test_a_space_has_the_networks_that_were_offered(space: Path) -> None:
    title, models = models_of(space)

    assert title == 'the "cat" sat: a page'
    assert [(its.name, its.val_loss, its.searched) for its in models] == [
        ("0000", 1.25, {"optim.lr": 0.1}),
        ("0001", 2.25, {"optim.lr": 0.1}),
    ]
    for ours, theirs in zip(OFFERED, models, strict=True):
        sampling = Sampling(tokens=20, seed=1)
        texts = ["".join(stream(its.open(), "ab", sampling)) for its in (ours, theirs)]
        assert texts[0] == texts[1]


def test_a_space_is_text_and_safetensors_without_pickle(space: Path) -> None:
    kinds = {path.suffix for path in space.rglob("*") if path.is_file()}

    assert kinds == {".md", ".txt", ".json", ".py", ".safetensors"}


def test_a_space_does_not_tell_where_the_files_of_a_run_were(tmp_path: Path) -> None:
    trained, secret = network(), "s3://zygmunt:secret@bucket/books?token=secret"
    places = {
        "data.path": "/home/zygmunt/thesis/books.txt",
        "data.reference": secret,
        "data.curriculum": "reference",
        "train.teacher": "/home/zygmunt/runs/big/ensemble.json",
    }
    config = Config.from_settings({**trained.config.settings(), **places})
    model = replace(trained, config=config)

    export_space("books", [Offered("0", lambda: model, 1.0, places)], tmp_path / "space")

    for path in (tmp_path / "space").rglob("*"):
        written = path.read_bytes() if path.is_file() else b""
        assert b"zygmunt" not in written, path
        assert b"secret" not in written, path
    settings = models_of(tmp_path / "space")[1][0].open().config.settings()
    assert settings["data.path"] == "books.txt"
    assert settings["data.reference"] == "s3://bucket/books"


def test_a_space_that_cannot_be_moved_into_place_leaves_the_one_before(
    space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "made":
            raise OSError("Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)

    with pytest.raises(SweepError, match="cannot write .*Input/output error"):
        export_space("another", OFFERED, space)

    assert models_of(space)[0] == 'the "cat" sat: a page'


def test_the_hub_can_read_what_a_space_says_of_itself(space: Path) -> None:
    _, front, _ = (space / "README.md").read_text().split("---\n", 2)
    said = yaml.safe_load(front)

    assert said["title"] == 'the "cat" sat: a page'
    assert (said["sdk"], said["sdk_version"], said["app_file"]) == ("gradio", GRADIO, "app.py")
    assert said["python_version"] == ".".join(map(str, sys.version_info[:2]))  # a string, not 3.1
    assert {"emoji", "colorFrom", "colorTo", "pinned"} <= set(said)


def test_the_code_of_a_space_imports_what_it_carries_or_requires(space: Path) -> None:
    lines = (space / "requirements.txt").read_text().splitlines()
    required = {re.split(r"[=<>]", line)[0] for line in lines}
    at_the_top = set()
    for path in space.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                at_the_top |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                at_the_top.add(node.module or "")
                beside = space / (node.module or "").replace(".", "/")
                if (node.module or "").startswith("model"):
                    assert beside.is_dir() or beside.with_suffix(".py").exists(), node.module

    others = {name.partition(".")[0] for name in at_the_top} - set(sys.stdlib_module_names)
    assert others - {"model", "tiktoken_ext"} <= required  # tiktoken brings tiktoken_ext


def test_a_space_asks_for_a_gradio_that_the_extra_allows() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (asked,) = extras["optional-dependencies"]["page"]
    low, below = re.fullmatch(r"gradio>=([\d.]+),<(\d+)", asked).groups()  # type: ignore[union-attr]

    assert GRADIO.startswith(low)
    assert int(GRADIO.partition(".")[0]) < int(below)
    assert {re.split(r"[<>]", line)[0] for line in requirements()[1:]} == set(NEEDED)


def test_a_space_is_written_again_over_itself(space: Path) -> None:
    (space / "model" / "__pycache__").mkdir()
    (space / "model" / "__pycache__" / "files.cpython-311.pyc").write_bytes(b"")

    export_space("another", OFFERED[:1], space)

    assert models_of(space)[0] == "another"
    assert not (space / "networks" / "1").exists()
    assert [path.name for path in space.parent.iterdir()] == ["space"]


@pytest.mark.parametrize(
    ("name", "message"),
    [("notes.txt", "holds what sweep did not write: notes.txt"), ("", "is no Space")],
)
def test_what_sweep_did_not_write_is_not_overwritten(
    name: str, message: str, space: Path, tmp_path: Path
) -> None:
    folder = space if name else tmp_path / "mine"
    folder.mkdir(exist_ok=True)
    (folder / (name or "thesis.tex")).write_text("mine")
    before = sorted(folder.rglob("*"))

    with pytest.raises(SweepError, match=message):
        export_space("another", OFFERED, folder)

    assert sorted(folder.rglob("*")) == before


def test_a_network_that_cannot_be_opened_leaves_the_space_as_it_was(space: Path) -> None:
    def gone() -> Trained:
        raise ConfigError(["its weights are gone"])

    with pytest.raises(SweepError, match="cannot be written\n  its weights are gone"):
        export_space("another", [*OFFERED, Offered("0002", gone)], space)

    assert models_of(space)[0] == 'the "cat" sat: a page'
    assert [path.name for path in space.parent.iterdir()] == ["space"]
