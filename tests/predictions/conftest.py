"""A finished sweep of real networks, tiny ones, made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sweeps import make_space, without_tracking, write_texts

from sweep.run.driver import Options, run

SPACE = """
name: tiny
search:
  optim.lr: [0.01, 0.02]
  train.epochs: [4, 8]
fixed: {fixed}
budget: {{trials: 4}}
sampler: {{name: grid}}
prune: {{rule: none}}
baseline: {{multiples: [1, 2], lr: 0.01}}
"""


@pytest.fixture(scope="session")
def finished_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder, for tests that only read it."""
    home = tmp_path_factory.mktemp("predictions")
    corpus = write_texts(home / "corpus", 80)
    fixed = {
        "data.path": str(corpus),
        "data.train_tokens": 2049,
        "data.val_tokens": 4097,
        "data.test_tokens": 1025,
        "gpt.layers": 1,
        "gpt.width": 16,
        "gpt.context": 32,
        "train.batch_tokens": 256,
        "train.precision": "fp32",
        "train.evals": 1,
        "train.device": "cpu",
    }
    text = SPACE.format(fixed=json.dumps(fixed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        without_tracking(patch)
        space = make_space(home, text)
        code, folder = run(space, text, Options(home / "runs", here=True, plain=True))
    assert code == 0
    return folder


@pytest.fixture
def run_folder(finished_sweep: Path, tmp_path: Path) -> Path:
    """A copy of it, for tests that change it."""
    return Path(shutil.copytree(finished_sweep, tmp_path / "runs" / "tiny"))
