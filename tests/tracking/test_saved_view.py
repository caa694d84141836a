"""Names and the saved view: what a person sees of a sweep in MLflow's pages."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from model.config.setting import Value
from sweep.tracking import process

# Importing mlflow takes seconds.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("mlflow")]
HEADER = {"id": "abcdef0123", "name": "look", "time": 1}


@pytest.mark.parametrize(
    ("searched", "expected"),
    [
        (
            {"optim.weight_decay_multiplier": 2.7999, "train.epochs": 8, "optim.name": "muon"},
            "muon wd=2.8 8ep",
        ),
        ({"gpt.mtp": "no", "optim.schedule": "cosine"}, "cosine mtp=no"),
        ({"data.train_tokens": 65536, "gpt.scale": 0.5}, "tokens=65536 scale=0.5"),
        ({}, ""),
    ],
)
def test_a_label_says_what_makes_a_trial_different(
    searched: Mapping[str, Value], expected: str
) -> None:
    from sweep.tracking.runs import label

    assert label(searched) == expected


def test_a_label_of_many_settings_stays_short() -> None:
    from sweep.tracking.runs import LONGEST_LABEL, label

    long = label({f"gpt.setting_number_{n}": n * 0.1 for n in range(40)})

    assert len(long) == LONGEST_LABEL
    assert long.endswith("...")


def state(searched: list[str]) -> dict[str, Any]:
    from sweep.tracking.saved_view import LONGEST, saved_view

    tag, value = saved_view(HEADER, searched)
    assert tag == "mlflow.sharedViewState.sweep-abcdef0123"
    assert len(value) < LONGEST
    kind, packed = json.loads(value)["state"].split(";", 1)
    assert kind == "deflate"
    return dict(json.loads(zlib.decompress(base64.b64decode(packed))))


def test_the_saved_view_sorts_by_final_loss_and_charts_what_is_searched() -> None:
    shown = state(["optim.lr", "train.epochs"])

    assert (shown["orderByKey"], shown["orderByAsc"]) == ("metrics.`final/val_loss`", True)
    assert "params.`optim.lr`" in shown["selectedColumns"]
    (across,) = [c for c in shown["compareRunCharts"] if c["type"] == "PARALLEL"]
    assert across["selectedParams"] == ["optim.lr", "train.epochs"]
    sections = {section["uuid"] for section in shown["compareRunSections"]}
    assert {chart["metricSectionId"] for chart in shown["compareRunCharts"]} == sections
    lines = [c for c in shown["compareRunCharts"] if c["type"] == "LINE"]
    assert {c["selectedXAxisMetricKey"] for c in lines} == {"tokens"}


def test_a_view_of_forty_settings_still_fits_into_a_tag() -> None:
    assert state([f"optim.a_rather_long_name_{n}" for n in range(40)])


def test_passwords_are_written_down_nowhere(tmp_path: Path) -> None:
    from sweep.tracking.cursor import Cursor, load_cursor

    uri = "http://me:secret@127.0.0.1:1"
    cursor = load_cursor(tmp_path, uri)
    cursor.offset = 7
    cursor.save(tmp_path)

    assert "secret" not in process.cursor_path(tmp_path, uri).read_text()
    assert load_cursor(tmp_path, uri) == cursor
    assert isinstance(cursor, Cursor)


def test_each_store_has_a_cursor_of_its_own_and_a_damaged_one_is_none(tmp_path: Path) -> None:
    from sweep.tracking.cursor import load_cursor

    for number, uri in enumerate(("http://one", "http://two"), 1):
        cursor = load_cursor(tmp_path, uri)
        cursor.offset = number
        cursor.save(tmp_path)
    assert [load_cursor(tmp_path, uri).offset for uri in ("http://one", "http://two")] == [1, 2]

    process.cursor_path(tmp_path, "http://two").write_text("{")

    assert [load_cursor(tmp_path, uri).offset for uri in ("http://one", "http://two")] == [1, 0]
