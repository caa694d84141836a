"""Curves are read alike from a bank and from a run folder; what is no curve is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model.config.cost import trial_flops
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.replay.curves import (
    Curve,
    read_about,
    read_curves,
)

Writer = Callable[..., None]
WHOLE_RUN = Curve(
    settings={"optim.name": "muon", "train.epochs": 4, "gpt.scale": 0.5},
    marks=(5_000, 10_000),
    raw=(3.5, 3.0),
    ema=(math.nan, 2.75),
    train=(3.25, 2.5),
    seconds=12.5,
    flops=1e12,
)


def journal(folder: Path, *trials: dict[str, Any]) -> Path:
    """A run folder with a journal of `trials`, each given by what its events say."""
    events: list[dict[str, Any]] = []
    for number, trial in enumerate(trials):
        name, searched = f"{number:04}", trial["searched"]
        settings = {"train.seed": 0, **trial.get("fixed", {}), **searched}
        about = {"role": trial.get("role", "search"), "searched": searched, "settings": settings}
        events.append({"event": "trial", "trial": name, "time": 0, **about})
        for seen in trial["seen"]:
            rest = {"time": 0, "step": 1, "val_loss_error": 0.01, "seconds": 1.0}
            events.append({"event": "observation", "trial": name, **rest, **seen})
        if "outcome" in trial:
            end = {"outcome": trial["outcome"], "reason": "", "time": 1}
            events.append({"event": "outcome", "trial": name, **end})
    folder.mkdir(exist_ok=True)
    (folder / JOURNAL).write_text("".join(json.dumps(event) + "\n" for event in events))
    return folder


def seen(mark: int, loss: float | None, **about: object) -> dict[str, object]:
    losses = {"val_loss": loss, "raw_loss": loss, "ema_loss": None, "train_loss": 2.0}
    return {"basis_points": mark, **losses, **about}


def test_a_bank_gives_back_what_was_written(tmp_path: Path, write_curves: Writer) -> None:
    path = tmp_path / "bank.parquet"
    write_curves(path, [WHOLE_RUN], {"corpus": "a book"})

    (curve,) = read_curves(path)

    assert curve.settings == WHOLE_RUN.settings
    assert (curve.marks, curve.raw, curve.train) == ((5_000, 10_000), (3.5, 3.0), (3.25, 2.5))
    assert math.isnan(curve.ema[0])
    assert curve.ema[1] == 2.75
    assert (curve.seconds, curve.flops, curve.final) == (12.5, 1e12, 3.0)
    assert curve.complete
    assert read_about(path) == {"corpus": "a book"}


def test_a_setting_that_a_run_does_not_have_is_left_out(
    tmp_path: Path, write_curves: Writer
) -> None:
    path = tmp_path / "bank.parquet"
    other = Curve({"optim.name": "adamw"}, (2_500,), (3.0,), (3.0,), (3.0,), 1.0, 1.0)
    write_curves(path, [WHOLE_RUN, other], {})

    assert read_curves(path)[1].settings == {"optim.name": "adamw"}
    assert not read_curves(path)[1].complete


def test_a_run_folder_gives_its_search_trials(tmp_path: Path) -> None:
    rising = [seen(5_000, 3.5), seen(10_000, 3.0, ema_loss=2.9, seconds=7.0)]
    folder = journal(
        tmp_path / "run",
        {"searched": {"train.epochs": 2}, "seen": rising, "outcome": "complete"},
        {"searched": {"train.epochs": 4}, "seen": rising[:1], "outcome": "pruned"},
        {"searched": {"train.epochs": 1}, "seen": rising[:1], "outcome": "failed"},
        {"searched": {"train.epochs": 1}, "seen": []},
        {"searched": {"multiple": 2}, "seen": rising, "role": "baseline"},
    )

    whole, pruned = read_curves(folder)

    assert (whole.marks, whole.raw, whole.seconds) == ((5_000, 10_000), (3.5, 3.0), 7.0)
    assert math.isnan(whole.ema[0])
    assert whole.ema[1] == 2.9
    assert (whole.complete, pruned.complete) == (True, False)
    assert (whole.settings, pruned.settings) == ({"train.epochs": 2}, {"train.epochs": 4})
    assert pruned.marks == (5_000,)


def test_cost_is_that_of_the_whole_schedule(tmp_path: Path) -> None:
    """So that what any part of it costs is its share, whether it was run to the end or not."""
    quarter = [seen(2_500, 3.5, seconds=3.0)]
    folder = journal(tmp_path / "run", {"searched": {"train.epochs": 4}, "seen": quarter})

    (curve,) = read_curves(folder)

    assert curve.seconds == 12.0
    assert curve.flops == trial_flops({"train.epochs": 4})


def test_a_diverged_run_has_no_finite_loss_at_its_end(tmp_path: Path) -> None:
    """Its last loss may look harmless, or not be a number at all."""
    harmless = [seen(2_500, 3.5), seen(5_000, 3.4, diverged_step=7)]
    nothing = [seen(2_500, math.nan, diverged_step=7)]
    folder = journal(
        tmp_path / "run",
        {"searched": {"train.epochs": 2}, "seen": harmless, "outcome": "pruned"},
        {"searched": {"train.epochs": 4}, "seen": nothing, "outcome": "pruned"},
    )

    assert [(curve.raw[-1], curve.diverged) for curve in read_curves(folder)] == [
        (math.inf, True)
    ] * 2


def test_seeds_that_differ_tell_runs_apart_though_nobody_searched_them(tmp_path: Path) -> None:
    once = {"searched": {"train.epochs": 2}, "seen": [seen(10_000, 3.0)]}
    folder = journal(tmp_path / "run", once, {**once, "fixed": {"train.seed": 1}})

    assert [curve.settings["train.seed"] for curve in read_curves(folder)] == [0, 1]


def test_a_table_without_curves_is_refused_with_every_column_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "other.parquet"
    pq.write_table(pa.table({"text": ["a"], "marks": [[1]]}), path)

    with pytest.raises(SweepError, match=r"(?s)no bank.*raw: no such column.*flops: no such"):
        read_curves(path)
    with pytest.raises(SweepError, match="does not say what its runs share"):
        read_about(path)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("raw", [3.0], "row 0: expected as many losses as marks, got 2 in marks, 1 in raw"),
        ("marks", [5_000, 5_000], "row 0: marks must rise"),
        ("marks", [5_000, 10_001], "row 0: marks must rise from above 0 to at most 10000"),
        ("seconds", None, "row 0: no value in seconds"),
    ],
)
def test_a_row_that_is_no_curve_is_named(
    tmp_path: Path, write_curves: Writer, column: str, value: object, message: str
) -> None:
    path = tmp_path / "bank.parquet"
    write_curves(path, [WHOLE_RUN], {})
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array([value])), path)

    with pytest.raises(SweepError, match=message):
        read_curves(path)


def test_what_is_neither_bank_nor_run_folder_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "note.txt"
    text.write_text("hello")

    with pytest.raises(SweepError, match="no such file or folder"):
        read_curves(tmp_path / "nothing")
    with pytest.raises(SweepError, match=r"no run folder: it has no journal.jsonl"):
        read_curves(tmp_path)
    with pytest.raises(SweepError, match="no readable Parquet file"):
        read_curves(text)
    with pytest.raises(SweepError, match="no trial was evaluated yet"):
        read_curves(journal(tmp_path / "run"))


def test_settings_of_another_version_are_refused(tmp_path: Path) -> None:
    fixed = {"optim.gone": 1}
    folder = journal(
        tmp_path / "run", {"searched": {}, "fixed": fixed, "seen": [seen(10_000, 3.0)]}
    )

    with pytest.raises(SweepError, match="trial 0000 has settings that this version cannot train"):
        read_curves(folder)


def test_reading_a_bank_needs_no_torch(tmp_path: Path, write_curves: Writer) -> None:
    path = tmp_path / "bank.parquet"
    write_curves(path, [WHOLE_RUN], {})
    code = (
        "import sys; from pathlib import Path; from sweep.replay.curves import read_curves\n"
        "assert 'pyarrow' not in sys.modules\n"
        f"assert read_curves(Path({str(path)!r}))\n"
        "assert not {'torch', 'ray', 'optuna', 'mlflow'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)
