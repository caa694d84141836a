"""A space written as a file, and read back from what a run folder keeps of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from fakes import SPACE
from sweeps import make_space

from sweep.folder import RESOLVED
from sweep.space.language import read_space, saved_space
from sweep.space.language.saved import space_text
from sweep.space.space import Space

SHIPPED = sorted((Path(__file__).parents[3] / "search_spaces").glob("*.yaml"))
MUCH = """
name: much
search:
  optim.name: [adamw, muon, soap]
  optim.lr:
    - {when: {optim.name: [adamw, soap]}, min: 1e-5, max: 1e-2, log: true,
       prior: {at: 0.003, within: 4x}}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1}
  gpt.dropout: {min: 0, max: 0.3, step: 0.1}
  gpt.mtp: ["no", offsets]
  train.epochs: [1, 2, 4]
points:
  - {train.epochs: 4, optim.name: soap}
constraints: [gpt.parameters <= 2M]
repeat: {seeds: 2}
budget: {trials: 7, hours: 2}
prune: {rule: asha, peers: [data.train_tokens, train.epochs]}
baseline: {multiples: [1, 2], seeds: 2}
"""


def written(space: Space, folder: Path) -> Space:
    path = folder / "written.yaml"
    path.write_text(space_text(space))
    return read_space(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_space_is_the_same_once_written_and_read(path: Path, tmp_path: Path) -> None:
    assert written(read_space(path), tmp_path) == read_space(path)


def test_conditions_priors_points_and_changed_sections_are_written(tmp_path: Path) -> None:
    space = make_space(tmp_path, MUCH)

    assert written(space, tmp_path) == space


def test_a_preset_holds_where_no_alternative_does_and_is_written_so(tmp_path: Path) -> None:
    alternatives = """
preset: cpu-tiny
search:
  optim.name: [muon, adamw]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-4, max: 1e-2, log: true}
"""
    space = make_space(tmp_path, alternatives)

    assert space.fixed["optim.lr"] == 0.02
    assert written(space, tmp_path) == space


def test_a_run_folder_tells_its_space(tmp_path: Path) -> None:
    space = make_space(tmp_path, MUCH, "train.batch_tokens=512")
    kept = {**space.resolved(), "trainer": "0123"}
    (tmp_path / RESOLVED).write_text(yaml.safe_dump(kept, sort_keys=False))

    assert saved_space(tmp_path) == space


def test_the_space_of_an_older_version_is_read_without_the_keys_it_no_longer_has(
    tmp_path: Path,
) -> None:
    space = make_space(tmp_path, SPACE)
    kept = space.resolved()
    kept["reference"] = kept.pop("baseline") | {"gone": 1}
    (tmp_path / RESOLVED).write_text(yaml.safe_dump(kept, sort_keys=False))

    assert saved_space(tmp_path) == replace(space, notes=())


@pytest.mark.parametrize("text", ["", "search: [", "name: a\nsearch: {no.such: {values: [1]}}\n"])
def test_a_damaged_definition_tells_no_space(text: str, tmp_path: Path) -> None:
    (tmp_path / RESOLVED).write_text(text)

    assert saved_space(tmp_path) is None
