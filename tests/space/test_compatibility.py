"""A sweep whose budget or space has changed goes on as itself, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from fakes import fake_train
from sweeps import make_space, session_in

from model.config.config import Config
from model.progress import Progress
from sweep.folder import JOURNAL
from sweep.journal import read_events, read_view
from sweep.records import Outcome
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.roles import SearchTrials
from sweep.session.storage import open_storage
from sweep.space.compatibility import problems
from sweep.space.space import Space
from sweep.view import View

# Every report is a transaction on the disk: few trials, few evaluations.
SPACE = """
name: fake
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-2, log: true}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1, log: true}
  train.epochs: [1, 2, 4]
budget: {trials: 5}
sampler: {startup_trials: 2}
fixed:
  train.evals: 2
"""
MORE_EPOCHS = ("train.epochs: [1, 2, 4]", "train.epochs: [1, 2, 4, 8]")
PRIOR = "prior: {at: 2, within: 2x}"
WIDER_LR = ("min: 1e-3, max: 1e-2", "min: 1e-4, max: 3e-2")


class Vanish(BaseException):
    """As kill -9 looks from inside."""


def edited(*edits: tuple[str, str]) -> str:
    text = SPACE
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def drive(folder: Path, space: Space, train: local.Train = fake_train) -> View:
    """One driver over a ledger in a file."""
    (folder / "run").mkdir(exist_ok=True)
    session = session_in(folder / "run", space, open_storage(folder / "run" / "study.db"))
    try:
        with Interrupt() as interrupt:
            local.run(session, train, folder / "run" / "trials", interrupt)
        session.close(session.end)
    except Vanish:
        session.journal.close()
    return session.journal.view


def vanishing(name: str) -> local.Train:
    def train(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            yield progress
            if folder.name == name and progress.basis_points == 5000:
                raise Vanish

    return train


def studies(folder: Path) -> dict[str, optuna.Study]:
    storage = open_storage(folder / "run" / "study.db")
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def refusals(folder: Path, before: str, after: str, view: View) -> list[str]:
    old, new = make_space(folder, before), make_space(folder, after)
    return problems(old.resolved(), new.resolved(), new, view)


def test_more_values_and_a_wider_range_keep_every_trial_known(tmp_path: Path) -> None:
    """Optuna itself refuses other choices for a parameter that it has seen."""
    first = drive(tmp_path, make_space(tmp_path, SPACE))
    before = studies(tmp_path)["search"].trials
    wider = make_space(tmp_path, edited(MORE_EPOCHS, WIDER_LR), "budget.trials=14")
    assert refusals(tmp_path, SPACE, edited(MORE_EPOCHS, WIDER_LR), first) == []

    view = drive(tmp_path, wider)

    after = studies(tmp_path)["search 2"].trials
    kept = after[: len(before)]
    assert [t.params for t in kept] == [t.params for t in before]
    assert [(t.state, t.value, t.intermediate_values) for t in kept] == [
        (t.state, t.value, t.intermediate_values) for t in before
    ]
    assert [t.datetime_complete for t in kept] == [t.datetime_complete for t in before]
    grown = after[-1].distributions["train.epochs"]
    assert {t.distributions["train.epochs"] for t in after} == {grown}
    assert 8 in {t.params["train.epochs"] for t in after[len(before) :]}
    assert len(view.searches()) == 14
    names = [t.name for t in view.searches()]
    assert len(set(names)) == 14


def test_a_trial_left_by_a_killed_driver_goes_on_in_the_wider_space(tmp_path: Path) -> None:
    """Kill, widen, kill again, go on."""
    drive(tmp_path, make_space(tmp_path, SPACE), vanishing("0002"))
    left = read_view(tmp_path / "run" / JOURNAL).trials["0002"]
    assert left.outcome is None
    wider = make_space(tmp_path, edited(MORE_EPOCHS, WIDER_LR), "budget.trials=8")

    drive(tmp_path, wider, vanishing("0006"))
    view = drive(tmp_path, wider)

    assert view.trials["0002"].settings == left.settings
    assert view.trials["0002"].outcome is not None
    assert len(view.searches()) == 8
    assert all(t.outcome in (Outcome.COMPLETE, Outcome.PRUNED) for t in view.searches())
    seen = [(t.name, o["basis_points"]) for t in view.searches() for o in t.observations]
    assert len(seen) == len(set(seen))


def test_a_study_half_rewritten_by_a_crash_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive(tmp_path, make_space(tmp_path, SPACE))
    before = [t.params for t in studies(tmp_path)["search"].trials]
    wider = make_space(tmp_path, edited(MORE_EPOCHS), "budget.trials=6")
    add, left = optuna.Study.add_trial, iter(range(3))

    def crash(study: optuna.Study, trial: Any) -> None:
        if next(left, None) is None:
            raise Vanish
        add(study, trial)

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Study, "add_trial", crash)
        storage = open_storage(tmp_path / "run" / "study.db")
        with pytest.raises(Vanish):
            SearchTrials(storage, wider)
    assert len(studies(tmp_path)["search 2"].trials) == 3

    view = drive(tmp_path, wider)

    after = studies(tmp_path)["search 2"].trials
    assert [t.params for t in after[:5]] == before
    assert len(after) == 6
    assert len(view.searches()) == 6


def test_a_setting_that_was_fixed_may_be_searched_around_its_value(tmp_path: Path) -> None:
    before = edited(("  train.epochs: [1, 2, 4]\n", "")) + "  train.epochs: 2\n"
    view = drive(tmp_path, make_space(tmp_path, before))
    assert refusals(tmp_path, before, SPACE, view) == []

    view = drive(tmp_path, make_space(tmp_path, SPACE, "budget.trials=12"))

    trials = studies(tmp_path)["search 2"].trials
    assert [t.params["train.epochs"] for t in trials[:5]] == [2] * 5
    assert {t.params["train.epochs"] for t in trials} > {2}
    assert len(view.searches()) == 12


def test_a_new_alternative_joins_those_there_were(tmp_path: Path) -> None:
    drive(tmp_path, make_space(tmp_path, SPACE))
    lion = "  optim.lr:\n    - {when: {optim.name: lion}, min: 1e-4, max: 1e-3, log: true}\n"
    after = edited(("[adamw, muon]", "[adamw, muon, lion]"), ("  optim.lr:\n", lion))

    view = drive(tmp_path, make_space(tmp_path, after, "budget.trials=14"))

    assert "lion" in {t.settings["optim.name"] for t in view.searches()}
    assert len(view.searches()) == 14


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (
            [("train.epochs: [1, 2, 4]", "train.epochs: [8, 16]")],
            "search: trial 0000 has train.epochs .*, not one of [8, 16]",
        ),
        (
            [("min: 1e-3, max: 1e-2", "min: 9.9e-3, max: 1e-2")],
            "search: trial 000. has optim.lr .*, not within 0.0099 to 0.01",
        ),
        (
            [("fixed:", "baseline: {seeds: 2}\nfixed:")],
            "baseline: seeds was 1, is 2",
        ),
        (
            [("fixed:", "fixed:\n  gpt.dropout: 0.1")],
            "fixed: gpt.dropout was 0.0, is 0.1",
        ),
        (
            [("  train.epochs: [1, 2, 4]\n", ""), ("fixed:", "fixed:\n  train.epochs: 3")],
            "search: trial 0000 would have another train.epochs now",
        ),
    ],
)
def test_what_old_trials_could_not_have_come_from_is_refused(
    edits: list[tuple[str, str]], message: str, tmp_path: Path
) -> None:
    import re

    view = drive(tmp_path, make_space(tmp_path, SPACE))

    found = refusals(tmp_path, SPACE, edited(*edits), view)

    pattern = re.escape(message).replace(r"\.\*", ".*").replace(r"000\.", "000.")
    assert re.match(pattern, found[0]), found
    assert len(found) <= 4


def test_a_narrower_space_is_fine_where_every_trial_still_fits(tmp_path: Path) -> None:
    view = drive(tmp_path, make_space(tmp_path, SPACE))
    rates = [t.settings["optim.lr"] for t in view.searches() if "adamw" in t.searched.values()]
    after = edited(("min: 1e-3, max: 1e-2", f"min: 1e-3, max: {max(rates)}"))  # type: ignore[type-var]

    assert refusals(tmp_path, SPACE, after, view) == []


def test_another_smallest_data_budget_needs_another_baseline(tmp_path: Path) -> None:
    searched = "train.epochs: [1, 2, 4]\n  data.train_tokens: "
    peers = ("sampler:", "prune: {rule: none}\nbaseline: {multiples: [1]}\nsampler:")
    before = edited(("train.epochs: [1, 2, 4]", searched + "[65536, 131072]"), peers)
    after = before.replace("[65536, 131072]", "[32768, 65536, 131072]")
    view = drive(tmp_path, make_space(tmp_path, before))

    found = refusals(tmp_path, before, after, view)

    assert found == [
        "search: the baseline was measured in multiples of 65536 training tokens, the smallest "
        "budget is now 32768"
    ]


def test_the_default_spelled_out_is_no_change(tmp_path: Path) -> None:
    view = drive(tmp_path, make_space(tmp_path, SPACE))

    assert refusals(tmp_path, SPACE, SPACE + "  gpt.dropout: 0.0\n", view) == []


def test_seeds_that_a_sweep_counted_up_stay_with_their_trials(tmp_path: Path) -> None:
    text = SPACE.replace("budget: {trials: 5}", "budget: {trials: 4}\nrepeat: 2")
    before = drive(tmp_path, make_space(tmp_path, text))
    after = text.replace(*MORE_EPOCHS)
    assert refusals(tmp_path, text, after, before) == []

    view = drive(tmp_path, make_space(tmp_path, after, "budget.trials=6"))

    told = studies(tmp_path)["search 2"].trials
    assert [t.user_attrs["settings"]["train.seed"] for t in told[:4]] == [
        t.settings["train.seed"] for t in before.searches()
    ]
    assert {t.settings["train.seed"] for t in before.searches()} == {0, 1}
    assert len(view.searches()) == 6


def test_points_may_be_added_but_not_replaced(tmp_path: Path) -> None:
    text = SPACE + "points: [{train.epochs: 4}]\n"
    view = drive(tmp_path, make_space(tmp_path, text, "budget.trials=2"))
    more = text.replace("[{train.epochs: 4}]", "[{train.epochs: 4}, {train.epochs: 1}]")
    other = text.replace("[{train.epochs: 4}]", "[{train.epochs: 1}]")

    assert refusals(tmp_path, text, more, view) == []
    (refused,) = refusals(tmp_path, text, other, view)
    assert refused.startswith("points: was ")


def test_a_prior_may_come_and_go_while_a_sweep_is_continued(tmp_path: Path) -> None:
    """It says what to propose; the study stays the one it was."""
    view = drive(tmp_path, make_space(tmp_path, SPACE, "budget.trials=2"))
    stated = edited(("train.epochs: [1, 2, 4]", f"train.epochs: {{values: [1, 2, 4], {PRIOR}}}"))
    space = make_space(tmp_path, stated, "budget.trials=3")

    assert refusals(tmp_path, SPACE, stated, view) == []
    assert refusals(tmp_path, stated, SPACE, view) == []
    assert len(drive(tmp_path, space).searches()) == 3
    assert "search 2" not in studies(tmp_path)


def test_a_warm_start_may_come_and_go_while_a_sweep_is_continued(tmp_path: Path) -> None:
    """Sweeps of before there were any have nothing of it."""
    space = make_space(tmp_path, SPACE, "sampler.name=surface")
    warm = make_space(tmp_path, SPACE, "sampler.name=surface", "sampler.warm_start=runs/old")
    before = space.resolved()
    del before["sampler"]["warm_start"]

    assert problems(before, warm.resolved(), warm, View()) == []
    assert problems(warm.resolved(), space.resolved(), space, View()) == []


def test_a_section_that_had_another_name_is_compared_under_its_new_one(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE)
    before = space.resolved()
    before["reference"] = before.pop("baseline")

    assert problems(before, space.resolved(), space, View()) == []


def test_files_of_the_same_digest_may_lie_elsewhere(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE)

    def told(path: str, digest: str) -> list[str]:
        resolved = space.resolved()
        own = {"gpt.init": path, "gpt.init_digest": digest}
        before = {**resolved, "fixed": {**resolved["fixed"], "gpt.init": "a"}}
        before["fixed"]["gpt.init_digest"] = "0123"
        return problems(before, {**resolved, "fixed": {**resolved["fixed"], **own}}, space, View())

    assert told("b", "0123") == []
    assert told("b", "4567") == [
        "fixed: gpt.init was 'a', is 'b'",
        "fixed: gpt.init_digest was '0123', is '4567'",
    ]
    assert told("b", "") != []


CONSTRAINED = """
name: fake
search:
  train.epochs: [1, 2]
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
constraints: [gpt.parameters <= 400k, train.seconds <= 1h]
budget: {trials: 2}
fixed: {train.evals: 2}
"""


def test_a_space_with_constraints_grows_without_a_warning_of_optuna(tmp_path: Path) -> None:
    """Warnings are errors here; and what was measured against the constraints is still known."""
    drive(tmp_path, make_space(tmp_path, CONSTRAINED))
    wider = make_space(
        tmp_path, CONSTRAINED.replace("[1, 2]", "[1, 2, 4]").replace("trials: 2", "trials: 3")
    )

    view = drive(tmp_path, wider)

    assert view.count(Outcome.COMPLETE) + view.count(Outcome.PRUNED) == 3
    study = SearchTrials(open_storage(tmp_path / "run" / "study.db"), wider).ledger.study
    assert [set(trial.constraints) for trial in study.trials] == [
        {"gpt.parameters <= 400000", "train.seconds <= 3600"}
    ] * 3


@pytest.mark.parametrize("before", ["[]", "[1, 4]"])
def test_multiples_of_the_baseline_are_added_to_a_finished_sweep(
    before: str, tmp_path: Path
) -> None:
    """`>4x` cannot be told apart from more without: only the points that are new are measured."""
    text = f"{SPACE}baseline: {{multiples: {before}}}\n"
    old = make_space(tmp_path, text)
    ended = drive(tmp_path, old)
    space = make_space(tmp_path, text.replace(before, "[1, 4, 8]"))
    measured = sum(trial.role == "baseline" for trial in ended.trials.values())

    assert problems(old.resolved(), space.resolved(), space, ended) == []
    view = drive(tmp_path, space)

    assert view.baseline is not None
    assert [tokens for tokens, _ in view.baseline] == [65_536, 4 * 65_536, 8 * 65_536]
    names = [trial.name for trial in view.trials.values() if trial.role == "baseline"]
    assert names[measured:] == ["baseline-8x", "baseline-4x", "baseline-1x"][: 3 - measured]
    assert view.searches() == drive(tmp_path, space).searches()
    events = [event for event, _ in read_events(tmp_path / "run" / JOURNAL)]
    assert sum(event["event"] == "baseline" for event in events) == 1 + bool(measured)


def test_multiples_of_the_baseline_are_not_taken_away(tmp_path: Path) -> None:
    old = make_space(tmp_path, SPACE + "baseline: {multiples: [1, 4]}")
    new = make_space(tmp_path, SPACE + "baseline: {multiples: [1, 8]}")

    (reason,) = problems(old.resolved(), new.resolved(), new, View())

    assert reason == "baseline: multiples was [1, 4], is [1, 8]"
