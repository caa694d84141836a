"""KEY=VALUE words, as every command reads them."""

from __future__ import annotations

from model.config.config import SETTINGS
from sweep.space.overrides import read_overrides


def test_a_value_may_have_an_equals_sign_of_its_own() -> None:
    """Folders of partitions are called so: year=2024."""
    pairs, problems = read_overrides(["data.path=texts/year=2024", "data.digest=a=b="], SETTINGS)

    assert pairs == [("data.path", "texts/year=2024"), ("data.digest", "a=b=")]
    assert problems == []


def test_an_empty_value_is_one_and_no_equals_sign_is_a_problem() -> None:
    pairs, problems = read_overrides(["data.path=", "data.path"], SETTINGS, "--to")

    assert pairs == [("data.path", "")]
    assert problems == ["--to data.path: expected KEY=VALUE"]
