"""What a run keeps on the disk once it never goes on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from model.config.config import Config
from model.config.cost import trial_cost
from model.config.setting import ConfigError
from model.training import checkpoint, export
from model.training.release import BEFORE, CHECKPOINT, releasable, release
from model.training.train import train


def started(config: Config, folder: Path, evaluations: int) -> None:
    """Train so far and stop, as one whom a pruner stops."""
    steps = train(config, folder)
    for _ in range(evaluations):
        next(steps)
    steps.close()


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    gpt: dict[str, torch.Tensor] = checkpoint.restore(folder)["gpt"]
    return gpt


def test_a_run_that_ended_keeps_its_weights_and_no_optimizer_state(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "train.ema_epochs": 1, "train.evaluate": "ema"})
    started(config, tmp_path / "run", 3)
    before = (tmp_path / "run" / CHECKPOINT).stat().st_size

    history = list(train(config, tmp_path / "run"))
    export.save(tmp_path / "run", tmp_path / "trained")

    assert checkpoint.restore(tmp_path / "run")["optimizers"] is None
    assert (tmp_path / "run" / CHECKPOINT).stat().st_size < 0.6 * before
    assert [asdict(its) for its in train(config, tmp_path / "run")] == [*map(asdict, history)]
    assert export.load(tmp_path / "trained").config == config
    assert release(tmp_path / "run") == 0


def test_a_run_that_was_stopped_for_good_gives_up_what_it_took_to_go_on(
    small: dict[str, object], tmp_path: Path
) -> None:
    config, folder = Config.from_settings(small), tmp_path / "run"
    started(config, folder, 2)
    weights, size = tensors(folder), (folder / CHECKPOINT).stat().st_size
    before = (folder / BEFORE).stat().st_size

    given_back = release(folder)

    assert given_back - before == size - (folder / CHECKPOINT).stat().st_size > 0.4 * size
    assert all(torch.equal(weights[name], its) for name, its in tensors(folder).items())
    state = checkpoint.read_state(folder)
    assert state is not None
    assert (len(state.history), state.goes_on) == (2, False)
    with pytest.raises(ConfigError, match="stopped for good .*choose another folder"):
        list(train(config, folder))
    export.save(folder, tmp_path / "trained")
    assert release(tmp_path / "nothing") == 0


def test_a_damaged_list_of_tensors_gives_no_room_and_no_traceback(
    small: dict[str, object], tmp_path: Path
) -> None:
    started(Config.from_settings(small), tmp_path, 1)
    whole, path = releasable(tmp_path), tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes().replace(b'"data_offsets"', b'"data_offsetz"'))

    assert whole > 0
    assert releasable(tmp_path) == 0


def test_an_optimizer_whose_state_says_what_to_evaluate_keeps_it(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "optim.name": "schedule_free", "train.epochs": 1})
    list(train(config, tmp_path))

    assert release(tmp_path) == 0
    assert checkpoint.restore(tmp_path)["optimizers"]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_disk_that_a_run_needs_is_known_before_it_is_run(
    name: str, small: dict[str, object], tmp_path: Path
) -> None:
    """Networks this small have as much in a checkpoint's header and random state: they are off."""
    settings = {**small, "gpt.width": 128, "gpt.layers": 2, "train.evals": 3, "train.epochs": 1}
    settings |= {"optim.name": name, "data.train_tokens": 1025}
    cost, config = trial_cost(settings), Config.from_settings(settings)

    sizes = []
    for _ in train(config, tmp_path):
        sizes.append(sum(path.stat().st_size for path in tmp_path.iterdir()))

    assert sizes[-1] == pytest.approx(cost.disk, rel=0.1)
    assert sizes[1] == pytest.approx(cost.disk + cost.disk_while_running, rel=0.1)
