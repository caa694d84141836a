"""`sweep confirm` with the trainer, killed in between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import wait_for_observations, without_tracking

from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_events

REAL = """
name: tiny
search:
  train.epochs: [4, 8, 16]
fixed:
  data.train_tokens: 4097
  data.val_tokens: 1025
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 16
  train.batch_tokens: 256
  train.evals: 8
budget: {trials: 3}
sampler: {name: random}
prune: {rule: none}
"""


@pytest.mark.slow
@pytest.mark.usefixtures("store_at_hand")
def test_a_confirmation_survives_kill_9_and_the_trainer_tells_the_test_loss(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(REAL)
    runs = ["--runs", str(tmp_path / "runs"), "--here", "--plain"]
    journal = tmp_path / "runs" / "tiny" / JOURNAL
    asked = ["confirm", "--top", "2", "--seeds", "3", *runs]
    with monkeypatch.context() as patch:
        without_tracking(patch)
        sweep_run = ["run", str(tmp_path / "tiny.yaml"), "--set", f"data.path={corpus}", *runs]
        searched = CliRunner().invoke(cli, sweep_run)
    assert searched.exit_code == 0, searched.output
    driver = start(*asked)
    wait_for_observations(journal, 4, driver, of="-s")
    driver.send_signal(signal.SIGKILL)
    driver.communicate()

    last = start(*asked)
    output = last.communicate()[0]

    assert last.returncode == 0, output
    events = [event for event, _ in read_events(journal)]
    ours = {e["trial"] for e in events if e["event"] == "trial" and e["role"] == "confirm"}
    seen = [(e["trial"], e["basis_points"]) for e in events if e["event"] == "observation"]
    assert len(ours) == len([1 for e in events if e["event"] == "outcome" and e["trial"] in ours])
    assert len(seen) == len(set(seen))
    # One recipe if the three trials drew the same epochs; four runs if two told the two apart.
    assert 3 <= len(ours) <= 6
    assert "Noise floor of this setup" in output
    assert "●" in output
    assert "Test split: " in output
    refused = CliRunner().invoke(cli, [*asked, "--test"]).exception
    assert isinstance(refused, SweepError)
    assert "was looked at before" in str(refused)
    assert refused.code == 4


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sweep", *words],
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
