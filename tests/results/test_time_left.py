"""Journals written by hand, a minute to a trial of 600 FLOPs unless it says otherwise."""

from __future__ import annotations

import math
from typing import Any

import pytest

from sweep.results.report import counts, took_text
from sweep.results.time_left import seconds_left, speed_text, time_left_text
from sweep.view import View

MINUTE = 60_000  # milliseconds
BASELINE = [[{"multiple": 1}, 600.0], [{"multiple": 2}, 1200.0]]


def begin(view: View, time: int = 0, **header: Any) -> None:
    about = {"name": "x", "trials": 4, "train_tokens": 1, "data": "0", "ray": True}
    view.apply({"event": "sweep", "time": time, **about, **header})


def ready(view: View, slots: int, time: int = 0) -> None:
    view.apply({"event": "ready", "time": time, "slots": slots})


def trial(view: View, name: str, time: int, role: str = "search", **fields: Any) -> None:
    searched = fields.pop("searched", {"train.epochs": 1})
    about = {"role": role, "searched": searched, "settings": {}, "flops": 600.0, **fields}
    view.apply({"event": "trial", "trial": name, "time": time, **about})


def observe(view: View, name: str, time: int, part: int, **fields: Any) -> None:
    about = {"basis_points": part, "step": part, "val_loss": 3.0, "val_loss_error": 0.1}
    about |= {"seconds": part * 60 / 10_000, "tokens": part, "epoch": 1.0}
    view.apply({"event": "observation", "trial": name, "time": time, **about, **fields})


def end(view: View, name: str, time: int) -> None:
    ended = {"outcome": "complete", "ending": "finished", "reason": ""}
    view.apply({"event": "outcome", "trial": name, "time": time, **ended})


def whole(view: View, name: str, begun: int, **fields: Any) -> None:
    trial(view, name, begun, **fields)
    observe(view, name, begun + MINUTE, 10_000)
    end(view, name, begun + MINUTE)


def test_until_there_are_machines_it_says_what_it_waits_for() -> None:
    view = View()
    begin(view)

    assert time_left_text(view, MINUTE) == "starting Ray"
    ready(view, 2)
    assert time_left_text(view, MINUTE) == "time left unknown"


