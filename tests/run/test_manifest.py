"""What counts as the trainer: a sweep may be continued as long as that stays as it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.run.manifest import digest_of_trainer, trainer_files

MODEL = Path(__file__).parents[2] / "model"


@pytest.mark.parametrize(
    ("module", "counts"),
    [
        ("training/train", True),
        ("optim/muon", True),
        ("training/averages", True),
        ("config/number", True),  # far down
        ("training/log_probs", True),  # imported by its name from its package alone
        ("trained/generate", False),
        ("training/export", True),  # opens what teaches a run
        ("training/sealed_split", False),
        ("config/presets/slowrun", False),
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
def test_what_training_loads_counts_and_is_no_compiler_and_no_pandas(
    small: dict[str, object], tmp_path: Path
) -> None:
    """Each worker of a sweep waits for what it imports before its first step."""
    code = f"""
import sys
from pathlib import Path
from model.config import Config
from model.training.train import train
list(train(Config.from_settings({small!r}), Path({str(tmp_path)!r})))
print(*sys.modules)
"""

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    modules = set(done.stdout.split())
    ours = {name for name in modules if name.startswith("model.")}
    loaded = {name.split(".", 1)[1].replace(".", "/") for name in ours}
    counted = {str(path.relative_to(MODEL).with_suffix("")) for path in trainer_files(MODEL)}
    counted |= {name.removesuffix("/__init__") for name in counted}
    assert {"training/train", "network/gpt", "optim/optimizers"} <= loaded <= counted
    assert not {"torch._dynamo", "sympy", "pandas"} & modules
