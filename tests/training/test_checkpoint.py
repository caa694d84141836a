from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model import files
from model.config.setting import ConfigError
from model.progress import Progress
from model.training import checkpoint
from model.training import log_probs as predictions
from model.training.checkpoint import RunState

PROGRESS = Progress(
    basis_points=5000,
    step=3,
    epoch=0.5,
    tokens=96,
    train_loss=2.5,
    val_loss=3.1,
    val_loss_error=0.1,
    bits_per_byte=1.5,
    raw_loss=3.25,
    ema_loss=3.1,
    lr=0.1 + 0.2,
    seconds=1.5,
)


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, tensors with their type and shape."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a)


def test_a_tree_comes_back_as_it_was(tmp_path: Path) -> None:
    shared = torch.arange(12.0).view(3, 4)
    tree = {
        "number": 0.1 + 0.2,
        "nothing": None,
        "not a number": math.nan,
        "flags": [True, False, 1, "tensor-like text"],
        "nested": {"0": {"step": torch.tensor(3.0), "empty": []}},
        "whole": shared,
        "alias": shared,
        "row of it": shared[1],
        "transposed": shared.T,
        "types": [torch.ones(2, dtype=t) for t in (torch.bfloat16, torch.int64, torch.bool)],
        "empty": [torch.zeros(0), torch.zeros(0, 3)],
        "expanded": torch.ones(1, 3).expand(2, 3),
        "trained": torch.nn.Parameter(torch.ones(2)),
    }

    checkpoint.save(tmp_path, RunState({"a.b": 1}, (PROGRESS,)), tree)
    back = checkpoint.restore(tmp_path)
    random_state = back.pop("rng")

    assert same({**tree, "trained": torch.ones(2)}, back)
    assert torch.equal(random_state["cpu"], torch.get_rng_state())
    assert checkpoint.read_state(tmp_path) == RunState({"a.b": 1}, (PROGRESS,))


def test_what_would_not_come_back_is_our_mistake(tmp_path: Path) -> None:
    a, b = torch.zeros(1), torch.ones(1)
    for leaf in ({1: 2}, (1, 2), "tensor alias", {"a.b": a, "a": {"b": b}}):
        with pytest.raises(AssertionError):
            checkpoint.save(tmp_path, RunState({}, ()), {"leaf": leaf})


def test_random_numbers_go_on_where_they_were(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, RunState({}, ()), {})
    expected = torch.rand(5)
    torch.manual_seed(12345)

    checkpoint.restore(tmp_path)

    assert torch.equal(torch.rand(5), expected)


def test_progress_survives_json() -> None:
    assert Progress(**json.loads(json.dumps(PROGRESS.to_dict()))) == PROGRESS
    assert PROGRESS.gap == 0.75
    assert not PROGRESS.diverged


