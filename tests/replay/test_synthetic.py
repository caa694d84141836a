"""The made-up losses that benchmarks/synthetic.py compares searches on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from model.config import trial_flops
from sweep.space import Choice
from sweep.space.points import at_share, draws

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def synthetic(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import synthetic as module

    return module


def test_no_point_is_better_than_the_optimum(synthetic: ModuleType) -> None:
    for shape in synthetic.SHAPES.values():
        loss = synthetic.make_loss(shape, order=1)
        points = draws(loss.space.hyperparameters, 30)

        assert min(map(loss, points)) >= synthetic.OPTIMUM


def test_the_loss_has_its_optimum_where_it_says(synthetic: ModuleType) -> None:
    loss = synthetic.make_loss(synthetic.SHAPES["12"], order=2)
    best: dict[str, Any] = {}
    for hp in loss.space.hyperparameters:
        table = loss.tables.get(hp.setting)
        at = loss.optimum.get(hp.setting, 0.0)
        best[hp.setting] = min(table, key=table.get) if table else at_share(hp.domain, at)

    # Whole epochs cannot lie exactly there.
    assert loss(best) == pytest.approx(synthetic.OPTIMUM, abs=0.01)


def test_settings_that_do_not_matter_change_no_loss(synthetic: ModuleType) -> None:
    loss = synthetic.make_loss(synthetic.SHAPES["4 + 8 irrelevant"], order=0)
    point = draws(loss.space.hyperparameters, 1)[0]
    matter = set()
    for hp in loss.space.hyperparameters:
        values = (
            hp.domain.values if isinstance(hp.domain, Choice) else (hp.domain.low, hp.domain.high)
        )
        if len({loss({**point, hp.setting: value}) for value in values}) > 1:
            matter.add(hp.setting)

    assert len(matter) <= 4


def test_every_space_can_be_trained_and_searched(synthetic: ModuleType) -> None:
    for shape in synthetic.SHAPES.values():
        hyperparameters = synthetic.make_loss(shape, order=0).space.hyperparameters
        for point in draws(hyperparameters, 3):
            assert trial_flops({**synthetic.FIXED, **point}) > 0

    found = synthetic.search("2", "random", workers=8, order=0)

    assert len(found.bests) >= 2
    assert found.regret == found.bests[-1][1] < found.bests[0][1]
