"""Numbers as people write them, where a unit decides what a suffix means."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.config.aliases import FOREIGN, suggestion
from model.config.config import SETTINGS, Config
from model.config.number import read_number
from model.config.setting import ConfigError


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("1e-4", "", 1e-4),
        ("1_000", "tokens", 1000),
        ("32k", "tokens", 32_000),
        ("100M", "tokens", 100_000_000),
        ("2.3M", "tokens", 2_300_000),
        ("1.5B", "parameters", 1.5e9),
        ("2T", "FLOPs", 2e12),
        ("2h", "seconds", 7200),
        ("1h30min", "seconds", 5400),
        ("1 d", "hours", 24),
        ("90min", "GPU-hours", 1.5),
        ("45 s", "seconds", 45),
        ("20GiB", "bytes", 20 * 2**30),
        ("1.5 GB", "bytes", 1.5e9),
    ],
)
def test_a_suffix_means_what_its_unit_makes_of_it(text: str, unit: str, number: float) -> None:
    assert read_number(text, unit) == number


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("data.train_tokens", "100m", "write M for millions"),
        ("data.train_tokens", "2h", "h is a time, but this is in tokens"),
        ("data.train_tokens", "5%", "this is not a share"),
        ("data.train_tokens", "1,000,000", "write 1_000_000"),
        ("data.train_tokens", "3x", "x is not understood; k, M, B and T are"),
        ("optim.lr", "fast", "expected a number, got 'fast'"),
        ("optim.lr", "1e99999", "expected a number"),
        ("train.epochs", "30m", "write M for millions"),
        ("optim.lr", "", "expected a number"),
    ],
)
def test_what_is_no_number_of_the_unit_is_refused_with_the_reason(
    name: str, value: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        SETTINGS[name].check(value)


@pytest.mark.parametrize(("name", "value"), [("optim.warmup", 0.05), ("gpt.dropout", 0.05)])
def test_a_share_may_be_a_percentage(name: str, value: float) -> None:
    assert SETTINGS[name].check("5%") == SETTINGS[name].check("5 %") == value


def test_yes_and_no_are_words_where_words_are_expected() -> None:
    """YAML 1.1 reads them as true and false."""
    assert SETTINGS["gpt.mtp"].check(False) == "no"
    assert SETTINGS["train.compile"].check(True) == "yes"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_that_python_writes_are_read_exactly(number: float) -> None:
    assert read_number(repr(number)) == number


@given(st.text(max_size=12), st.sampled_from(["", "tokens", "seconds", "bytes"]))
def test_no_text_gives_anything_but_a_number_or_a_reason(text: str, unit: str) -> None:
    with suppress(ValueError):
        assert isinstance(read_number(text, unit), float)


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("learning_rate", "optim.lr"),
        ("optimizer.lr", "optim.lr"),
        ("weight_decay", "optim.weight_decay_multiplier (times 0.1)"),
        ("num_train_epochs", "train.epochs"),
        ("batch-size", "train.batch_tokens (tokens, not sequences)"),
        ("n_embd", "gpt.width"),
        ("seed", "train.seed"),
        ("dropout", "gpt.dropout"),
    ],
)
def test_foreign_names_are_suggested_never_mapped(foreign: str, ours: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_settings({foreign: 1})

    assert str(caught.value) == f"{foreign}: no such setting; did you mean {ours}?"


def test_every_foreign_name_stands_for_a_setting() -> None:
    assert {meant.partition(" ")[0] for meant in FOREIGN.values()} <= SETTINGS.keys()
    assert not FOREIGN.keys() & SETTINGS.keys()


def test_a_group_is_told_apart_from_a_setting() -> None:
    assert suggestion("optim", ["optim.name", "optim.lr"]).startswith("; it is a group")


def test_m_for_minutes_is_told_what_to_write() -> None:
    with pytest.raises(ValueError, match="m may be minutes or months; write min"):
        read_number("30m", "hours")
