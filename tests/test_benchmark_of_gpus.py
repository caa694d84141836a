"""benchmarks/gpu.py runs, on a CPU too: no GPU has measured anything with it yet."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SECTIONS = (
    "peak",
    "tiny",
    "large",
    "attention",
    "optimizers",
    "sharing",
    "readings",
    "losses",
)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu as module

    return module


def test_every_section_has_a_limit_and_all_end_within_ten_minutes(gpu: ModuleType) -> None:
    assert tuple(gpu.LIMITS) == SECTIONS
    assert sum(gpu.LIMITS.values()) < 600


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_every_row_is_filled(gpu: ModuleType, section: str) -> None:
    import gpu_sections

    rows = [{"section": section, **row} for row in gpu_sections.SECTIONS[section]("cpu", True, 1e9)]

    assert rows
    for row in rows:
        assert "failed" not in row, row
        assert row["variant"]
        assert row["rate"] or row["milliseconds"] > 0
    assert gpu.table(rows).count("\n") == len(rows) + 1


def test_shares_are_of_the_peak_that_was_given_where_it_is_not_measured(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def measured(name: str, command: list[str], limit: float) -> list[object]:
        commands.append(command)
        return []

    monkeypatch.setattr(gpu, "measured", measured)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--sections", "tiny", "--peak", "8e14"])

    with pytest.raises(SystemExit, match="False"):
        gpu.main()

    assert commands[0][commands[0].index("--peak") + 1] == "800000000000000.0"


def test_a_section_that_crashes_leaves_its_rows_and_says_why(gpu: ModuleType) -> None:
    code = 'print(\'{"section": "s", "variant": "v"}\'); raise MemoryError(\'of 3 GB\')'

    first, last = gpu.measured("s", [sys.executable, "-c", code], limit=60)

    assert first == {"section": "s", "variant": "v"}
    assert last["failed"] == "exit code 1: MemoryError: of 3 GB"


def test_a_section_that_hangs_is_stopped_at_its_limit(gpu: ModuleType) -> None:
    code = "import threading; threading.Event().wait()"

    (row,) = gpu.measured("s", [sys.executable, "-c", code], limit=0.1)

    assert row["failed"] == "stopped at its limit of 0.1 s"
