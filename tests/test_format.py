from __future__ import annotations

import pytest

from sweep.format import ordinal, short_names, table

ROWS = [
    ["trial", "val loss", "optim.weight_decay_multiplier", "with"],
    ["0001", "2.5", "14.3", "optim.lr=0.01 gpt.scale=2 optim.name=muon train.epochs=8"],
    ["0002", "2.6", "1", "optim.lr=0.02"],
]


def test_a_table_in_a_pipe_has_a_line_for_each_row_whatever_its_length() -> None:
    lines = table(ROWS).splitlines()

    assert len(lines) == 3
    assert lines[0].split() == ["trial", "val", "loss", "optim.weight_decay_multiplier", "with"]


@pytest.mark.parametrize("width", [60, 80])
def test_a_table_on_a_terminal_breaks_headings_and_text_to_fit(width: int) -> None:
    lines = table(ROWS, width).splitlines()

    assert max(map(len, lines)) <= width
    assert "".join(lines).replace(" ", "").count("muon") == 1
    assert [line.split()[0] for line in lines if line.startswith("000")] == ["0001", "0002"]
    assert "trial" in lines[next(n for n, line in enumerate(lines) if "0001" in line) - 1]


def test_a_table_that_fits_is_the_same_on_a_terminal() -> None:
    assert table(ROWS, 200) == table(ROWS)


def test_settings_get_short_names_that_tell_them_apart() -> None:
    names = ["optim.lr", "baseline.lr", "optim.name", "optim.weight_decay_multiplier", "gpt.scale"]

    assert list(short_names(names).values()) == [
        "optim.lr",
        "baseline.lr",
        "optimizer",
        "wd",
        "scale",
    ]


def test_places_are_told_as_in_english() -> None:
    numbers = (1, 2, 3, 4, 11, 12, 13, 21, 102, 111)

    told = "1st 2nd 3rd 4th 11th 12th 13th 21st 102nd 111th"
    assert " ".join(map(ordinal, numbers)) == told
