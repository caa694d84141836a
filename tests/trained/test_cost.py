"""What a text costs a trained network."""

from __future__ import annotations

import math

import pytest

from model.trained.cost import cost
from model.training.export import Trained

LINE = "the cat sat on the mat. "  # which the network knows by heart


def test_text_it_knows_costs_less_than_text_it_does_not(learned: Trained) -> None:
    by_heart, strange = cost(learned, LINE * 6), cost(learned, "Zq!8" * 36)

    assert by_heart is not None
    assert strange is not None
    assert by_heart.loss < 0.5 < 2 < strange.loss
    assert by_heart.bits_per_byte == pytest.approx(by_heart.loss / math.log(2))  # a token is a byte


def test_nothing_costs_nothing(learned: Trained) -> None:
    assert cost(learned, "") is None
