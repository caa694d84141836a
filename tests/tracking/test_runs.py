"""What MLflow is told of a trial, without a store."""

from __future__ import annotations

import json

import pytest

from model.config.setting import Value


@pytest.mark.parametrize(
    ("settings", "tokens"), [({}, None), ({"data.test_tokens": 0}, 0), ({"data.test_tokens": 9}, 9)]
)
def test_a_dataset_has_a_number_of_test_tokens_only_if_settings_have_one(
    settings: dict[str, Value], tokens: int | None
) -> None:
    from sweep.tracking.runs import dataset

    profile = json.loads(dataset({"data": "d1"}, settings).dataset.profile)

    assert profile.get("test_tokens") == tokens
