"""A network that knows one line by heart, trained once."""

from __future__ import annotations

import pytest

from model.config import Config
from model.training import export
from model.training.train import train

LINE = "the cat sat on the mat. "


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory) -> export.Trained:
    """A network that knows one line by heart."""
    folder = tmp_path_factory.mktemp("learned")
    (folder / "corpus").mkdir()
    for number in range(8):
        (folder / "corpus" / f"{number}.txt").write_text(LINE * 40)
    settings = {
        "data.path": str(folder / "corpus"),
        "data.splits": "stream",
        "data.train_tokens": 2049,
        "data.val_tokens": 257,
        "data.test_tokens": 257,
        "gpt.layers": 1,
        "gpt.width": 32,
        "gpt.context": 64,
        "train.batch_tokens": 256,
        "train.evals": 1,
        "train.epochs": 30,
        "train.device": "cpu",
        "train.precision": "fp32",
        "optim.lr": 0.01,
    }
    for _ in train(Config.from_settings(settings), folder / "run"):
        pass
    export.save(folder / "run", folder / "saved")
    return export.load(folder / "saved")
