"""Trials that are trained outside: what `sweep ask` gives and `sweep tell` answers."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner, Result
from fakes import fake_train
from optuna.storages import BaseStorage, InMemoryStorage
from sweeps import finished, make_space, session_in

from model.config.config import Config
from model.progress import WHOLE
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_view
from sweep.records import Outcome
from sweep.run.manifest import write_or_compare
from sweep.run.outside import Asked, Report, ask, outside_space, tell
from sweep.session.storage import open_storage
from sweep.space.space import Space
from sweep.view import View

SPACE = """
name: mine
search:
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
  train.epochs: [1, 2, 4]
fixed: {train.evals: 4}
budget: {trials: 4}
sampler: {name: random, seed: 1}
prune: {rule: median, signal: val, startup_trials: 1}
"""
TEN_TRIALS = SPACE.replace("trials: 4", "trials: 10")
Ask = Callable[..., Asked]


@pytest.fixture(autouse=True)
def _in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Studies that outlive a call without a file: SQLite would take most of the time."""
    storages: dict[Path | None, BaseStorage] = {}

    def open_(path: Path | None) -> BaseStorage:
        return storages.setdefault(path, InMemoryStorage())

    monkeypatch.setattr("sweep.session.open_storage", open_)
    monkeypatch.setattr("sweep.run.driver.require_agreement", lambda folder, view: None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "mine"


@pytest.fixture
def asked(tmp_path: Path, folder: Path) -> Ask:
    """Ask with a space, as each turn of a loop does."""

    def ask_(text: str = SPACE, silent: float | None = None) -> Asked:
        return ask(folder, make_space(tmp_path, text), text, silent)

    return ask_


def name_of(answer: Asked) -> str:
    assert answer.trial is not None
    return answer.trial.name


def view_of(folder: Path) -> View:
    return read_view(folder / JOURNAL)


def train_outside(folder: Path, space: Space, scratch: Path) -> None:
    """A loop that trains one trial after another until there is none to train."""
    while (trial := ask(folder, space).trial) is not None:
        for progress in fake_train(Config.from_settings(trial.settings), scratch / trial.name):
            told = Report(progress.val_loss, progress.basis_points / WHOLE)
            if tell(folder, trial.name, told).stop:
                break


def test_a_loop_outside_comes_to_the_trials_and_outcomes_of_a_driver(
    tmp_path: Path, folder: Path
) -> None:
    text = SPACE.replace("name: random", "name: surface").replace("trials: 4", "trials: 6")
    space = make_space(tmp_path, text)
    (tmp_path / "driven").mkdir()
    session = session_in(tmp_path / "driven", space, open_storage(None))

    driven = finished(session, fake_train, tmp_path / "driven")
    train_outside(folder, space, tmp_path / "outside")

    outside = view_of(folder)
    assert outside.end == driven.end
    assert driven.count(Outcome.PRUNED) > 0
    for ours, theirs in zip(driven.searches(), outside.searches(), strict=True):
        assert (ours.name, ours.settings, ours.ending) == (
            theirs.name,
            theirs.settings,
            theirs.ending,
        )
        for mine, its in zip(ours.observations, theirs.observations, strict=True):
            same = ("basis_points", "val_loss", "step", "epoch", "tokens")
            assert [mine[key] for key in same] == [its[key] for key in same]


def test_two_that_ask_at_once_get_different_trials(
    asked: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.session.open_storage", open_storage)  # as it is: SQLite
    asked(TEN_TRIALS)

    with ThreadPoolExecutor(4) as pool:
        names = [name_of(a) for a in pool.map(lambda _: ask(folder, None), range(4))]

    assert sorted(names) == ["0001", "0002", "0003", "0004"]
    assert sorted(view_of(folder).trials) == ["0000", *sorted(names)]


def test_what_nobody_told_of_for_so_long_is_given_out_again(
    asked: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.run import outside

    first, second = name_of(asked()), name_of(asked())
    tell(folder, first, Report(3.0, 0.5))
    now = outside.time.time()
    monkeypatch.setattr(outside, "time", SimpleNamespace(time=lambda: now + 3600))

    soon, late = asked(silent=7200), asked(silent=1800)

    assert name_of(soon) == "0002"
    assert not soon.again
    assert name_of(late) == second
    assert late.again
    assert late.trial == replace(late.trial, settings=view_of(folder).trials[second].settings)
    assert name_of(asked(silent=1800)) == first
    assert asked(silent=1800).told == 0.0


def test_a_trial_given_out_again_goes_on_from_what_was_told(asked: Ask, folder: Path) -> None:
    name = name_of(asked())
    tell(folder, name, Report(3.0, 0.5))

    again = asked(silent=0)

    assert (name_of(again), again.told) == (name, 0.5)
    assert tell(folder, name, Report(3.1, 0.25)).reason == "was told of 0.5 before"
    assert tell(folder, name, Report(2.9)).outcome is Outcome.COMPLETE
    assert [e["val_loss"] for e in view_of(folder).trials[name].observations] == [3.0, 2.9]


def test_to_tell_the_same_twice_changes_nothing(asked: Ask, folder: Path) -> None:
    name = name_of(asked())
    tell(folder, name, Report(3.0, 0.5))
    tell(folder, name, Report(3.0, 0.5))
    first = tell(folder, name, Report(2.9))
    before = (folder / JOURNAL).read_bytes()

    assert tell(folder, name, Report(2.9)) == first
    assert tell(folder, name, Report(failed="killed")) == first
    assert (folder / JOURNAL).read_bytes() == before


def test_a_trial_behind_its_peers_is_to_stop(asked: Ask, folder: Path) -> None:
    for _ in range(2):
        name = name_of(asked())
        tell(folder, name, Report(3.0, 0.5))
        tell(folder, name, Report(2.9))
    name = name_of(asked())

    told = tell(folder, name, Report(4.0, 0.5))

    assert (told.stop, told.reason) == (True, "behind its peers at 50 %")
    assert told.outcome is Outcome.PRUNED


def test_a_loss_that_is_no_number_ends_the_trial(asked: Ask, folder: Path) -> None:
    told = tell(folder, name_of(asked()), Report(math.nan, 0.5))

    assert told.stop
    assert told.reason.startswith("diverged at step")


def test_the_search_is_over_once_its_budget_is_spent_and_goes_on_when_it_is_raised(
    asked: Ask, folder: Path
) -> None:
    names = [name_of(asked()) for _ in range(4)]
    out = asked()
    for name in names:
        tell(folder, name, Report(3.0))

    over, ended = asked(), view_of(folder).end
    more = asked(TEN_TRIALS)

    assert (out.trial, out.reason, out.open, out.over) == (None, "trials spent", (*names,), False)
    assert (over.trial, over.over) == (None, True)
    assert str(ended) == "trials spent"
    assert name_of(more) == "0004"
    assert view_of(folder).end is None


def test_the_journal_knows_what_is_searched_once_the_space_has_grown(
    asked: Ask, folder: Path
) -> None:
    asked()
    asked()
    before = view_of(folder).header
    asked(SPACE.replace("  train.epochs:", "  optim.beta2: [0.99, 0.95]\n  train.epochs:"))

    events = [json.loads(line) for line in (folder / JOURNAL).read_text().splitlines()]
    assert [event["event"] for event in events].count("sweep") == 2
    assert "optim.beta2" not in before["searched"]
    assert "optim.beta2" in view_of(folder).header["searched"]


def test_a_failed_trial_is_replaced_and_too_many_end_the_search(asked: Ask, folder: Path) -> None:
    for _ in range(3):
        tell(folder, name_of(asked()), Report(failed="Traceback\nOutOfMemory: no"))

    gone = asked()
    again = asked(SPACE.replace("trials: 4", "trials: 4, failures: 5"))

    assert (gone.reason, gone.over) == (
        "too many trials failed: 3 in a row with OutOfMemory: no",
        True,
    )
    assert view_of(folder).trials["0000"].reason == "OutOfMemory: no"
    assert name_of(again) == "0003"


def test_what_a_full_disk_stopped_stays_out(asked: Ask, folder: Path) -> None:
    name = name_of(asked())

    told = tell(folder, name, Report(failed="OSError: No space left on device"))

    assert (told.stop, told.outcome) == (True, None)
    assert name_of(asked(silent=0)) == name


def test_points_come_first_and_proposals_are_repeated_with_other_seeds(
    asked: Ask, folder: Path
) -> None:
    text = SPACE + "points: [{train.epochs: 4, optim.lr: 0.005}]\nrepeat: {seeds: 2}\n"
    first = asked(text)
    assert first.trial is not None
    second = asked(text)
    assert second.trial is not None

    assert first.trial.searched == {"train.epochs": 4, "optim.lr": 0.005, "train.seed": 0}
    assert second.trial.searched == {**first.trial.searched, "train.seed": 1}
    assert second.to_dict()["seed"] == 1


def test_constraints_hold_outside_too(asked: Ask) -> None:
    text = SPACE + "constraints: [train.tokens <= 140k]\n"

    trials = [asked(text).trial for _ in range(4)]

    assert {trial.settings["train.epochs"] for trial in trials if trial} == {1, 2}


def test_a_loop_killed_while_it_asked_gets_what_it_did_not_hear_of(
    asked: Ask, folder: Path, tmp_path: Path
) -> None:
    """The ledger had the proposal, the journal did not."""
    first = asked()
    lines = (folder / JOURNAL).read_text().splitlines(keepends=True)
    (folder / JOURNAL).write_text("".join(line for line in lines if '"trial"' not in line))

    assert asked().trial == first.trial


def test_a_loop_killed_while_it_told_has_told(asked: Ask, folder: Path) -> None:
    """The ledger had the end, the journal did not."""
    name = name_of(asked())
    told = tell(folder, name, Report(3.0))
    lines = (folder / JOURNAL).read_text().splitlines(keepends=True)
    (folder / JOURNAL).write_text("".join(line for line in lines if '"outcome"' not in line))

    assert tell(folder, name, Report(3.0)) == told
    assert view_of(folder).trials[name].outcome is Outcome.COMPLETE


def test_a_study_db_that_lost_its_journal_is_refused(asked: Ask, folder: Path) -> None:
    tell(folder, name_of(asked()), Report(3.0))
    (folder / JOURNAL).unlink()

    with pytest.raises(SweepError, match="the journal lacks what the ledger has"):
        asked()


def test_seconds_are_those_that_a_trial_was_out_unless_told(
    asked: Ask, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.run import outside

    first, second = name_of(asked()), name_of(asked())
    now = outside.time.time()
    monkeypatch.setattr(outside, "time", SimpleNamespace(time=lambda: now + 100))

    tell(folder, first, Report(3.0, 0.5))
    tell(folder, second, Report(3.0, 0.5, seconds=7.0))

    trials = view_of(folder).trials
    assert trials[first].seconds == pytest.approx(100, abs=5)
    assert trials[second].seconds == 7.0


def command(*words: object, catch: bool = True) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=catch)


def test_the_commands_speak_json_and_by_exit_codes(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "mine.yaml").write_text(SPACE.replace("trials: 4", "trials: 3"))
    at = ["--runs", folder.parent]

    plain = command("ask", tmp_path / "mine.yaml", *at)
    asked = json.loads(command("ask", folder, "--json").stdout)
    command("ask", folder)
    spent = command("ask", folder, "--json")
    going = command("tell", folder, 0, "--loss", "3.0", "--at", "0.5")
    ended = [command("tell", folder, number, "--loss", "2.9") for number in (0, 1)]
    stopped = command("tell", folder, "0002", "--loss", "inf", "--at", "0.5", "--json")

    assert plain.exit_code == 0
    assert plain.stdout.split()[0] == "0000"
    assert plain.stdout.split()[1].startswith("optim.lr=0.00")
    assert asked["trial"] == "0001"
    assert Path(asked["folder"]).is_dir()
    assert asked["settings"] == {"train.evals": 4, **asked["searched"]}
    assert spent.exit_code == 6
    assert json.loads(spent.stdout)["trial"] is None
    assert "no trial to give out: trials spent; out: 0000, 0001, 0002" in spent.stderr
    assert (going.exit_code, going.stdout) == (0, "go on\n")
    assert {(done.exit_code, done.stdout) for done in ended} == {(0, "stop: finished\n")}
    assert stopped.exit_code == 6
    assert json.loads(stopped.stdout)["stop"] is True
    status = command("status", folder)
    assert "(trials spent)  3/3 trials: 2 complete, 1 pruned" in status.stdout
    assert "nan" not in status.stdout
    assert json.loads(command("status", folder, "--json").stdout)["trials"][0]["outcome"]


def test_the_documented_loop_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its commands in this process: to start each takes a second and more."""
    text = (Path(__file__).parents[2] / "docs" / "own_loop.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "space.yaml").write_text(SPACE)
    monkeypatch.chdir(tmp_path)

    def run(words: list[str], **options: object) -> SimpleNamespace:
        done = command(*words[1:])
        return SimpleNamespace(returncode=done.exit_code, stdout=done.stdout, stderr=done.stderr)

    def train(settings: dict[str, object], folder: str) -> Iterator[tuple[float, float]]:
        for progress in fake_train(Config.from_settings(settings), Path(folder)):
            yield progress.basis_points / WHOLE, progress.val_loss

    monkeypatch.setattr("subprocess.run", run)
    exec(compile(block, "docs/own_loop.md", "exec"), {"train": train})

    view = view_of(tmp_path / "runs" / "mine")
    assert str(view.end) == "trials spent"
    assert len(view.ranked()) + view.count(Outcome.PRUNED) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tell", "RUN", "0009", "--loss", "3"], "has given out no trial 0009"),
        (["tell", "RUN", "0000"], "expected either --loss or --failed"),
        (["tell", "RUN", "0000", "--loss", "3", "--failed", "x"], "expected either"),
        (["tell", "nowhere", "0000", "--loss", "3"], "was not begun by sweep ask"),
        (["ask", "nowhere.yaml"], "cannot read nowhere.yaml"),
        (["ask", "RUN", "--set", "budget.trials=9"], "--set and --name go with a space"),
        (["ask", "RUN", "--again", "6 parsecs"], "--again: expected a time such as 6h"),
        (["ask", "SPACE", "--set", "fixed=1"], "no such setting"),
        (["ask", "SPACE", "--set", "optim.lr=0.004"], "is not comparable|not comparable"),
    ],
)
def test_bad_input_gets_one_message(
    words: list[str], message: str, asked: Ask, folder: Path, tmp_path: Path
) -> None:
    asked()
    places = {"RUN": str(folder), "SPACE": str(tmp_path / "space.yaml")}

    done = command(*(places.get(word, word) for word in words), *_runs(words, folder))

    assert isinstance(done.exception, SweepError)
    assert done.exception.code in (2, 4)
    with pytest.raises(SweepError, match=message):
        raise done.exception


def _runs(words: list[str], folder: Path) -> list[str]:
    return ["--runs", str(folder.parent)] if words[0] == "ask" else []


def test_trunks_are_our_trainers(tmp_path: Path, folder: Path) -> None:
    space = make_space(tmp_path, SPACE)
    space = replace(space, trial=replace(space.trial, share_trunks=True))

    with pytest.raises(SweepError, match="only our own trainer can share trunks"):
        ask(folder, space)


def test_our_trainer_and_a_loop_outside_do_not_share_a_folder(
    asked: Ask, folder: Path, tmp_path: Path
) -> None:
    tell(folder, name_of(asked()), Report(3.0))
    space, ours = make_space(tmp_path, SPACE), tmp_path / "runs" / "ours"
    ours.mkdir()
    write_or_compare(ours, space, SPACE)

    for refused, message in (
        (lambda: write_or_compare(folder, outside_space(space), SPACE), "trained outside"),
        (lambda: ask(ours, space, SPACE), "sweep run trains"),
        (lambda: ask(ours, None), "sweep run trains"),
        (lambda: command("confirm", folder, catch=False), "a loop outside"),
    ):
        with pytest.raises(SweepError, match=message) as caught:
            refused()
        assert caught.value.code == 4


def test_an_earlier_sweep_informs_a_loop_outside_and_is_told_of_once(
    tmp_path: Path, folder: Path
) -> None:
    """It is kept at the first question: later ones, and what is told, do without its folder."""
    text = SPACE.replace("name: random", "name: surface")
    old = tmp_path / "old"
    old.mkdir()
    session = session_in(old, make_space(tmp_path, text), open_storage(None))
    trials = len(finished(session, fake_train, old).ranked())
    space = make_space(tmp_path, text, f"sampler.warm_start={old}")

    first = ask(folder, space, text)
    old.rename(tmp_path / "moved")
    tell(folder, name_of(first), Report(3.0, 0.5))
    ask(folder, space, text)

    lines = (folder / JOURNAL).read_text().splitlines()
    informed = [e for e in map(json.loads, lines) if e["event"] == "informed"]
    assert [(e["from"], e["trials"]) for e in informed] == [(str(old), trials)]
