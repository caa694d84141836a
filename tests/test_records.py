"""What a journal tells, also one that an earlier version wrote."""

from __future__ import annotations

import pytest

from sweep.records import Ending, Outcome, TrialEnding
from sweep.view import View

TRIAL = {"event": "trial", "trial": "0000", "role": "search", "searched": {}, "settings": {}}


def folded(*events: dict[str, object]) -> View:
    view = View()
    for event in events:
        view.apply({"time": 0, **event})
    return view


@pytest.mark.parametrize(
    ("sentence", "ending"),
    [
        ("budget spent", Ending.TRIALS_SPENT),
        ("budget spent: 2 of 2 hours", Ending.BUDGET_SPENT),
        ("budget spent: nothing that is left fits", Ending.NOTHING_FITS),
        ("target loss 2.59 reached", Ending.TARGET_REACHED),
        ("nothing left to try around the best", Ending.NOTHING_LEFT),
        ("every point of the grid was tried", Ending.NOTHING_LEFT),
        ("confirmed", Ending.CONFIRMED),
        ("some runs failed", Ending.RUNS_FAILED),
        ("too many trials failed", Ending.GAVE_UP),
        ("interrupted", Ending.INTERRUPTED),
        ("disk full", Ending.DISK_FULL),
        ("failed", Ending.CRASHED),
        ("a sentence that nobody knows", Ending.CRASHED),
    ],
)
def test_the_sentence_of_an_older_journal_becomes_an_ending(sentence: str, ending: Ending) -> None:
    end = folded({"event": "end", "reason": sentence}).end

    assert end is not None
    assert end.ending is ending
    assert str(end) == sentence


@pytest.mark.parametrize("ending", Ending)
def test_the_ending_of_a_sweep_is_read_whatever_its_sentence(ending: Ending) -> None:
    end = folded({"event": "end", "ending": str(ending), "reason": "for a reason"}).end

    assert end is not None
    assert (end.ending, str(end)) == (ending, "for a reason")


@pytest.mark.parametrize(
    ("outcome", "sentence", "ending"),
    [
        ("complete", "", TrialEnding.FINISHED),
        ("pruned", "diverged at step 7", TrialEnding.DIVERGED),
        ("pruned", "would take 250 s: train.seconds <= 180", TrialEnding.TOO_SLOW),
        ("pruned", "breaks gpt.parameters <= 1M", TrialEnding.INFEASIBLE),
        ("pruned", "behind its peers at 25 %", TrialEnding.BEHIND),
        ("failed", "RuntimeError: diverged", TrialEnding.FAILED),
    ],
)
def test_the_sentence_of_an_older_trial_becomes_an_ending(
    outcome: str, sentence: str, ending: TrialEnding
) -> None:
    ended = {"event": "outcome", "trial": "0000", "outcome": outcome, "reason": sentence}

    trial = folded(TRIAL, ended).trials["0000"]

    assert (trial.ending, trial.reason) == (ending, sentence)
    assert trial.outcome is Outcome(outcome)