def test_the_time_left_counts_baselines_and_every_trial_to_come() -> None:
    """A minute for 600 FLOPs: a half and two minutes of baseline, then 4 trials of one each."""
    view = View()
    begin(view, baseline_runs=BASELINE, expected_flops=600.0)
    ready(view, 1)
    trial(view, "baseline-1x", 0, role="baseline", searched={"multiple": 1})
    observe(view, "baseline-1x", MINUTE // 2, 5_000)

    assert seconds_left(view, MINUTE // 2) == pytest.approx(30 + 120 + 4 * 60)
    assert seconds_left(view, MINUTE // 2 + 10_000) == pytest.approx(20 + 120 + 4 * 60)
    assert time_left_text(view, MINUTE // 2) == "about 6:30 left"
    assert counts(view).startswith("baseline 0/2; 0/4 trials: ")


def test_what_an_earlier_sweep_measured_takes_no_time() -> None:
    view = View()
    begin(view, baseline_runs=BASELINE, expected_flops=600.0)
    recalled = {"searched": {"multiple": 2}, "settings": {"data.train_tokens": 2}, "val_loss": 3.0}
    view.apply({"event": "recalled", "time": 0, **recalled})
    ready(view, 1)
    whole(view, "baseline-1x", 0, role="baseline", searched={"multiple": 1})

    assert counts(view).startswith("baseline 2/2; ")
    assert seconds_left(view, MINUTE) == pytest.approx(4 * 60)


def test_trials_that_run_beside_each_other_share_the_time() -> None:
    view = View()
    begin(view)
    ready(view, 2)
    whole(view, "0000", 0)
    trial(view, "0001", MINUTE)
    trial(view, "0002", MINUTE)
    observe(view, "0001", MINUTE + MINUTE // 2, 5_000)

    assert seconds_left(view, MINUTE + MINUTE // 2) == pytest.approx(90)  # of 0001, then of 0003


def test_starting_and_evaluating_is_time_that_is_waited() -> None:
    """Twelve seconds of training took a minute by the clock."""
    view = View()
    begin(view)
    ready(view, 1)
    trial(view, "0000", 0)
    observe(view, "0000", MINUTE, 10_000, seconds=12.0)
    end(view, "0000", MINUTE)

    assert seconds_left(view, MINUTE) == pytest.approx(3 * 60)


def test_a_night_between_two_drivers_is_no_time_of_the_trial() -> None:
    view = View()
    begin(view)
    ready(view, 1)
    trial(view, "0000", 0)
    observe(view, "0000", MINUTE // 2, 5_000, seconds=30.0)
    night = 600 * MINUTE
    begin(view, night)
    ready(view, 1, night)
    trial(view, "0000", night)
    observe(view, "0000", night + MINUTE // 2, 10_000, seconds=60.0)
    end(view, "0000", night + MINUTE // 2)

    assert seconds_left(view, night + MINUTE // 2) == pytest.approx(3 * 60)


def test_what_comes_after_the_last_trial_is_not_called_time_left() -> None:
    """Such as the look at the test split, and Ray's end."""
    view = View()
    begin(view, trials=1)
    ready(view, 1)
    whole(view, "0000", 0)

    assert time_left_text(view, MINUTE) == "finishing"
    view.apply({"event": "end", "time": MINUTE, "ending": "trials spent", "reason": ""})
    assert time_left_text(view, MINUTE) == ""


def test_a_budget_of_hours_ends_it_sooner() -> None:
    view = View()
    begin(view, budget={"hours": 2 / 60})
    ready(view, 1)
    whole(view, "0000", 0)

    assert seconds_left(view, MINUTE) == pytest.approx(60)


def test_a_driver_that_finds_nothing_to_do_spends_no_hours() -> None:
    view = View()
    begin(view, trials=1)
    ready(view, 1)
    whole(view, "0000", 0)
    view.apply({"event": "end", "time": MINUTE, "ending": "trials spent", "reason": ""})
    begin(view, 10 * MINUTE, trials=1)
    view.apply({"event": "end", "time": 20 * MINUTE, "ending": "trials spent", "reason": ""})

    assert view.wall_seconds(view.role) == 60


def test_the_report_says_how_long_the_search_took() -> None:
    view = View()
    begin(view, trials=1)
    ready(view, 1)
    whole(view, "0000", 0)
    view.apply({"event": "end", "time": 90_000, "ending": "trials spent", "reason": ""})

    assert took_text(view) == "; it took 1:30"


def confirming() -> View:
    """Two finalists in a confirmation of four runs at most, the first of which takes a minute."""
    view = View()
    begin(view)
    ready(view, 1)
    whole(view, "0000", 0)
    whole(view, "0001", MINUTE)
    begin(view, 2 * MINUTE, role="confirm")
    plan = {"finalists": ["0000", "0001"], "seeds": 2, "until_separated": False}
    view.apply({"event": "confirm", "time": 2 * MINUTE, **plan, "allocation": "optimal"})
    ready(view, 1, 2 * MINUTE)
    searched = {"finalist": "0000", "seed": 1}
    whole(view, "0000-s1", 2 * MINUTE, role="confirm", searched=searched)
    return view


def test_a_confirmation_says_how_many_runs_there_may_be_and_how_long_they_take() -> None:
    view = confirming()

    assert counts(view) == "1 of at most 4 confirming runs ended"
    assert time_left_text(view, 3 * MINUTE) == "at most 3:00 left"


@pytest.mark.parametrize(
    "asked",
    [
        {"event": "members", "of": "0000", "members": 3},
        {"event": "students", "of": "0000", "runs": ["0000-s1", "0000-s2", "0000-s3"]},
    ],
)
def test_members_and_students_are_counted_and_not_an_older_confirmation(
    asked: dict[str, Any],
) -> None:
    """One has ended, one has a minute to go, and one of a minute has not begun."""
    view = confirming()
    begin(view, 9 * MINUTE, role="confirm")
    ready(view, 1, 9 * MINUTE)
    view.apply({"time": 9 * MINUTE, **asked})
    trial(view, "0000-s2", 9 * MINUTE, role="confirm", searched={"finalist": "0000", "seed": 2})

    assert counts(view).startswith(f"1 of 3 {asked['event']} ended")
    assert time_left_text(view, 9 * MINUTE) == "at most 2:00 left"


def test_the_live_view_of_a_confirmation_has_every_mean_so_far() -> None:
    from sweep.run.console import best, describe

    view = confirming()
    assert view.confirm

    assert best(view) == "means over fresh seeds: 0000 3.0000 of 1 (lowest)"
    assert describe(view, view.confirm) == (
        "sweep x: its 2 best recipes run again with fresh seeds, at most 4 runs"
    )


def test_speed_is_that_of_the_latest_stretch_of_each_running_trial() -> None:
    """5000 tokens in 30 s, then in 5 s; another's first half came with a trunk."""
    view = View()
    begin(view)
    ready(view, 2)
    trial(view, "0000", 0)
    observe(view, "0000", MINUTE, 5_000)
    assert speed_text(view) == "170 tokens/s"
    observe(view, "0000", MINUTE, 10_000, seconds=35.0)
    trial(view, "0001", 0)
    observe(view, "0001", MINUTE, 8_000, trunk_step=4_000, seconds=10.0)

    assert speed_text(view) == "1,400 tokens/s"
    end(view, "0000", MINUTE)
    end(view, "0001", MINUTE)
    assert speed_text(view) == ""


def test_journals_of_earlier_versions_say_nothing_of_what_is_to_come() -> None:
    view = View()
    begin(view)
    ready(view, 1)

    assert math.isnan(seconds_left(view, 0))
    assert counts(view).startswith("0/4 trials")
