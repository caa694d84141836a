"""What counts as the trainer: a sweep may be continued as long as that stays as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.identity import digest_of_trainer, trainer_files

MODEL = Path(__file__).parents[1] / "model"


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("train", True),
        ("muon", True),
        ("average", True),
        ("number", True),  # far down
        ("sample", False),
        ("saved", False),
        ("presets", False),
    ],
)
def test_only_code_that_training_runs_makes_another_trainer(
    module: str, counts: bool, tmp_path: Path
) -> None:
    home = tmp_path / "model"
    shutil.copytree(MODEL, home)
    assert digest_of_trainer(home) == digest_of_trainer()

    with (home / f"{module}.py").open("a") as file:
        file.write("CHANGED = True\n")

    assert (digest_of_trainer(home) != digest_of_trainer()) == counts


@pytest.mark.slow
def test_all_of_model_that_training_loads_counts() -> None:
    code = "import sys, model.train; print(*(m for m in sys.modules if m.startswith('model.')))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[2] for name in done.stdout.split()}
    assert {"train", "gpt", "optim"} <= loaded <= {path.stem for path in trainer_files(MODEL)}
