"""PicoGPT's characters: what they are, and what a text costs that they do not hold whole."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from model.config.config import Config, DataConfig
from model.config.presets import preset
from model.data import pico
from model.data.batches import open_table
from model.data.table import TokenTable
from model.data.tokenizer import UNKNOWN, get_tokenizer
from model.trained.cost import cost
from model.trained.generate import stream
from model.trained.sampling import Sampling
from model.training.evaluate import HeldOut, score
from model.training.export import open_run
from model.training.train import train

TEXT = "To be, or not: É𐌀 \N{EURO SIGN}\n" * 40


def test_capitals_are_lower_case_and_others_unknown() -> None:
    tokens = pico.tokenizer().encode("Az09 ~\n\x00é𐌀")

    assert tokens.tolist() == [11, 36, 1, 10, 69, 68, 71, 0, 0, 0]


def test_of_its_88_tokens_75_are_in_use_and_7_have_names() -> None:
    tokenizer = pico.tokenizer()

    assert (tokenizer.vocabulary, len(pico.LISTED) + 1) == (88, 75)
    assert sorted(pico.SPECIAL.values()) == list(range(75, 82))
    assert tokenizer.separator == 82
    assert tokenizer.lengths[75:].sum() == 0


def test_a_text_that_looks_like_a_token_with_a_name_is_text() -> None:
    tokenizer = pico.tokenizer()

    assert tokenizer.decode(tokenizer.encode("<S>Who?</S>")) == "<s>who?</s>"
    assert tokenizer.encode("<S>").max() < 75


@pytest.fixture
def table(tmp_path: Path) -> TokenTable:
    (tmp_path / "text.txt").write_text(TEXT)
    data = DataConfig(
        path=str(tmp_path / "text.txt"),
        tokenizer="picogpt",
        train_tokens=400,
        val_tokens=200,
        test_tokens=100,
    )
    return open_table(data)


def test_a_table_tells_what_its_tokens_mean(table: TokenTable) -> None:
    tokenizer = table.tokenizer

    text = tokenizer.decode(np.concatenate([table.train, table.val, table.test]))
    expected = "".join(c if c.isascii() else UNKNOWN for c in TEXT.lower())
    assert sorted(text) == sorted(expected[: len(text)])
    assert tokenizer.digest == get_tokenizer("picogpt").digest
    assert table.vocabulary == 88


def test_bits_per_byte_are_of_the_bytes_of_the_original_text(table: TokenTable) -> None:
    """Unknown characters of 2, 3 and 4 bytes count as what they were."""
    held_out = HeldOut.of(table, "val", 32)
    targets = len(table.val) - 1

    bits = score(np.full(targets, -math.log(2), dtype=np.float32), held_out).bits_per_byte

    line = len(TEXT) // 40
    bytes_of_line = len(TEXT.encode()) // 40
    assert (targets + 1) % line == 0  # whole lines, wherever they begin
    of_all = (targets + 1) // line * bytes_of_line
    assert targets / bits == pytest.approx(of_all - 1, abs=3)
    unknown = np.count_nonzero(table.val == 0)
    assert unknown == 3 * (targets + 1) // line
    assert held_out.token_lengths[0] == pytest.approx((2 + 4 + 3) / 3)
    assert table.recorded["text_bytes"]["val"] == of_all


def test_a_network_of_it_takes_a_prompt_in_capitals(
    small: dict[str, object], tmp_path: Path
) -> None:
    settings = {**small, "data.tokenizer": "picogpt"}
    list(train(Config.from_settings(settings), tmp_path))
    trained = open_run(tmp_path)

    upper, lower = (
        "".join(stream(trained, prompt, Sampling(tokens=8, temperature=0)))
        for prompt in ("DEF __Init__", "def __init__")
    )

    assert upper == lower == upper.lower()
    shouted, said = cost(trained, "DEF ÉÉ"), cost(trained, "def éé")
    assert shouted is not None
    assert said is not None
    assert shouted.loss == said.loss
    nats = shouted.loss * len("DEF ÉÉ")
    assert shouted.bits_per_byte == pytest.approx(nats / math.log(2) / len("DEF ÉÉ".encode()))


def test_the_preset_reads_1280_characters_in_ten_windows() -> None:
    config = Config.from_settings(preset("picogpt").settings)

    assert (config.gpt.context, config.gpt.reach) == (128, 1280)
    assert config.train.batch_tokens == 8 * config.gpt.reach
    assert config.steps == 150_038