def test_a_process_killed_while_saving_leaves_a_usable_checkpoint(tmp_path: Path) -> None:
    """Killed before each thing it does to the folder in turn, it leaves the old one or the new."""
    code = """
import os, signal, sys
from pathlib import Path
import torch
from model.training import checkpoint
from model.training.checkpoint import RunState

folder, left = Path(sys.argv[1]), -1

def count_down(event, arguments):
    global left
    if event in ("open", "os.remove", "os.link", "os.rename") and str(folder) in str(arguments[0]):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count_down)
for doings in range(1, 10):
    for _ in range(2):
        checkpoint.save(folder, RunState({"new": False}, ()), {"t": torch.zeros(1000)})
    child = os.fork()
    if child == 0:
        left = doings
        checkpoint.save(folder, RunState({"new": True}, ()), {"t": torch.ones(1000)})
        os._exit(0)
    survived = os.waitpid(child, 0)[1] == 0
    new = checkpoint.read_state(folder).settings["new"]
    assert bool(checkpoint.restore(folder)["t"].all()) is new
    print(survived, new)
    if survived:
        break
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    outcomes = done.stdout.splitlines()
    assert outcomes[-1] == "True True"
    # Before the one before goes, before it is linked, before it is synced, before it is moved.
    assert outcomes[:-1] == ["False False"] * 4


def test_a_damaged_checkpoint_is_explained(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, RunState({}, ()), {"t": torch.zeros(1000)})
    whole = (tmp_path / checkpoint.NAME).read_bytes()

    for size in (0, 100, len(whole) - 1):
        (tmp_path / checkpoint.NAME).write_bytes(whole[:size])
        with pytest.raises(ConfigError, match="is damaged .* delete it and the run starts over"):
            checkpoint.read_state(tmp_path)


def test_one_flipped_bit_of_a_tensor_is_noticed(tmp_path: Path) -> None:
    tensors = {"many": torch.zeros(300_001), "few": torch.ones(3, dtype=torch.bfloat16)}
    checkpoint.save(tmp_path, RunState({}, ()), tensors)
    path = tmp_path / checkpoint.NAME
    whole = path.read_bytes()
    start = int.from_bytes(whole[:8], "little") + 8

    for at in (start, start + 600_000, len(whole) - 1):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ConfigError, match=r"damaged \(tensor [\w.]+ is not as it was written"):
            checkpoint.restore(tmp_path)


def test_one_flipped_bit_of_an_evaluation_is_noticed(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, RunState({"a.b": 1}, (PROGRESS,)), {})
    path = tmp_path / checkpoint.NAME
    path.write_bytes(path.read_bytes().replace(b"3.25", b"3.35"))

    with pytest.raises(ConfigError, match="its header is not as it was written"):
        checkpoint.read_state(tmp_path)


def test_a_checkpoint_that_has_no_sums_is_read(tmp_path: Path) -> None:
    """As versions before this one wrote them."""
    checkpoint.save(tmp_path, RunState({}, ()), {"t": torch.ones(2)})
    path = tmp_path / checkpoint.NAME
    with safe_open(path, framework="pt") as file:
        metadata = {key: text for key, text in file.metadata().items() if key != "sums"}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata)

    assert checkpoint.recover(tmp_path) == RunState({}, ())
    assert checkpoint.restore(tmp_path)["t"].tolist() == [1, 1]


def test_a_checkpoint_of_another_version_is_explained(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.NAME
    for metadata, found in (({}, "1"), ({"version": "3"}, "3")):
        save_file({"t": torch.zeros(1)}, path, {"run": '{"settings": {}}', **metadata})
        message = f"has format {found}, but .* reads format 2; delete {tmp_path} and the run starts"
        with pytest.raises(ConfigError, match=message):
            checkpoint.read_state(tmp_path)


def test_a_file_that_could_not_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fill(disk: Path) -> None:
        disk.write_text("ne")
        raise OSError("disk is full")

    with pytest.raises(OSError, match="disk is full"), files.replaced(path) as beside:
        fill(beside)

    assert path.read_text() == "old"


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path) -> None:
    """Whoever writes: safetensors has an error of its own, which nobody explains."""
    code = """
import resource, sys
from pathlib import Path
import numpy, torch
from model.training import checkpoint, log_probs as predictions

resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
folder, zeros = Path(sys.argv[1]), torch.zeros(1000)
for write in (
    lambda: checkpoint.save(folder, checkpoint.RunState({}, ()), {"t": zeros}),
    lambda: predictions.add(folder, predictions.FINAL, zeros.numpy()),
):
    try:
        write()
    except OSError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        f"cannot write {tmp_path / name}.part" for name in (checkpoint.NAME, predictions.NAME)
    ]


def test_log_probabilities_are_added_one_by_one(tmp_path: Path) -> None:
    assert predictions.read(tmp_path) == {}
    predictions.add(tmp_path, predictions.epoch_key(3), np.array([-1.0, -2.0]))
    predictions.add(tmp_path, predictions.FINAL, np.array([-0.5, -0.25])[::-1])

    found = predictions.read(tmp_path)

    assert {key: value.tolist() for key, value in found.items()} == {
        "epoch_0003": [-1.0, -2.0],
        "final": [-0.25, -0.5],
    }
    assert all(value.dtype == np.float32 for value in found.values())


def test_kept_log_probabilities_are_rounded_far_below_what_a_text_can_tell(tmp_path: Path) -> None:
    """Two runs that differ by 0.5 nats a token, on 16,384 tokens: the mean is known to 0.004."""
    rng = np.random.default_rng(0)
    a_N = -rng.exponential(3, 16_384)
    runs = {"a": a_N, "b": a_N + rng.normal(0, 0.5, len(a_N)) - 0.01}
    for key, log_probs_N in runs.items():
        predictions.add(tmp_path, key, log_probs_N)
    predictions.add(tmp_path, "ruled out", np.array([-np.inf, -1e30, -70_000.0]))

    kept = predictions.read(tmp_path)

    exact_N, kept_N = runs["b"] - runs["a"], kept["b"] - kept["a"]
    error = exact_N.std() / np.sqrt(len(exact_N))
    assert abs(kept_N.mean() - exact_N.mean()) < 0.01 * error
    assert kept_N.std() == pytest.approx(exact_N.std(), rel=1e-4)
    assert np.isfinite(kept["ruled out"]).all()
    size = (tmp_path / predictions.NAME).stat().st_size
    assert size == pytest.approx(2 * (2 * len(a_N) + 3), abs=400)


def test_damaged_log_probabilities_are_explained(tmp_path: Path) -> None:
    (tmp_path / predictions.NAME).write_bytes(b"no")

    with pytest.raises(ConfigError, match="log_probs.safetensors is damaged"):
        predictions.read(tmp_path)
