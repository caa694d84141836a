"""What a text costs a trained network is what its run would have reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from toy_network import network

from model.config import Config, ConfigError
from model.data.tokenizer import of_list
from model.trained.text_loss import ALL, VAL, text_loss
from model.training.export import open_run
from model.training.train import train


@pytest.mark.parametrize(
    "more",
    [{}, {"gpt.context_vector": True, "gpt.context": 8, "gpt.context_windows": 4}],
    ids=["plain", "context vector"],
)
def test_the_loss_on_the_validation_split_is_that_of_the_run(
    more: Mapping[str, object], small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, **more, "optim.lr": 0.01})
    *_, last = train(config, tmp_path)

    held = text_loss(open_run(tmp_path), config.data, VAL)

    assert held.evaluation.loss == pytest.approx(last.val_loss, abs=1e-6)


def test_bytes_that_no_token_tells_count_in_bits_per_byte(
    small: dict[str, object], tmp_path: Path
) -> None:
    config = Config.from_settings({**small, "data.tokenizer": "picogpt"})
    for _ in train(config, tmp_path / "run"):
        pass
    text = "\N{GRINNING FACE}, he said. " * 3
    (tmp_path / "strange.txt").write_text(text, encoding="utf-8")
    data = replace(config.data, path=str(tmp_path / "strange.txt"))

    held = text_loss(open_run(tmp_path / "run"), data, ALL)

    bits = held.evaluation.loss * (held.tokens - 1) / math.log(2)
    assert held.evaluation.bits_per_byte == pytest.approx(bits / len(text.encode()))


def test_a_text_with_characters_that_have_no_token_is_refused_by_name(tmp_path: Path) -> None:
    trained = replace(network(), tokenizer=of_list(list(" abc")))
    (tmp_path / "strange.txt").write_text("a(b)c")
    data = replace(trained.config.data, path=str(tmp_path / "strange.txt"))

    with pytest.raises(ConfigError, match=r"strange.txt: .* has no '\(' '\)'; leave them out"):
        text_loss(trained, data, ALL)
