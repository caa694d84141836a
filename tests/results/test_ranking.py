"""Which recipes a search cannot tell from its best, with limits worked out by hand."""

from __future__ import annotations

import pytest

from model.config.setting import Value
from sweep.records import FinalistRun, Proposal, TrialEnding
from sweep.results.ranking import EVALUATION, FLOOR, PAIRED, Recipe, floor_of, ranking, tie
from sweep.results.significance import NoiseFloor
from sweep.view import TrialView, View


def trial(name: str, loss: float, error: float = 0.001, **settings: Value) -> TrialView:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    seen = {"val_loss": loss, "val_loss_error": error}
    return TrialView(name, Proposal({}), named, 0, [seen], TrialEnding.FINISHED)


def recipe(*losses: float, error: float = 0.001, first_seed: int = 0) -> Recipe:
    seeds = range(first_seed, first_seed + len(losses))
    return Recipe(
        tuple(
            trial(f"{seed:04}", loss, error, train__seed=seed)
            for seed, loss in zip(seeds, losses, strict=True)
        )
    )


@pytest.mark.parametrize(("worse", "expected"), [(0.0097, True), (0.0099, False)])
def test_single_runs_are_judged_by_both_errors_of_evaluation(worse: float, expected: bool) -> None:
    """1.96 sqrt(0.003^2 + 0.004^2) = 0.0098."""
    best, other = recipe(3.0, error=0.003), recipe(3.0 + worse, error=0.004)

    assert tie(best, other, None) == (expected, EVALUATION)


@pytest.mark.parametrize(("worse", "expected"), [(0.0339, True), (0.0341, False)])
def test_a_measured_noise_floor_judges_by_the_runs_of_each(worse: float, expected: bool) -> None:
    """t of 4 degrees is 2.776; 2.776 * 0.01 * sqrt(1 / 1 + 1 / 2) = 0.0340."""
    floor = NoiseFloor(0.01, 0.006, 0.029, 4)
    other = recipe(3.0 + worse - 0.01, 3.0 + worse + 0.01, first_seed=5)

    assert tie(recipe(3.0), other, floor) == (expected, FLOOR)


def test_shared_seeds_are_judged_by_their_differences() -> None:
    """Losses that spread over 0.2 hide a difference of 0.01 that no seed contradicts."""
    best, other = recipe(3.0, 3.1, 3.2), recipe(3.0101, 3.11, 3.2099)

    assert tie(best, other, NoiseFloor(0.1, 0.05, 0.6, 2)) == (False, PAIRED)


def test_a_recipe_of_several_runs_is_its_mean_with_the_error_of_the_mean() -> None:
    """Of 3.0, 3.1 and 3.2 the deviation is 0.1."""
    several = recipe(3.0, 3.1, 3.2)

    assert (several.loss, several.error) == pytest.approx((3.1, 0.1 / 3**0.5))


def test_seeds_make_no_other_recipe_and_the_same_run_again_no_repeat() -> None:
    trials = [
        trial("0000", 3.3, train__epochs=1, train__seed=0),
        trial("0001", 3.1, train__epochs=2, train__seed=0),
        trial("0002", 3.1, train__epochs=1, train__seed=1),
        trial("0003", 3.3, train__epochs=1, train__seed=0),
    ]
    view = View(trials={its.name: its for its in trials})

    best, other = ranking(view)

    assert (best.name, best.loss) == ("0001", 3.1)
    assert [its.name for its in other.trials] == ["0000", "0002"]
    assert other.loss == pytest.approx(3.2)


def test_the_floor_is_that_of_finalists_that_never_diverged() -> None:
    view = View()
    for finalist, seed, loss, ending in [
        ("0001", 1, 3.0, TrialEnding.FINISHED),
        ("0001", 2, 3.2, TrialEnding.FINISHED),
        ("0002", 1, 3.0, TrialEnding.FINISHED),
        ("0002", 2, 9.0, TrialEnding.FINISHED),
        ("0002", 3, 3.1, TrialEnding.DIVERGED),
    ]:
        name = f"{finalist}-s{seed}"
        kind = FinalistRun(finalist, seed)
        view.trials[name] = TrialView(name, kind, {}, 0, [{"val_loss": loss}], ending)

    floor = floor_of(view)

    assert floor is not None
    assert (floor.deviation, floor.freedom) == (pytest.approx(0.02**0.5), 1)
