"""How hard a run finds each training document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from model.config import Config
from model.data.batches import open_table
from model.training import export
from model.training.device import CPU
from model.training.document_losses import document_losses
from model.training.evaluate import HeldOut, evaluate
from model.training.train import train


@pytest.mark.parametrize(
    "settings",
    [{}, {"optim.name": "schedule_free"}, {"gpt.replay_passes": 1, "gpt.layers": 5}],
    ids=["plain", "schedule_free", "replay"],
)
def test_documents_are_scored_by_the_network_that_the_run_evaluates(
    settings: dict[str, object], small: dict[str, object], tmp_path: Path
) -> None:
    """schedule_free evaluates an average of its weights, not those it takes gradients at; a network
    that replays layers ends with them replayed.
    """
    config = Config.from_settings({**small, "optim.lr": 0.02, **settings})
    list(train(config, tmp_path / "run"))
    table = open_table(config.data)
    export.save(tmp_path / "run", tmp_path / "saved")
    gpt = export.load(tmp_path / "saved").gpt
    held_out = HeldOut(table.train, table.token_lengths, config.gpt.context)
    losses_N = -evaluate(gpt, held_out, CPU).log_probs_N
    ends = table.documents["train"][1:] - 1  # target i is token i + 1
    by_document = [float(part.mean()) for part in np.split(losses_N, ends[:-1])]

    scored = document_losses(tmp_path / "run", table)

    np.testing.assert_allclose(scored, by_document, rtol=1e-5)


def test_scoring_documents_leaves_torchs_random_state_alone(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings(small)
    list(train(config, tmp_path / "run"))
    torch.manual_seed(7)
    expected = torch.rand(3)

    torch.manual_seed(7)
    document_losses(tmp_path / "run", open_table(config.data))

    assert torch.equal(torch.rand(3), expected)
