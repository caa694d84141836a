"""A run whose checkpoint is damaged loses what was trained since the one before, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from model.config.config import Config
from model.data.batches import open_table
from model.progress import Progress
from model.training import checkpoint
from model.training.release import BEFORE, CHECKPOINT, release
from model.training.train import train


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


def started(config: Config, folder: Path, evaluations: int) -> list[Progress]:
    """Train so far and be killed."""
    steps = train(config, folder)
    history = [next(steps) for _ in range(evaluations)]
    steps.close()
    return history


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def timeless(history: list[Progress]) -> list[Progress]:
    return [replace(its, seconds=0.0, checkpoint_lost="") for its in history]


@pytest.mark.parametrize("damage", [truncate, empty, flip])
def test_a_run_whose_checkpoint_is_damaged_goes_on_from_the_one_before(
    damage: Callable[[Path], None], small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings(small)
    whole = list(train(config, tmp_path / "whole"))
    started(config, tmp_path / "run", 3)
    damage(tmp_path / "run" / CHECKPOINT)

    history = list(train(config, tmp_path / "run"))

    assert timeless(history) == timeless(whole)
    said = [its.checkpoint_lost for its in history]
    assert said[:2] == ["", ""]
    assert "is damaged" in said[2]
    assert said[2].endswith("it went on from the one before, at 50%")
    assert said[3] == ""


@pytest.mark.parametrize("members", [1, 2])
def test_a_run_without_a_whole_checkpoint_begins_again(
    members: int, small: dict[str, object], tmp_path: Path
) -> None:
    """Members that are ahead would be mixed with what the others predict later."""
    config = Config.from_settings({**small, "train.members": members})
    whole = list(train(config, tmp_path / "whole"))
    started(config, tmp_path / "run", 3)
    empty(tmp_path / "run" / CHECKPOINT)
    empty(tmp_path / "run" / BEFORE)

    history = list(train(config, tmp_path / "run"))

    assert timeless(history) == timeless(whole)
    assert history[0].checkpoint_lost.endswith("it began again")


def test_a_member_whose_checkpoint_is_damaged_comes_after_the_others(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "train.members": 2})
    whole = list(train(config, tmp_path / "whole"))
    started(config, tmp_path / "run", 3)
    empty(tmp_path / "run" / "member-2" / CHECKPOINT)

    history = list(train(config, tmp_path / "run"))

    assert timeless(history) == timeless(whole)
    said = [its.checkpoint_lost for its in history]
    assert said[:3] == ["", "", ""]
    assert "member-2" in said[3]
    assert said[3].endswith("it went on from the one before, at 50%")


def test_what_a_member_lost_is_said_once(small: dict[str, object], tmp_path: Path) -> None:
    config = Config.from_settings({**small, "train.members": 2})
    started(config, tmp_path / "run", 2)
    empty(tmp_path / "run" / "member-2" / CHECKPOINT)
    started(config, tmp_path / "run", 3)

    history = list(train(config, tmp_path / "run"))

    assert [bool(its.checkpoint_lost) for its in history] == [False, False, True, False]


@pytest.mark.parametrize("members", [1, 2])
def test_the_checkpoint_before_stays_only_while_a_run_goes_on(
    members: int, small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "train.members": members})
    started(config, tmp_path / "stopped", 2)
    assert (tmp_path / "stopped" / BEFORE).exists()
    before = size(tmp_path / "stopped")

    given_back = release(tmp_path / "stopped")
    list(train(config, tmp_path / "ended"))

    assert not list(tmp_path.rglob(BEFORE))
    assert given_back == before - size(tmp_path / "stopped")
    one = "." if members == 1 else "member-1"
    assert checkpoint.restore(tmp_path / "stopped" / one)["gpt"]


def test_a_run_goes_on_where_its_corpus_has_moved(
    small: dict[str, object], corpus: Path, tmp_path: Path
) -> None:
    pinned = {**small, "data.digest": open_table(Config.from_settings(small).data).digest}
    started(Config.from_settings(pinned), tmp_path / "run", 2)
    moved = Config.from_settings({**pinned, "data.path": str(corpus.rename(tmp_path / "there"))})

    assert len(list(train(moved, tmp_path / "run"))) == 4
