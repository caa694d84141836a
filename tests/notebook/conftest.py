"""A sweep of tiny networks, trained once for all tests of this room."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from sweeps import without_tracking

from sweep.cli.main import cli

SPACE = """
name: quickstart
search:
  train.epochs: [1, 2, 4]
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-1, log: true}
    - {when: {optim.name: muon}, min: 1e-3, max: 1e-1, log: true}
fixed:
  data.train_tokens: 2049
  data.val_tokens: 1025
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 16
  gpt.context: 32
  train.batch_tokens: 256
  train.precision: fp32
  train.device: cpu
  train.evals: 4
budget: {trials: 5}
sampler: {name: random, seed: 2}
prune: {rule: none}
baseline: {multiples: [1, 2]}
"""


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the run folder `quickstart`."""
    home = tmp_path_factory.mktemp("notebook")
    corpus = home / "corpus"
    corpus.mkdir()
    for number in range(40):
        words = [f"{word} {(word * number) % 97}" for word in range(number, number + 110)]
        (corpus / f"{number:02}.txt").write_text("\n".join(words))
    (home / "quickstart.yaml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWEEP_CACHE", str(home / "cache"))
        without_tracking(patch)
        words = ["run", str(home / "quickstart.yaml"), "--here", "--plain"]
        done = CliRunner().invoke(
            cli, [*words, "--runs", str(home / "runs"), "--set", f"data.path={corpus}"]
        )
    assert done.exit_code == 0, done.output
    return home / "runs"
