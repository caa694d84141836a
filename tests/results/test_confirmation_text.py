"""Confirming runs that kept their losses by document: what other text would have said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from model.clusters import Clusters, Variance
from sweep.results.confirmation import ConfirmationPlan, ConfirmationState, state_of
from sweep.results.confirmation_report import noise_text, table_of, verdict
from sweep.results.significance import Reach, compare

DOCUMENTS = 33
PLAN = ConfirmationPlan(("a", "b"), 12, until_separated=True)
Losses = dict[str, dict[int, float]]
Kept = dict[str, dict[int, Clusters]]


def drawn(
    rng: np.random.Generator, seed: float, text: float, both: float, gap: float = 0.0
) -> tuple[Losses, Kept]:
    """Two finalists whose losses deviate by seed, by document and by both; `b` is `gap` worse."""
    shape = (2, PLAN.seeds, DOCUMENTS)
    loss_KSC = rng.normal(0, seed, (*shape[:2], 1)) + rng.normal(0, text, (2, 1, DOCUMENTS))
    loss_KSC = 3 + loss_KSC + rng.normal(0, both, shape) + np.array([0, gap])[:, None, None]
    losses: Losses = {}
    kept: Kept = {}
    for name, loss_SC in zip("ab", loss_KSC, strict=True):
        losses[name] = {s: float(loss_C.mean()) for s, loss_C in enumerate(loss_SC, 1)}
        kept[name] = {
            s: Clusters("documents", (500,) * DOCUMENTS, tuple(loss_C.tolist()))
            for s, loss_C in enumerate(loss_SC, 1)
        }
    return losses, kept


def ended(losses: Losses, kept: Kept) -> ConfirmationState:
    return state_of(PLAN, losses, kept=kept)


@pytest.mark.parametrize("seed", [0.0, 0.01], ids=["text alone", "seeds too"])
def test_twins_are_told_apart_one_time_in_twenty_whatever_text_they_were_judged_on(
    seed: float,
) -> None:
    """Without the text's part it is half of the time, as more seeds only show this text better."""
    rng, tries = np.random.default_rng(0), 150
    false = alone = 0
    for _ in range(tries):
        losses, kept = drawn(rng, seed, text=0.05, both=0.02)
        false += not ended(losses, kept).tied
        alone += not ended(losses, {}).tied

    assert false <= 0.1 * tries
    assert alone >= (0.1 if seed else 0.4) * tries


def test_a_difference_that_is_there_on_any_text_is_found_with_few_seeds() -> None:
    losses, kept = drawn(np.random.default_rng(0), seed=0.002, text=0.01, both=0.01, gap=0.1)

    now = ended(losses, kept)

    assert (now.leader, now.tied, now.over) == ("a", (), True)
    assert max(map(len, now.losses.values())) <= 5


def test_no_seed_is_spent_on_what_the_text_cannot_tell_and_the_report_says_so() -> None:
    """Seeds hardly differ, documents by 0.2: their mean is known to 0.05 and the gap is 0.01."""
    losses, kept = drawn(np.random.default_rng(1), seed=0.0005, text=0.2, both=0.0005, gap=0.01)
    losses["b"] = {s: losses["a"][s] + 0.01 for s in losses["a"]}

    now = ended(losses, kept)

    assert now.over
    assert now.by_text == now.tied != ()
    assert max(map(len, now.losses.values())) < PLAN.seeds
    assert f"no seed will tell {now.tied[0]} from {now.leader}" in noise_text(now)
    assert "tied with" in table_of(now)


def test_runs_that_kept_nothing_are_compared_on_their_text_as_before() -> None:
    losses, kept = drawn(np.random.default_rng(0), seed=0.01, text=0.05, both=0.05)

    assert ended(losses, {}) == state_of(PLAN, losses)
    assert ended(losses, {"a": kept["a"]}) == state_of(PLAN, losses)


def test_the_interval_at_the_level_of_p_ends_at_none() -> None:
    losses, _ = drawn(np.random.default_rng(0), seed=0.01, text=0.0, both=0.0, gap=0.02)
    texts = {("a", "b"): Variance(0.003**2, 32)}
    (pair,) = compare(losses, texts=texts)

    (again,) = compare(losses, level=pair.p, texts=texts)

    assert min(abs(again.low), abs(again.high)) == pytest.approx(0, abs=1e-6)
    assert pair.text == pytest.approx(2.037 * 0.003, rel=1e-3)  # t of 32 degrees


def test_the_text_is_charged_once_and_seeds_at_each_look() -> None:
    """Seeds alone: half at a tenth of the level. Text alone: half at the whole of it."""
    seeds, text = Variance(0.01**2, 20), Variance(0.02**2, 20)

    both = Reach(seeds, 0.1, text).half(0.05)

    alone = Reach(seeds, 0.1, Variance(0, math.inf)).half(0.05)
    assert alone == pytest.approx(0.01 * 3.153, rel=1e-3)
    assert both == pytest.approx(math.hypot(alone, 0.02 * 2.086), rel=1e-3)


def test_a_finalist_that_one_run_judges_is_open_and_not_tied() -> None:
    """A difference of one seed has no error: before, it was called tied with the best."""
    plan = ConfirmationPlan(("a", "b", "c"), 4, until_separated=False)

    begun = state_of(plan, {"a": {1: 3.0, 2: 3.1}, "b": {1: 3.01}})
    judged = state_of(plan, {"a": {1: 3.0, 2: 3.1}, "b": {1: 3.01, 2: 3.11}})

    assert verdict(begun, "b") == "open"
    assert verdict(begun, "c") == "open"
    assert verdict(judged, "b").startswith(("tied", "worse"))
