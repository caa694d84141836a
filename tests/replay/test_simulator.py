from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fakes import SPACE, fake_curves, fake_train
from hypothesis import given, settings
from hypothesis import strategies as st
from sweeps import make_space, session_in

from model.config.config import Config
from model.progress import WHOLE
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.records import Outcome, Proposal, Trial, Verdict
from sweep.replay.bank import make_bank
from sweep.replay.simulator import (
    Replay,
    evaluation,
    replay,
    simulate,
)
from sweep.replay.summary import (
    quartiles,
    summarise,
    whole_bank,
    wilson,
)
from sweep.session.storage import open_storage
from sweep.space.settings import PruneConfig, SamplerConfig

BANK = make_bank(fake_curves())
RANDOM = SamplerConfig(name="random")
SOME = PruneConfig(rule="median", startup_trials=3, grace=0.3)


class Listed:
    """Proposes cells of the bank as told; stops those in `pruned` at their second evaluation."""

    def __init__(self, cells: list[int], pruned: tuple[int, ...] = ()) -> None:
        every = list(BANK.cells)
        self.waiting, self.pruned = list(cells), [every[number] for number in pruned]
        self.every, self.failed, self.asked = every, 0, 0

    def next_trial(self) -> Trial | None:
        if not self.waiting:
            return None
        chosen = dict(zip(BANK.names, self.every[self.waiting.pop(0)], strict=True))
        self.asked += 1
        return Trial(self.asked, Proposal(chosen), chosen)  # type: ignore[arg-type]

    def observe(self, trial: Trial, progress: object) -> Verdict:
        mark: int = progress.basis_points  # type: ignore[attr-defined]
        return Verdict(mark == WHOLE or (mark >= 2000 and BANK.cell(trial.settings) in self.pruned))

    def fail(self, trial: Trial, error: str) -> None:
        self.failed += 1


def run(search: Listed, workers: int = 1, **about: float) -> Replay:
    return replay(search, BANK, BANK.repetition(0), workers, **about)  # type: ignore[arg-type]


