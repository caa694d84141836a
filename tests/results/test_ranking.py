"""Which recipes a search cannot tell from its best, with limits worked out by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from model.clusters import Clusters
from model.config.setting import Value
from sweep.records import FinalistRun, Proposal, TrialEnding
from sweep.results.paired import total
from sweep.results.ranking import (
    ASSUMED,
    EVALUATION,
    FLOOR,
    PAIRED,
    TEXT,
    Recipe,
    Repeats,
    gaps,
    ranking,
    repeats_of,
    variances,
)
from sweep.results.significance import NoiseFloor
from sweep.view import TrialView, View

NO_REPEATS = Repeats()


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


def kept(runs: Recipe, losses: list[float]) -> Recipe:
    """The recipe of one run that has kept these losses of three documents of 100 tokens."""
    (only,) = runs.trials
    assert only.last is not None
    only.last["clusters"] = asdict(Clusters("documents", (100, 100, 100), tuple(losses)))
    return runs


def gap(best: Recipe, other: Recipe, repeats: Repeats = NO_REPEATS) -> tuple[float, list[str]]:
    """The standard error of their difference, and what it was taken from."""
    parts = variances([best, other], other, repeats)
    return total(*parts.values()).value ** 0.5, list(parts)


def test_runs_that_kept_only_their_losses_are_judged_by_both_errors_of_evaluation() -> None:
    """And by 0.004 between seeds, which is assumed: 0.03^2 + 0.04^2 + 2 x 0.004^2."""
    best, other = recipe(3.0, error=0.03), recipe(3.1, error=0.04)

    expected = (0.05**2 + 2 * 0.004**2) ** 0.5
    assert gap(best, other) == (pytest.approx(expected), [ASSUMED, EVALUATION])


def test_on_a_text_without_end_single_runs_still_have_the_noise_of_their_seeds() -> None:
    """Ten million tokens tell two runs apart that differ by their seeds alone."""
    best, other = kept(recipe(3.0), [1.0, 5.0, 3.0]), kept(recipe(3.001), [1.001, 5.001, 3.001])

    error, by = gap(best, other)

    assert (error, by) == (pytest.approx(0.004 * 2**0.5), [ASSUMED, TEXT])


def test_a_measured_noise_floor_judges_by_the_runs_of_each() -> None:
    """0.01 * sqrt(1 / 1 + 1 / 2) = 0.01225."""
    repeats = Repeats(NoiseFloor(0.01, 0.006, 0.029, 4))
    other = recipe(3.0, 3.2, first_seed=5)

    assert gap(recipe(3.0), other, repeats) == (pytest.approx(0.01 * 1.5**0.5), [FLOOR])


def test_shared_seeds_are_judged_by_their_differences() -> None:
    """Losses that spread over 0.2; differences of 0.0101, 0.01 and 0.0099."""
    best, other = recipe(3.0, 3.1, 3.2), recipe(3.0101, 3.11, 3.2099)

    error, by = gap(best, other, Repeats(NoiseFloor(0.1, 0.05, 0.6, 2)))

    assert (error, by) == (pytest.approx(0.0001 / 3**0.5), [PAIRED])


def test_runs_on_one_text_are_judged_by_how_their_difference_varies_over_it() -> None:
    """Both find the second document 4 nats harder; they differ by 0.1, 0.2 and 0.3 on the three."""
    best = kept(recipe(3.0), [1.0, 5.0, 3.0])
    other = kept(recipe(3.2), [1.1, 5.2, 3.3])

    error, by = gap(best, other)

    expected = (0.1**2 / 3 + 2 * 0.004**2) ** 0.5
    assert (error, by) == (pytest.approx(expected), [ASSUMED, TEXT])


def test_seeds_and_text_add_up_and_what_both_have_counts_once() -> None:
    """Of 0.0133 by text, 2 x 0.002 is in the noise floor, as runs of one recipe showed."""
    best = kept(recipe(3.0), [1.0, 5.0, 3.0])
    other = kept(recipe(3.4), [1.2, 5.4, 3.6])
    floor = NoiseFloor(0.1, 0.06, 0.29, 4)

    parts = variances([best, other], other, Repeats(floor, text=0.002))

    assert {by: part.value for by, part in parts.items()} == {
        FLOOR: pytest.approx(2 * 0.1**2),
        TEXT: pytest.approx(0.2**2 / 3 - 2 * 0.002),
    }


@pytest.mark.parametrize("others", [1, 10])
def test_the_more_trials_are_compared_the_larger_the_gap_that_luck_explains(others: int) -> None:
    """The lowest of eleven is further below the truly best by chance than the lower of two.

    Each is 0.1 behind, four standard errors of three documents: 2.9 % for one, alone.
    """
    view = View()
    for number in range(others + 1):
        its = kept(recipe(3.0), [3.0 + 0.1 * (number > 0) * part for part in (0.567, 1.0, 1.433)])
        trial_view = replace(its.trials[0], name=f"{number:04}")
        trial_view.settings["train.epochs"] = number
        trial_view.observations[0]["val_loss"] = 3.0 + 0.1 * (number > 0)
        view.trials[trial_view.name] = trial_view

    judged = gaps(view)

    assert len(judged) == others
    assert {its.tied for its in judged} == {others > 1}


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

    floor = repeats_of(view, []).floor

    assert floor is not None
    assert (floor.deviation, floor.freedom) == (pytest.approx(0.02**0.5), 1)
