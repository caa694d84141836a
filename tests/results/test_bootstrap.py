from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweep.records import BaselineRun
from sweep.results.bootstrap import (
    Baseline,
    Estimate,
    Noise,
    by_law,
    by_lines,
    draw,
    widened,
)
from sweep.space.baseline import SLOWRUN, table_runs

SLOWRUN_RUNS = table_runs([SLOWRUN])
TOKENS = 100_000_000


@lru_cache
def slowrun(sd: float) -> Baseline:
    return draw(SLOWRUN_RUNS, Noise(sd))


def width(estimate: Estimate) -> float:
    return estimate.high.value - estimate.low.value


@settings(max_examples=60, deadline=None)
@given(st.floats(2.5, 4.2), st.sampled_from([0.001, 0.01, 0.05]))
def test_an_interval_holds_its_point_by_either_method(loss: float, sd: float) -> None:
    lines, law = by_lines(loss, slowrun(sd), TOKENS), by_law(loss, slowrun(sd), TOKENS)

    assert law is not None
    for estimate in (lines, law):
        assert estimate.low.value <= estimate.point.value <= estimate.high.value


@pytest.mark.parametrize("loss", [3.6, 3.402, 3.264, 3.195, 3.0])
def test_less_noise_makes_intervals_narrower(loss: float) -> None:
    loud, quiet = slowrun(0.01), slowrun(0.001)
    law = [by_law(loss, baseline, TOKENS) for baseline in (quiet, loud)]

    assert width(by_lines(loss, quiet, TOKENS)) < width(by_lines(loss, loud, TOKENS)) / 2
    assert law[0] is not None
    assert law[1] is not None
    assert width(law[0]) < width(law[1])


@settings(max_examples=40, deadline=None)
@given(st.floats(2.8, 4.0), st.floats(2.8, 4.0))
def test_a_lower_loss_is_never_worth_less_by_either_method(a: float, b: float) -> None:
    low, high = sorted((a, b))
    baseline = slowrun(0.01)
    laws = [by_law(loss, baseline, TOKENS) for loss in (low, high)]

    assert (
        by_lines(low, baseline, TOKENS).point.value >= by_lines(high, baseline, TOKENS).point.value
    )
    assert laws[0] is not None
    assert laws[1] is not None
    assert laws[0].point.value >= laws[1].point.value


def test_the_baseline_is_worth_one_at_its_own_loss_and_budget() -> None:
    runs = [BaselineRun(100.0 * 2**i, 1.5 + 2.0 * (2**i) ** -0.3) for i in range(5)]
    baseline = draw(runs, Noise(0.001))
    law = by_law(runs[0].loss, baseline, 100)

    assert str(by_lines(runs[0].loss, baseline, 100).point) == "1.00x"
    assert law is not None
    assert law.point.value == pytest.approx(1, abs=1e-3)


def test_noise_of_both_sides_counts() -> None:
    """With the trial's noise alone, or the baseline's alone, an interval is narrower."""
    both = slowrun(0.01)
    trial_only = draw(SLOWRUN_RUNS, Noise(1e-9))
    trial_only = Baseline(**{**vars(trial_only), "trial_B": both.trial_B})
    baseline_only = Baseline(**{**vars(both), "trial_B": 0 * both.trial_B})

    widths = [width(by_lines(3.264, b, TOKENS)) for b in (both, trial_only, baseline_only)]

    assert widths[0] > max(widths[1:])


def test_a_drawn_baseline_never_rises() -> None:
    """With more data it could always use less of it, whatever the noise says."""
    assert (np.diff(slowrun(0.5).losses_BP, axis=1) <= 0).all()


def test_repeating_a_trial_narrows_its_interval() -> None:
    once, often = (by_lines(3.264, slowrun(0.01), TOKENS, n) for n in (1, 9))
    once_by_law, often_by_law = (by_law(3.264, slowrun(0.01), TOKENS, n) for n in (1, 9))

    assert width(often) < width(once)
    assert once_by_law is not None
    assert often_by_law is not None
    assert width(often_by_law) < width(once_by_law)


def test_repeating_the_baseline_narrows_what_it_adds() -> None:
    """Nine runs at each point leave a third of its noise; the trial has none here."""
    once, often = (draw(SLOWRUN_RUNS * times, Noise(0.01)) for times in (1, 9))
    quiet = [Baseline(**{**vars(b), "trial_B": 0 * b.trial_B}) for b in (once, often)]

    widths = [width(by_lines(3.264, b, TOKENS)) for b in quiet]

    assert widths[1] == pytest.approx(widths[0] / 3, rel=0.3)


def test_what_may_lie_outside_the_baseline_is_told_with_its_side() -> None:
    assert str(by_lines(2.892, slowrun(0.001), TOKENS)).startswith("20.00x (")
    assert by_lines(2.892, slowrun(0.001), TOKENS).high.side == ">"
    assert str(by_lines(2.5, slowrun(0.001), TOKENS)) == ">20x"
    assert str(by_law(9.0, slowrun(0.001), TOKENS)) == "<2x"
    assert str(by_lines(9.0, slowrun(0.001), TOKENS)) == "<2x"


def test_an_interval_is_that_of_the_normal_where_only_the_trial_is_noisy() -> None:
    """A nat is worth 100 tokens here, so 1.96 deviations of 0.1 nats are 0.196x to either side."""
    runs = [BaselineRun(100.0, 3.0), BaselineRun(200.0, 2.0)]
    certain, noisy = draw(runs, Noise(1e-9)), draw(runs, Noise(0.1))
    baseline = Baseline(**{**vars(certain), "trial_B": noisy.trial_B})

    estimate = by_lines(2.5, baseline, 100)

    assert estimate.point.value == pytest.approx(1.5)
    assert width(estimate) == pytest.approx(2 * 0.196, abs=0.03)


def test_noise_from_few_repeats_is_itself_uncertain() -> None:
    few, many = (draw(SLOWRUN_RUNS, Noise(0.01, freedom)) for freedom in (1, 100))

    assert width(by_lines(3.264, few, TOKENS)) > 1.5 * width(by_lines(3.264, many, TOKENS))


@pytest.mark.parametrize("true", [1.5, 3.0, 5.7])
def test_an_interval_by_lines_holds_the_truth_on_a_curve_measured_at_sparse_points(
    true: float,
) -> None:
    """Lines lie above a curve: told 1.60x where 1.5x is true, with an interval of noise alone."""

    def curve(tokens: float) -> float:
        return 1.92 + 1.83 * tokens**-0.232  # Kim et al.'s standard recipe, 2509.14786

    baseline = draw([BaselineRun(m, curve(m)) for m in (1, 2, 4, 8)], Noise(0.004))
    lines, law = by_lines(curve(true), baseline, 1), by_law(curve(true), baseline, 1)

    told = widened(lines, law)

    assert lines.low.value > true
    assert told.low.value <= true <= told.high.value
    assert told.point == lines.point


def test_without_a_law_there_is_nothing_to_widen_by() -> None:
    baseline = draw([BaselineRun(1, 3.0), BaselineRun(2, 2.0)], Noise(0.01))
    lines = by_lines(2.5, baseline, 1)

    assert widened(lines, by_law(2.5, baseline, 1)) == lines
