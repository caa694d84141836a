"""Two processes that train one network, by gloo."""

from __future__ import annotations

from multiprocessing import Pipe
from pathlib import Path

import pytest

from model.config import Config
from model.progress import Progress
from model.training import rank, together
from model.training.ranks_failed import RanksFailed
from model.training.together import train_together
from model.training.train import train


def test_a_rank_whose_parent_was_killed_ends_and_tidies_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = Pipe()
    temporary, codes, asked = tmp_path / "sweep-ranks", list[int](), list[bool]()
    temporary.mkdir()
    (temporary / "meeting").touch()
    monkeypatch.setattr(rank.os, "_exit", codes.append)
    ours.send(together.GO_ON)
    ours.close()

    with pytest.raises(EOFError), theirs:
        rank._hear(theirs, lambda: asked.append(True), temporary)

    assert (codes, asked, temporary.exists()) == ([1], [True], False)


@pytest.mark.slow
def test_two_ranks_reach_the_losses_of_one_process_though_one_was_killed(
    small: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kill ends both, in one error that says which; what was evaluated is gone on from."""
    config = Config.from_settings(
        {**small, "optim.name": "muon", "train.ema_epochs": 0.5, "train.average_last": 1}
    )
    begun, start = [], together._start
    monkeypatch.setattr(together, "_start", lambda path: begun.append(start(path)) or begun[-1])
    steps: list[int] = []

    def kill(step: int, loss: float) -> None:
        steps.append(step)
        if step == config.steps // 2 + 1:
            begun[1].process.kill()

    alone = list(train(config, tmp_path / "alone"))
    seen: list[Progress] = []
    with pytest.raises(RanksFailed, match=r"rank 1 of 2 \(process \d+\) ended by SIGKILL"):
        seen.extend(train_together(config, tmp_path / "two", 2, watch=kill))
    ended = [rank.process.returncode for rank in begun]
    both = list(train_together(config, tmp_path / "two", 2))

    assert None not in ended
    assert len(seen) == 2
    assert both[:2] == seen
    assert steps[0] == 1
    for a, b in zip(alone, both, strict=True):
        assert (b.step, b.basis_points) == (a.step, a.basis_points)
        assert b.val_loss == pytest.approx(a.val_loss, abs=1e-5)
        assert b.train_loss == pytest.approx(a.train_loss, abs=1e-5)
        assert b.ema_loss == pytest.approx(a.ema_loss, abs=1e-5)
    assert both[-1].probabilities_loss == pytest.approx(alone[-1].probabilities_loss, abs=1e-5)