@given(order=st.integers(0, 50), workers=st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_compute_is_neither_lost_nor_made(order: int, workers: int) -> None:
    """What was spent in all is what was spent on each, and no worker does two things at once."""
    found = simulate(BANK, RANDOM, SOME, order, trials=14, workers=workers)
    wholes = {trial.cell: trial.whole for trial in found.trials}

    assert found.compute == pytest.approx(sum(trial.compute for trial in found.trials))
    assert found.compute <= sum(wholes.values()) + 1
    assert found.time * workers >= found.compute * (1 - 1e-9)
    assert max(trial.at for trial in found.trials) == pytest.approx(found.compute)
    assert [trial.at for trial in found.trials] == sorted(trial.at for trial in found.trials)


def test_the_same_order_gives_the_same_replay() -> None:
    first, again = (
        simulate(BANK, SamplerConfig(), SOME, 4, trials=12, workers=3) for _ in range(2)
    )
    others = {
        tuple(trial.cell for trial in simulate(BANK, RANDOM, SOME, order, trials=12).trials)
        for order in (4, 4, 5)
    }

    assert first == again
    assert len(others) == 2


def test_one_worker_does_what_a_session_in_a_plain_loop_does(tmp_path: Path) -> None:
    """The same trials, pruned at the same evaluations: through a file journal and SQLite."""
    space = BANK.space(SamplerConfig(seed=7), SOME, 14)
    storage = open_storage(tmp_path / "study.db")
    session, ended = session_in(tmp_path, space, storage), []
    repetition = BANK.repetition(7)
    while (trial := session.next_trial()) is not None:
        cell = BANK.cell(trial.settings)
        for mark in range(len(repetition[cell].marks)):
            progress = evaluation(BANK, repetition[cell], mark)
            if session.observe(trial, progress).stop:
                ended.append((cell, progress.done))
                break
    session.journal.close()
    found = simulate(BANK, SamplerConfig(), SOME, 7, trials=14)

    assert ended == [(trial.cell, trial.outcome is Outcome.COMPLETE) for trial in found.trials]
    assert {done for _, done in ended} == {True, False}


def test_more_workers_end_sooner_and_spend_the_same() -> None:
    alone, four = run(Listed([*range(12)])), run(Listed([*range(12)]), workers=4)

    assert four.compute == pytest.approx(alone.compute)
    assert alone.compute / 4 <= four.time < alone.time


def test_what_was_paid_once_is_free() -> None:
    once, twice = run(Listed([3, 5])), run(Listed([3, 5, 3, 5, 5]))

    assert twice.compute == once.compute
    assert len(twice.trials) == 5


def test_a_pruned_trial_that_comes_again_is_paid_from_where_it_stopped() -> None:
    search = Listed([3, 3], pruned=(3,))
    found = run(search)
    whole = found.trials[0].whole

    assert [trial.outcome for trial in found.trials] == [Outcome.PRUNED, Outcome.PRUNED]
    assert found.compute == pytest.approx(0.2 * whole)
    assert found.saved == pytest.approx(0.8)


def test_a_search_that_has_nothing_new_ends() -> None:
    found = run(Listed([3] * 500))

    assert len(found.trials) < 100


def test_a_cell_that_is_running_is_not_begun_twice() -> None:
    search = Listed([3, 3, 5])
    run(search, workers=2)

    assert search.failed == 1


def test_nothing_is_begun_once_the_compute_is_spent_or_the_target_met() -> None:
    short = run(Listed([*range(12)]), compute=1.0)
    found = run(Listed([*range(12)]), target=9.0)

    assert len(short.trials) == len(found.trials) == 1


def test_the_best_after_some_compute_is_of_trials_complete_by_then() -> None:
    found = run(Listed([0, 8, 20], pruned=(8,)))
    first, last = found.trials[0], found.trials[2]

    assert found.best_after(0) == math.inf
    assert found.best_after(first.at) == first.final
    assert found.best_after(found.compute) == min(first.final, last.final)
    assert found.compute_to(first.final) == first.at
    assert found.compute_to(0.0) == math.inf


def test_a_false_kill_is_a_pruned_trial_that_would_have_been_among_the_best() -> None:
    finals = [BANK.final(BANK.repetition(0)[cell]) for cell in BANK.cells]
    ranked = sorted(range(len(finals)), key=lambda number: finals[number])
    best, worst = ranked[0], ranked[-1]
    tried = [ranked[10], best, worst, ranked[5], ranked[6]]

    assert run(Listed(tried, pruned=(worst,))).killed() == 0
    assert run(Listed(tried, pruned=(best, worst))).killed() == 1


def test_seeds_of_a_cell_are_repetitions_and_give_the_noise() -> None:
    bank = make_bank(fake_curves(seeds=3))

    assert "train.seed" not in bank.names
    assert {len(curves) for curves in bank.cells.values()} == {3}
    assert bank.noise() == pytest.approx(0.004, rel=0.3)
    assert math.isnan(BANK.noise())
    assert bank.repetition(1) == bank.repetition(1) != bank.repetition(2)


def test_settings_between_the_recorded_ones_are_the_nearest() -> None:
    asked = {"optim.name": "muon", "optim.lr": 0.02, "train.epochs": 3, "gpt.scale": 0.9}
    cell = BANK.cell({**asked, "optim.weight_decay_multiplier": 30.0})

    assert dict(zip(BANK.names, cell, strict=True)) == {
        "optim.name": "muon",
        "optim.lr": 0.02,
        "train.epochs": 4,
        "optim.weight_decay_multiplier": 16.0,
        "gpt.scale": 1.0,
    }


def test_rates_that_depend_on_the_optimizer_are_axes_of_their_own() -> None:
    hyperparameters = BANK.space(RANDOM, SOME, 4).hyperparameters
    rates = {hp.parameter: hp.domain for hp in hyperparameters if hp.setting == "optim.lr"}

    assert list(rates) == ["optim.lr [optim.name=adamw]", "optim.lr [optim.name=muon]"]
    assert hyperparameters[-1].setting == "optim.lr"  # after what decides it


def test_of_fewer_trials_than_three_the_rate_of_false_kills_is_of_those_there_are() -> None:
    """Of two trials one was stopped: half, not a third."""
    finals = [BANK.final(BANK.repetition(0)[cell]) for cell in BANK.cells]
    best, other = sorted(range(len(finals)), key=lambda number: finals[number])[:2]

    summary = summarise([run(Listed([best, other], pruned=(best,)))], [0], [BANK], "flops", 0.0)

    assert (summary.killed, summary.killed_interval) == (0.5, wilson(1, 2))


def test_when_a_trial_ends_the_others_have_spent_what_they_trained_by_then() -> None:
    """Epochs 1 and 8 begin together: at the end of the first the second has spent as much."""
    cells = list(BANK.cells)
    short, long = (
        next(n for n, cell in enumerate(cells) if dict(zip(BANK.names, cell, strict=True)) == its)
        for its in (
            {**dict(zip(BANK.names, cells[0], strict=True)), "train.epochs": epochs}
            for epochs in (1, 8)
        )
    )

    replayed = run(Listed([short, long]), workers=2)

    first, second = replayed.trials
    assert second.whole == pytest.approx(8 * first.whole)
    assert first.at == pytest.approx(2 * first.whole)
    assert second.at == pytest.approx(9 * first.whole)


def test_quartiles_are_values_that_occurred() -> None:
    assert quartiles([4.0, 1.0, math.inf, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert quartiles([1.0, math.inf, math.inf]) == (1.0, math.inf, math.inf)


def test_a_rate_of_nothing_found_has_an_interval() -> None:
    low, high = wilson(0, 150)

    assert low == 0.0
    assert high == pytest.approx(0.025, abs=0.001)
    assert wilson(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize(("killed", "among"), [(0, 150), (3, 9), (9, 9), (20, 150)])
def test_the_interval_of_a_rate_is_that_of_scipy(killed: int, among: int) -> None:
    """Which has more digits of the normal quantile than 1.96."""
    from scipy.stats import binomtest

    theirs = binomtest(killed, among).proportion_ci(method="wilson")

    assert wilson(killed, among) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_a_summary_counts_in_whole_banks() -> None:
    everything = [*range(len(BANK.cells))]
    found = summarise([run(Listed(everything))], [0], [BANK], "flops", floor=0.0)

    assert found.compute == pytest.approx(1.0)
    assert found.reached == 1.0
    assert found.to_best[1] <= 1.0
    assert found.regret == 0.0
    assert whole_bank(BANK, "seconds") == pytest.approx(whole_bank(BANK, "flops") / 1e9)


@pytest.fixture
def bank_file(tmp_path: Path, write_curves: Callable[..., None]) -> Path:
    write_curves(tmp_path / "bank.parquet", fake_curves(seeds=2), {"settings": {"gpt.layers": 2}})
    return tmp_path / "bank.parquet"


def sweep(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def test_replay_prints_a_table_and_data(bank_file: Path) -> None:
    common = ["replay", bank_file, "--orders", "2", "--jobs", "1", "--set", "sampler.name=random"]
    text, data = sweep(*common, "--workers", "1"), sweep(*common, "--json")

    assert "48 cells, 2 orders, noise floor 0.00" in text.output
    assert [found["workers"] for found in json.loads(data.output)["replays"]] == [1, 8]


def test_every_mistake_of_a_replay_is_told_at_once(bank_file: Path) -> None:
    wrong = ["prune.rul=best", "sampler.name=grid search", "gpt.layers=2", "prune.grace"]
    found = sweep("replay", bank_file, *(part for one in wrong for part in ("--set", one)))

    assert isinstance(found.exception, SweepError)
    assert str(found.exception).count("--set") == 4
    assert "did you mean prune.rule?" in str(found.exception)


@pytest.mark.parametrize("limit", ["flops=1e12", "hours=1", "target_loss=3", "failures=1"])
def test_a_budget_that_no_replay_keeps_is_refused(limit: str, bank_file: Path) -> None:
    found = sweep("replay", bank_file, "--set", f"budget.{limit}")

    assert isinstance(found.exception, SweepError)
    assert f"--set budget.{limit}: cannot be set here" in str(found.exception)
    assert "sampler and prune, and budget.trials" in str(found.exception)


def test_a_finished_sweep_is_replayed_in_its_own_order(tmp_path: Path) -> None:
    """With the rule it ran with, the same trials are pruned; with none, none."""
    own = ["prune.rule=median", "prune.startup_trials=2", "prune.grace=0.25", "prune.peers="]
    space = make_space(tmp_path, SPACE, *own, "sampler.name=random")
    session = session_in(tmp_path, space, open_storage(None))
    while (trial := session.next_trial()) is not None:
        train = fake_train(Config.from_settings(trial.settings), tmp_path / trial.name)
        while not session.observe(trial, next(train)).stop:
            pass
    session.journal.close()
    pruned = session.journal.view.count(Outcome.PRUNED)
    common = ["replay", tmp_path, "--jobs", "1", "--workers", "1", "--json"]
    same = sweep(*common, *(part for one in own for part in ("--set", one)))
    none = sweep(*common, "--set", "prune.rule=none")

    assert pruned > 0
    assert json.loads(same.output)["replays"][0]["pruned"] == pruned
    assert json.loads(same.output)["replays"][0]["orders"] == 1  # recorded trials have one
    assert json.loads(none.output)["replays"][0]["pruned"] == 0
