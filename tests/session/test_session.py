from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import optuna
import pytest
from fakes import broken_train, diverging_train, failing_train, fake_train
from optuna.storages import BaseStorage
from sweeps import session_in

from model.config.config import Config
from model.progress import Progress
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_events, read_view
from sweep.records import BaselinePoint, End, Ending, Outcome, Trial
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.roles import SearchTrials
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.baseline import baseline_settings
from sweep.space.settings import PruneConfig
from sweep.space.space import Space
from sweep.view import TrialView

Open = Callable[[Space], Session]


def run(session: Session, train: local.Train, folder: Path) -> dict[str, TrialView]:
    with Interrupt() as interrupt:
        local.run(session, train, folder, interrupt)
    return session.journal.view.trials


def told(storage: BaseStorage) -> list[optuna.trial.FrozenTrial]:
    """What the ledger knows."""
    return optuna.load_study(study_name="search", storage=storage).trials


def summary(trials: dict[str, TrialView]) -> list[tuple[object, ...]]:
    return [(t.name, t.outcome, t.reason, t.val_loss, dict(t.searched)) for t in trials.values()]


def test_a_sweep_completes_some_trials_and_prunes_others(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    trials = run(open_session(space), fake_train, tmp_path)

    outcomes = [t.outcome for t in trials.values()]
    assert outcomes.count(Outcome.PRUNED) >= 1
    assert outcomes.count(Outcome.COMPLETE) >= 6
    assert len(outcomes) == 12 + 2


def test_a_stopped_trial_is_pruned_in_the_study_never_complete(
    space: Space, open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    trials = run(open_session(space), fake_train, tmp_path)

    for frozen in told(storage):
        view = trials[f"{frozen.number:04d}"]
        assert frozen.state.name == {"complete": "COMPLETE", "pruned": "PRUNED"}[str(view.outcome)]
        assert (max(frozen.intermediate_values) == 10_000) == (frozen.state.name == "COMPLETE")


def test_trials_report_at_equal_fractions_of_their_own_schedule(
    space: Space, open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    run(open_session(space), fake_train, tmp_path)

    complete = [t for t in told(storage) if t.state.name == "COMPLETE"]
    epochs = {t.user_attrs["settings"]["train.epochs"] for t in complete}
    assert len(epochs) > 1
    assert {tuple(t.intermediate_values) for t in complete} == {
        (1250, 2500, 3750, 5000, 6250, 7500, 8750, 10_000)
    }


def test_none_is_pruned_in_the_grace_period(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    space = replace(space, prune=replace(space.prune, grace=0.75))

    trials = run(open_session(space), fake_train, tmp_path)

    pruned = [t for t in trials.values() if t.outcome is Outcome.PRUNED]
    assert pruned
    assert all(t.last is not None and t.last["basis_points"] >= 7500 for t in pruned)


def test_a_diverged_trial_is_pruned_with_its_reason(
    space: Space, open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    trials = run(open_session(space), diverging_train, tmp_path)

    diverged = [t for t in trials.values() if t.reason.startswith("diverged")]
    assert diverged
    assert all(t.last and t.reason == f"diverged at step {t.last['step']}" for t in diverged)
    assert all(t.outcome is Outcome.PRUNED for t in diverged)
    for trial in diverged:
        frozen = told(storage)[int(trial.name)]
        assert frozen.state.name == "PRUNED"
        assert frozen.intermediate_values[frozen.last_step or 0] == math.inf


def test_an_exception_is_a_failure_whose_traceback_is_kept(
    space: Space, open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    session = open_session(replace(space, budget=replace(space.budget, failures=100)))

    trials = run(session, failing_train, tmp_path)

    failed = [t for t in trials.values() if t.outcome is Outcome.FAILED]
    assert failed
    assert all(t.reason == "RuntimeError: no Muon today" for t in failed)
    assert all(t.searched["optim.name"] == "muon" for t in failed)
    assert {t.state.name for t in told(storage)} >= {"FAIL", "COMPLETE"}
    errors = [e["error"] for e in events(tmp_path) if e.get("outcome") == "failed"]
    assert all("Traceback" in error and "failing_train" in error for error in errors)


def test_failed_trials_cost_no_budget_once_the_cause_is_mended(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    run(
        open_session(replace(space, budget=replace(space.budget, failures=4))),
        broken_train,
        tmp_path,
    )

    trials = run(open_session(space), fake_train, tmp_path)

    ended = [t.outcome for t in trials.values() if t.name.isdigit()]
    assert ended.count(Outcome.FAILED) == 2
    assert len(ended) == 12 + 2


def test_a_full_disk_leaves_trials_unfinished_and_starts_no_more(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    whole = summary(run(open_session(space), fake_train, tmp_path / "whole"))
    (tmp_path / JOURNAL).unlink()
    room = iter(range(30))

    def filling(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in fake_train(config, folder):
            if next(room, None) is None:
                raise OSError(28, "No space left on device")
            yield progress

    session = session_in(tmp_path, space, storage := open_storage(None))
    trials = run(session, filling, tmp_path / "trials")
    session.journal.close()
    assert session.disk_full
    assert [t.outcome for t in trials.values()].count(None) == 1

    session = session_in(tmp_path, space, storage)
    assert summary(run(session, fake_train, tmp_path / "trials")) == whole
    session.journal.close()


def test_a_continued_sweep_ends_as_one_that_never_stopped(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """The first driver vanishes in the middle of a trial, again and again."""

    class Vanish(BaseException):
        pass

    def vanishing(after: int) -> local.Train:
        countdown = iter(range(after))

        def train(config: Config, folder: Path) -> Iterator[Progress]:
            for progress in fake_train(config, folder):
                if next(countdown, None) is None:
                    raise Vanish
                yield progress

        return train

    (tmp_path / "whole").mkdir()
    for after in (3, 11, 17, 20):
        session = open_session(space)
        with pytest.raises(Vanish):
            run(session, vanishing(after), tmp_path / "trials")
    trials = run(open_session(space), fake_train, tmp_path / "trials")

    session = session_in(tmp_path / "whole", space, open_storage(None))
    whole = run(session, fake_train, tmp_path / "whole")
    session.journal.close()
    assert summary(trials) == summary(whole)
    seen = [
        (e["trial"], e["basis_points"]) for e in events(tmp_path) if e["event"] == "observation"
    ]
    assert len(seen) == len(set(seen))


def test_what_a_crash_kept_from_the_journal_is_caught_up(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    run(open_session(space), fake_train, tmp_path)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    kept = [line for line in lines if '"outcome"' not in line or '"0005"' not in line]
    (tmp_path / JOURNAL).write_text("".join(kept))

    session = open_session(space)

    assert session.journal.view.trials["0005"].outcome is not None
    assert session.next_trial() is None


def test_a_larger_budget_continues_a_finished_sweep(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    first = summary(run(open_session(space), fake_train, tmp_path))

    more = replace(space, budget=replace(space.budget, trials=15))
    second = summary(run(open_session(more), fake_train, tmp_path))

    assert second[: len(first)] == first
    assert len(second) == len(first) + 3


def test_proposals_differ_after_a_continuation(
    space: Space, open_session: Open, tmp_path: Path, storage: BaseStorage
) -> None:
    """A sampler seeded anew would repeat the proposals it began with."""
    for trials in (3, 6):
        budget = replace(space.budget, trials=trials)
        run(open_session(replace(space, budget=budget)), fake_train, tmp_path)

    proposals = [json.dumps(t.params) for t in told(storage)]
    assert len(set(proposals)) == 6


def test_the_baseline_is_the_plain_recipe_on_more_data(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    session = open_session(space)

    trials = run(session, fake_train, tmp_path)

    twice = trials["baseline-2x"].settings
    assert twice["data.train_tokens"] == 2 * space.train_tokens
    assert (twice["optim.name"], twice["optim.weight_decay_multiplier"]) == ("adamw", 1.0)
    assert (twice["train.epochs"], twice["optim.schedule"]) == (1, "cosine")
    assert session.journal.view.baseline == [(65_536, 3.2), (131_072, 3.0)]


def test_an_event_reaches_the_watcher_after_it_is_in_the_journal(
    space: Space, open_session: Callable[..., Session], tmp_path: Path
) -> None:
    seen = []

    def watch(event: dict[str, object]) -> None:
        seen.append(event)
        assert json.loads((tmp_path / JOURNAL).read_text().splitlines()[-1]) == event

    run(open_session(space, watch), fake_train, tmp_path)

    assert len(seen) == len(events(tmp_path)) - 1  # the header was there before


def test_the_same_seed_proposes_the_same_trials(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    (tmp_path / "again").mkdir()

    a = run(open_session(space), fake_train, tmp_path / "a")
    session = session_in(tmp_path / "again", space, open_storage(None))
    b = run(session, fake_train, tmp_path / "b")
    session.journal.close()

    assert summary(a) == summary(b)


def events(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]


def test_a_torn_last_line_is_dropped(space: Space, open_session: Open, tmp_path: Path) -> None:
    run(open_session(space), fake_train, tmp_path)
    whole = (tmp_path / JOURNAL).read_bytes()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(b'{"event": "observation", "tri')

    assert len(read_view(tmp_path / JOURNAL).trials) == 14
    open_session(space).close(End(Ending.TRIALS_SPENT))

    assert (tmp_path / JOURNAL).read_bytes().startswith(whole)
    assert events(tmp_path)[-1]["ending"] == "trials spent"


def test_islice_of_a_trial_costs_nothing_later(tmp_path: Path) -> None:
    """The fake remembers how far it came, as the trainer does."""
    list(islice(fake_train(Config(), tmp_path), 3))

    assert json.loads((tmp_path / "memory.json").read_text()) == 3


def test_failed_baseline_runs_are_made_up_for_once_the_cause_is_mended(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    def broken(config: Config, folder: Path) -> Iterator[Progress]:
        raise RuntimeError("no data on this machine")
        yield

    run(open_session(space), broken, tmp_path)

    trials = run(open_session(space), fake_train, tmp_path)

    assert {"baseline-2x", "baseline-1x", "baseline-2x-2", "baseline-1x-2"} <= set(trials)
    session = open_session(space)
    assert session.journal.view.baseline == [(65_536, 3.2), (131_072, 3.0)]
    assert not session.has_work


def test_the_baseline_is_plain_whatever_the_space_fixes(space: Space) -> None:
    fixed = {"gpt.scale": 2.0, "gpt.dropout": 0.2, "optim.name": "muon", "train.batch_tokens": 512}

    settings = baseline_settings(replace(space, fixed=fixed), BaselinePoint(4))

    assert (settings["gpt.scale"], settings["gpt.dropout"]) == (1.0, 0.0)
    assert settings["optim.name"] == "adamw"
    assert settings["train.batch_tokens"] == 512


@pytest.mark.parametrize("shuffle", ["documents", "offsets"])
def test_the_baseline_reads_each_token_once(space: Space, shuffle: str) -> None:
    """Offsets are drawn with replacement: one epoch of them misses a third of the tokens."""
    settings = baseline_settings(replace(space, fixed={"train.shuffle": shuffle}), BaselinePoint(1))

    assert Config.from_settings(settings).train.shuffle == (
        "documents" if shuffle == "documents" else "sequences"
    )


def test_a_journal_that_lost_what_the_ledger_has_is_refused(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """A complete trial must not come back with the loss it had in the middle."""
    run(open_session(space), fake_train, tmp_path)
    lines = (tmp_path / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(lines[: len(lines) // 2]))

    with pytest.raises(SweepError, match="the journal lacks what the ledger has of trial"):
        open_session(space)


def test_a_damaged_journal_is_told(space: Space, open_session: Open, tmp_path: Path) -> None:
    run(open_session(space), fake_train, tmp_path)
    whole = (tmp_path / JOURNAL).read_text()

    for wrong in ("[1]\n", "{]\n"):
        (tmp_path / JOURNAL).write_text(wrong + whole)
        with pytest.raises(SweepError, match="is damaged at byte 0"):
            read_view(tmp_path / JOURNAL)


def test_an_evaluation_that_comes_again_is_not_judged_again(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """A continued trial yields once more what it was let go on from; peers may have ended since."""
    prune = PruneConfig(rule="median", signal="val", startup_trials=1, grace=0.25, peers=())
    plain = replace(space.baseline, multiples=())
    session = open_session(replace(space, prune=prune, baseline=plain))
    slow, fast = session.next_trial(), session.next_trial()
    assert slow is not None
    assert fast is not None

    def worse_by(nats: float, trial: Trial) -> list[Progress]:
        evaluations = fake_train(Config.from_settings(space.fixed), tmp_path / trial.name)
        return [replace(p, val_loss=p.val_loss + nats) for p in evaluations]

    first, second, third, *_ = worse_by(1.0, slow)
    assert not session.observe(slow, first).stop
    assert not session.observe(slow, second).stop
    for progress in worse_by(0.0, fast):
        session.observe(fast, progress)

    assert not session.observe(slow, second).stop
    assert session.observe(slow, third).stop


def test_a_loss_that_is_no_number_is_reported_as_infinitely_bad(
    space: Space, storage: BaseStorage
) -> None:
    """Optuna's rules drop nan, and the trial would look as if it had not been evaluated."""
    search = SearchTrials(storage, space)
    trial = search.ask()

    for step, loss in ((2500, math.nan), (5000, -math.inf)):
        search.ledger.report(trial, step, loss)

    assert told(storage)[trial.number].intermediate_values == {2500: math.inf, 5000: math.inf}


def test_a_checkpoint_that_was_lost_is_noted_once_even_where_no_evaluation_is_new(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    """The evaluation that says so was made before, and a later driver hears it again."""
    lost = "its checkpoint is damaged; it began again"

    def killed_then_lost(config: Config, folder: Path) -> Iterator[Progress]:
        for number, progress in enumerate(fake_train(config, folder)):
            yield replace(progress, checkpoint_lost=lost if number == 0 else "")

    session = open_session(space)
    trial = session.next_trial()
    assert trial is not None
    config = Config.from_settings(trial.settings)
    for progress in islice(fake_train(config, tmp_path / trial.name), 2):
        session.observe(trial, progress)
    session.journal.close()

    for _ in range(2):
        session = open_session(space)
        trial = session.next_trial()
        assert trial is not None
        for progress in islice(killed_then_lost(config, tmp_path / trial.name), 3):
            session.observe(trial, progress)
        session.journal.close()

    events = [event for event, _ in read_events(tmp_path / JOURNAL)]
    assert [e["reason"] for e in events if e["event"] == "lost"] == [lost]
    marks = [e["basis_points"] for e in events if e["event"] == "observation"]
    assert len(marks) == len(set(marks)) == 3
