from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import failing_train, fake_train
from sweeps import finished, make_space

from model.clusters import Clusters
from model.config.config import Config
from model.config.setting import Value
from model.progress import Progress
from sweep.cli.main import cli
from sweep.format import clock_text
from sweep.records import Proposal, TrialEnding
from sweep.results import report
from sweep.run.console import PlainConsole, progress_line
from sweep.session.session import Session
from sweep.space.space import Space
from sweep.view import TrialView, View

Open = Callable[..., Session]


def test_the_result_ranks_trials_and_tells_what_the_best_is_worth(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    view = finished(open_session(space), fake_train, tmp_path)

    text = report.result(view, tmp_path)

    losses = [trial.val_loss for trial in view.ranked()]
    assert losses == sorted(losses)
    assert f"Trial {view.ranked()[0].name} does with 1x what the plain baseline needs >2x" in text
    assert "sweep train" in text
    assert "sweep ui" in text


def test_the_train_command_is_understood_by_sweep_train(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    import shlex

    from model.config.config import Config

    best = finished(open_session(space), fake_train, tmp_path).ranked()[0]

    words = shlex.split(report.train_command(best.settings).replace("\\\n", ""))

    given = dict(word.split("=", 1) for word in words[2:] if word != "--set")
    assert Config.from_settings(given) == Config.from_settings(best.settings)


def test_the_first_failure_is_shown_in_full_and_the_next_in_a_line(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    lines: list[str] = []
    session = open_session(space)
    console = PlainConsole(session.journal.view, lines.append)
    session._watch = console.show

    finished(session, failing_train, tmp_path)

    told = [line for line in lines if " failed: " in line]
    assert len(told) > 2
    assert "Traceback" in told[0]
    assert "Traceback" not in "".join(told[1:])


def test_each_trial_that_ends_is_a_line(space: Space, open_session: Open, tmp_path: Path) -> None:
    lines: list[str] = []
    session = open_session(space)
    session._watch = PlainConsole(session.journal.view, lines.append).show

    view = finished(session, fake_train, tmp_path)

    assert sum(" complete, val loss" in line for line in lines) == 2 + len(view.ranked())
    assert any("<- best so far" in line for line in lines)
    assert any("baseline measured" in line for line in lines)


def test_a_silent_minute_is_broken_by_a_heartbeat(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    view = finished(open_session(space), fake_train, tmp_path)
    lines: list[str] = []
    now = [0.0]
    console = PlainConsole(view, lines.append, clock=lambda: now[0])

    console.beat()
    now[0] = 61.0
    console.beat()
    console.beat()

    assert lines == [f"[1:01] {progress_line(view)}"]


def test_durations_read_as_on_a_clock() -> None:
    assert [clock_text(s) for s in (42, 725, 11_220)] == ["0:42", "12:05", "3:07:00"]


def test_status_and_best_read_the_latest_run(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "runs" / "fake"
    folder.mkdir(parents=True)
    finished(open_session(space), fake_train, tmp_path)
    (tmp_path / "journal.jsonl").rename(folder / "journal.jsonl")
    runs = ["--runs", str(tmp_path / "runs")]

    status = CliRunner().invoke(cli, ["status", *runs])
    best = CliRunner().invoke(cli, ["best", "--json", *runs])

    assert "fake (trials spent)  12/12 trials" in status.output
    assert '"data_efficiency": ">2x"' in best.output
    measured = json.loads(best.stdout)
    assert measured["gap"] == pytest.approx(0.12)
    assert measured["raw_loss"] == pytest.approx(measured["ema_loss"] + 0.02)
    assert measured["weights_loss"] is None


def test_a_trial_is_worth_what_its_own_budget_would_have_to_be() -> None:
    """Where budgets are searched, twice the data is not credited with having it."""
    view = View(header={"train_tokens": 100}, baseline=[(100.0, 4.0), (400.0, 3.0)])
    settings: list[dict[str, Value]] = [{}, {"data.train_tokens": 200}]
    trials = [TrialView("0", Proposal({}), own, 0, [{"val_loss": 3.5}]) for own in settings]

    assert [str(report.efficiency_of(view, trial)) for trial in trials] == ["2.50x", "1.25x"]


def test_proposals_with_several_seeds_are_ranked_by_their_mean(
    open_session: Open, tmp_path: Path
) -> None:
    text = """
search: {optim.weight_decay_multiplier: {min: 1, max: 8}}
repeat: 2
budget: {trials: 5}
prune: {rule: none}
"""

    def by_seed(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            yield replace(progress, val_loss=progress.val_loss + 0.02 * config.train.seed)

    view = finished(open_session(make_space(tmp_path, text)), by_seed, tmp_path)

    proposals = report.ranking(view)
    assert [len(proposal.trials) for proposal in proposals].count(2) == 2
    means = [proposal.loss for proposal in proposals]
    assert means == sorted(means)
    assert len(set(means)) == 3
    (pair, *_) = [proposal for proposal in proposals if len(proposal.trials) == 2]
    low, high = sorted(trial.val_loss for trial in pair.trials)
    assert (pair.loss, pair.error) == pytest.approx(((low + high) / 2, 0.01))
    table = report.leaderboard(view).splitlines()
    assert "train.seed" not in table[0]
    assert f"{pair.loss:.4f}" in "\n".join(table)


def one_seed_each(*losses: list[float]) -> View:
    """A sweep whose trials kept these losses of three documents of 100 tokens."""
    view = View(header={"name": "fake", "trials": 3, "train_tokens": 1, "data": "0", "time": 0})
    for number, by_document in enumerate(losses):
        clusters = Clusters("documents", (100, 100, 100), tuple(by_document))
        loss = sum(by_document) / 3
        seen = {"val_loss": loss, "val_loss_error": 0.5, "bits_per_byte": loss, "basis_points": 1}
        seen |= {"seconds": 1.0, "step": 1}
        settings: dict[str, Value] = {"train.epochs": number}
        name, proposal = f"{number:04}", Proposal(settings)
        view.trials[name] = TrialView(
            name, proposal, settings, 0, [{**seen, "clusters": asdict(clusters)}]
        )
        view.trials[name].ending = TrialEnding.FINISHED
    return view


def test_the_table_tells_how_far_each_is_behind_with_the_paired_error_and_what_that_is() -> None:
    """Documents differ by 4 nats; the second trial is 0.1 behind on each, the third on the mean."""
    view = one_seed_each([1.0, 3.0, 5.0], [1.099, 3.1, 5.101], [0.9, 3.1, 5.3])

    table = [line.split() for line in report.leaderboard(view).splitlines()]

    assert table[0][:8] == ["trial", "val", "loss", "±", "s.e.", "worse", "by", "±"]
    assert table[1][:5] == ["0000", "3.0000", "0.5000", "-", "-"]
    assert table[2][:6] == ["0001", "3.1000", "0.5000", "+0.1000", "0.0057", "3.1000"]
    assert table[3][:6] == ["0002", "3.1000", "0.5000", "+0.1000", "0.1156", "tied"]
    assert " ".join(table[4]) == (
        "tied: cannot be told from 0000, by paired differences of loss by 3 documents of val and a "
        "noise between seeds of 0.004, which is assumed: it may be more"
    )


def test_a_sweep_whose_best_stands_alone_says_so_and_by_what() -> None:
    text = report.leaderboard(one_seed_each([1.0, 3.0, 5.0], [1.099, 3.1, 5.101]))

    assert text.splitlines()[-1].startswith("no other is tied with 0000, by paired differences")


def test_the_ranking_is_told_as_data_too() -> None:
    view = one_seed_each([1.0, 3.0, 5.0], [1.099, 3.1, 5.101])

    ranked = report.sweep_data(view, False)["ranking"]

    assert ranked["best"] == "0000"
    assert ranked["judged_by"].endswith("which is assumed: it may be more")
    assert ranked["behind"] == [
        {
            "trial": "0001",
            "worse_by": pytest.approx(0.1),
            "error": pytest.approx((0.001**2 / 3 + 2 * 0.004**2) ** 0.5),
            "tied": False,
        }
    ]


def test_journals_of_earlier_versions_have_no_losses_by_text_and_are_judged_as_before() -> None:
    view = one_seed_each([1.0, 3.0, 5.0], [1.099, 3.1, 5.101])
    for trial in view.trials.values():
        del trial.observations[-1]["clusters"]

    assert "by the standard errors of evaluation and a noise" in report.leaderboard(view)
