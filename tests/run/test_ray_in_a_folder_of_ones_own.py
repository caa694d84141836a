"""Ray's workers import our packages, whatever lies in the folder that the user stands in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent  # where the console scripts of this environment are

SPACE = """
name: theirs
search:
  optim.lr: {values: [1e-3]}
budget: {trials: 1}
trial: {cpus: 1, max_concurrent: 1}
fixed:
  data.path: texts
  data.train_tokens: 512
  data.val_tokens: 256
  data.test_tokens: 256
  gpt.layers: 1
  gpt.width: 16
  train.batch_tokens: 256
  train.evals: 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where somebody has a model.py and a sweep.py, as nanoGPT has, and a corpus."""
    for name in ("model.py", "sweep.py"):
        (tmp_path / name).write_text("raise RuntimeError('the user has this, not our package')")
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(16):
        (texts / f"{number}.txt").write_text(f"{number} times ten is {10 * number}. " * 16)
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


@pytest.mark.slow
def test_trials_on_ray_train_beside_a_model_py_and_find_a_relative_corpus(folder: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}

    done = subprocess.run(
        [BIN / "sweep", "run", "space.yaml", "--plain"],
        cwd=folder,
        env={**environment, "SWEEP_CACHE": "cache"},  # relative too
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    events = (folder / "runs" / "theirs" / "journal.jsonl").read_text().splitlines()
    assert [e["outcome"] for e in map(json.loads, events) if e["event"] == "outcome"] == [
        "complete"
    ]
    assert len(list((folder / "cache").glob("*.arrow"))) == 1
