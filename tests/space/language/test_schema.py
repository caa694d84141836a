"""What editors are told about space files, against what the reader says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from sweeps import WANDB_FILE

from model.config.config import SETTINGS
from model.config.presets import PRESETS
from sweep.space.language.schema import space_schema
from sweep.space.language.template import starter
from sweep.space.settings import SWEEP_SETTINGS

SPACES = sorted((Path(__file__).parents[3] / "search_spaces").glob("*.yaml"))
SCHEMA = space_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def complaints(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))]


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_it_holds_for_every_space_that_is_shipped(path: Path) -> None:
    assert not complaints(path.read_text())


@pytest.mark.parametrize("preset", ["", *PRESETS])
def test_it_holds_for_what_init_writes(preset: str) -> None:
    assert not complaints(starter("space.yaml", "space", preset))


def test_it_holds_for_a_file_of_wandb() -> None:
    assert not complaints(WANDB_FILE)


@pytest.mark.parametrize(
    "text",
    [
        "search: {optim.lr: {min: 1e-4, max: 1e-2, log: true}}",
        "search: {optim.name: [lion], optim.lr: [{when: {optim.name: lion}, value: 1e-3}]}",
        "search: {optim.lr: [1e-3, 1e-2]}\nfixed: {gpt.mtp: no, train.compile: yes}",
        "search: {train.epochs: [1, 2]}\nconstraints: gpt.parameters <= 1.5B\nrepeat: 2",
        "search: {gpt.width: {min: 32, max: 64, step: 32}}\npoints: [{gpt.width: 64}]",
        "search: {optim.lr: [1]}\nbaseline: {table: {100M: 3.7, 200M: [3.5, 3.4]}}\nname: 5",
        "parameters: {optim.lr: [1], data.path: {distribution: constant, value: ''}}",
        "parameters: {optim.lr: [1]}\nmetric: {name: val_loss, target: 3}",
        "search: {optim.lr: {min: 1e-3, max: 0.1, log: true, prior: {at: 0.02, within: 4x}}}",
        "search: {optim.name: {values: [adamw, muon], prior: {at: muon}}}",
        "search: {optim.decay_points: [['0:1', '1:2'], '0:1']}\nfixed: {data.train_tokens: 100M}",
    ],
)
def test_it_holds_for_what_the_reader_takes(text: str, tmp_path: Path) -> None:
    from sweeps import make_space

    assert make_space(tmp_path, text)
    assert not complaints(text)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "serch: {optim.lr: [1]}",
        "search: {optim.lrr: [1]}",
        "search: {optim.lr: 3}",
        "search: {optim.lr: {min: 1}}",
        "search: {optim.lr: {min: 1e-3, max: 0.1, prior: 0.02}}",
        "search: {optim.lr: {min: 1e-3, max: 0.1, prior: {at: 0.02}}}",
        "search: {optim.lr: {min: 1e-3, max: 0.1, prior: {at: 0.02, within: 4x, sd: 1}}}",
        "search: {optim.name: {values: [adamw, muon], prior: {at: muon, within: 2x}}}",
        "search: {optim.lr: {min: 1, max: 2, wen: {optim.name: muon}}}",
        "search: {optim.lr: {min: 1, max: 2, distribution: normal}}",
        "search: {optim.lr: [-1]}",
        "search: {optim.name: [adam]}",
        "search: {optim.name: {min: 1, max: 2}}",
        "search: {train.epochs: [1.5]}",
        "search: {gpt.width: {min: 32, max: 64}}",
        "search: {data.path: [a, b]}",
        "search: {optim.lr: [1]}\nfixed: {train.epochs: []}",
        "search: {optim.lr: [1]}\nbudget: {trial: 3}",
        "search: {optim.lr: [1]}\nconstraints: [gpt.size <= 3]",
        "search: {optim.lr: [1]}\nrepeat: {times: 3}",
        "search: {optim.lr: [1]}\npreset: slowrun",
        "parameters: {optim.lr: {values: [1]}}\nmetric: {name: accuracy}",
        "parameters: {optim: {parameters: {lrr: {values: [1]}}}}",
    ],
)
def test_it_refuses_what_the_reader_refuses(text: str, tmp_path: Path) -> None:
    from sweeps import problems

    assert problems(tmp_path, text)
    assert complaints(text)


def test_every_setting_is_in_it_with_its_meaning_and_default() -> None:
    defs: Any = SCHEMA["$defs"]
    for name, about in SETTINGS.items():
        assert about.meaning in defs[name]["description"]
        assert defs[name]["default"] == (
            list(about.default) if isinstance(about.default, tuple) else about.default
        )
    for name in SWEEP_SETTINGS:
        part, _, key = name.partition(".")
        assert key in SCHEMA["properties"][part]["properties"]


def test_references_need_no_escaping() -> None:
    """Some editors take them as they stand."""
    assert all(re.fullmatch(r"[\w.]+", name) for name in SCHEMA["$defs"])
