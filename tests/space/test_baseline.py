"""Tables of a baseline as people write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweep.space.baseline import read_entries


@pytest.mark.parametrize("head", ["", "\ufeff", "tokens,12,20\n", "\ufefftokens,12,20\n"])
def test_a_heading_is_left_out_and_nothing_else(tmp_path: Path, head: str) -> None:
    path, found = tmp_path / "curve.csv", list[str]()
    path.write_text(f"{head}100M,3.9,3.7\n200M,3.6,3.5\n", encoding="utf-8")

    entries = read_entries([path], found.append)

    assert entries == ("100000000:3.9", "100000000:3.7", "200000000:3.6", "200000000:3.5")
    assert not found


def test_a_first_count_that_is_misspelled_is_no_heading(tmp_path: Path) -> None:
    path, found = tmp_path / "curve.csv", list[str]()
    path.write_text("100m,3.7\n200M,3.5\n300M,3.4\n")

    read_entries([path], found.append)

    assert found == [f"{path} line 1: expected tokens:loss such as 100M:3.7, in nats per token"]
