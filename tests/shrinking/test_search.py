"""Which plan is chosen, and by which tokens."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from networks import network
from sweeps import write_texts

from model.config.config import Config
from model.data.batches import open_table
from model.trained.retrain import loss_on
from sweep.shrinking import search
from sweep.shrinking.request import Request


@pytest.mark.parametrize("request_", [Request(size=0.8, epochs=0), Request(layers="top:1")])
def test_plans_and_the_original_are_judged_on_the_same_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_: Request
) -> None:
    monkeypatch.setattr(search, "BETTER", 1)  # beside each strategy alone
    own = {"data.path": str(write_texts(tmp_path / "corpus", 340)), "data.train_tokens": 161_000}
    bytes_ = network()
    settings = {**bytes_.config.settings(), **own, "data.test_tokens": 0}
    del settings["optim.decay_timescale"]
    trained = replace(bytes_, config=Config.from_settings(settings))
    material = search.prepare(trained, open_table(trained.config.data), lambda words: None)

    tried = search.find(material, request_, lambda words: None)

    assert len(material.held_back_N) > 16_384
    for one in (tried[0], tried[-1]):
        assert one.loss == loss_on(material.cut(one.plan), material.held_back_N).loss
