"""Weights stay by policy, and never go where something rests on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import fake_train
from sweeps import finished

from model.training.release import BEFORE, CHECKPOINT
from sweep.cli.main import cli
from sweep.folder import ENSEMBLE, JOURNAL, LEDGER, RESOLVED, TEACHERS, TRIALS, TRUNKS, locked
from sweep.journal import Journal, read_events, read_view
from sweep.records import FinalistRun, Role
from sweep.results import report
from sweep.run import contents, kept
from sweep.run.checkpoints import Checkpoints
from sweep.session import rebuild
from sweep.session.session import Session
from sweep.space.settings import KeepConfig, TrialConfig
from sweep.space.space import Space
from sweep.view import View

Open = Callable[..., Session]
ONE = KeepConfig(best=1)


@pytest.fixture
def folder(space: Space, open_session: Open, tmp_path: Path) -> Path:
    """A run folder of 12 search and 2 baseline trials with checkpoints of 1 kB."""
    import yaml

    folder = tmp_path / "runs" / "fake"
    (folder / TRIALS).mkdir(parents=True)
    view = finished(open_session(space), fake_train, folder / TRIALS)
    (tmp_path / JOURNAL).rename(folder / JOURNAL)
    (folder / RESOLVED).write_text(yaml.safe_dump(space.resolved()))
    for name in view.trials:
        (folder / TRIALS / name / CHECKPOINT).write_bytes(b"0" * 1000)
    return folder


def view_of(folder: Path) -> View:
    return read_view(folder / JOURNAL)


def bytes_of(folder: Path) -> dict[str, int]:
    return {name: kept.weight(folder, name) for name in view_of(folder).trials}


def stays(folder: Path, keep: KeepConfig = ONE) -> dict[str, str]:
    return dict(kept.sort_out(folder, view_of(folder), keep, bytes_of(folder)).stays)


def names(folder: Path) -> set[str]:
    """Trials that have a checkpoint."""
    return {path.parent.name for path in folder.glob(f"{TRIALS}/*/{CHECKPOINT}")}


def loser(folder: Path, place: int = -1) -> str:
    return view_of(folder).ranked()[place].name


def write_ledger(folder: Path, space: Space) -> None:
    events = [event for event, _ in read_events(folder / JOURNAL)]
    rebuild(folder / LEDGER, space, view_of(folder), events)


def sweep_gc(*words: object) -> str:
    result = CliRunner().invoke(cli, ["gc", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_unless_asked_all_weights_stay(folder: Path) -> None:
    weights = kept.sort_out(folder, view_of(folder), KeepConfig(), bytes_of(folder))

    assert weights.goes == ()
    assert weights.stays.keys() == view_of(folder).trials.keys()


def test_the_best_stay_and_say_at_which_place(folder: Path) -> None:
    ranked = [trial.name for trial in view_of(folder).ranked()[:3]]

    assert stays(folder, KeepConfig(best=3)) == {
        ranked[0]: "the best",
        ranked[1]: "the 2nd best by loss",
        ranked[2]: "the 3rd best by loss",
    }


def test_what_is_worse_goes_first_until_the_rest_fits(folder: Path) -> None:
    weights = kept.sort_out(folder, view_of(folder), KeepConfig(max_gb=4e-6), bytes_of(folder))

    best = {trial.name for trial in view_of(folder).ranked()[:4]}
    assert weights.stays.keys() == best
    assert weights.over == 0
    losses = [t.val_loss for t in weights.goes if t.outcome == "complete" and t.role == "search"]
    assert losses == sorted(losses, reverse=True)
    assert weights.goes[0].outcome == "pruned" or weights.goes[0].role == "baseline"


def test_promises_are_kept_also_where_there_is_no_room(folder: Path) -> None:
    (folder / ENSEMBLE).write_text(
        json.dumps({"members": [{"folder": f"trials/{loser(folder)}", "weight": 1.0}]})
    )

    weights = kept.sort_out(folder, view_of(folder), KeepConfig(max_gb=1e-6), bytes_of(folder))

    assert weights.stays == {loser(folder, 0): "the best", loser(folder): "in ensemble.json"}
    assert weights.over == 1000


def test_teachers_finalists_fresh_runs_and_the_unfinished_stay(folder: Path) -> None:
    worst, middle, third = (loser(folder, place) for place in (-1, -2, -3))
    (folder / TEACHERS).mkdir()
    lesson = {"members": [{"folder": f"../trials/{worst}", "weight": 1.0}]}
    (folder / TEACHERS / "0000-d1.json").write_text(json.dumps(lesson))
    journal = Journal(folder / JOURNAL)
    journal.append("confirm", finalists=[middle], seeds=2, until_separated=False)
    fresh = {"role": Role.CONFIRM, "searched": FinalistRun(middle, 1).searched, "settings": {}}
    journal.append("trial", trial=f"{middle}-s1", **fresh)
    last = {"train_loss": 3.0, "val_loss": 3.0, "val_loss_error": 0.1, "step": 9, "seconds": 1.0}
    at = {"trial": f"{middle}-s1", "basis_points": 10_000}
    journal.append("observation", **at, **last)
    journal.append("outcome", trial=f"{middle}-s1", outcome="complete", reason="")
    searched = view_of(folder).trials[third]
    begun = {"role": Role.SEARCH, "searched": dict(searched.searched), "settings": {}}
    journal.append("trial", trial="0099", **begun)
    journal.close()
    for name in (f"{middle}-s1", "0099"):
        (folder / TRIALS / name).mkdir()
        (folder / TRIALS / name / CHECKPOINT).write_bytes(b"0" * 1000)

    why = stays(folder)

    assert why[worst] == "teaches 0000-d1"
    assert why[middle] == "a finalist"
    assert why[f"{middle}-s1"] == "a run with a fresh seed"
    assert why["0099"] == "unfinished"
    assert third not in why


def test_what_another_run_learns_from_stays(folder: Path) -> None:
    other = folder.parent / "other"
    other.mkdir()
    teacher = folder / TRIALS / loser(folder)
    journal = Journal(other / JOURNAL)
    journal.append("sweep", name="other", fixed={"train.teacher": str(teacher)})
    journal.close()

    assert stays(folder)[loser(folder)] == "named by other"


def test_what_is_named_through_a_link_or_from_elsewhere_stays_too(folder: Path) -> None:
    named, linked, searched, trained = (loser(folder, place) for place in (-1, -2, -3, -4))
    (folder.parent.parent / "link").symlink_to(folder)
    words = {
        "relative": ("gpt.init", f"runs/fake/trials/{named}/{CHECKPOINT}"),
        "through": ("train.teacher", str(folder.parent.parent / "link" / TRIALS / linked)),
        "train/0123abc": ("gpt.init", f"../fake/trials/{trained}"),
    }
    for where, (setting, word) in words.items():
        (folder.parent / where).mkdir(parents=True)
        journal = Journal(folder.parent / where / JOURNAL)
        journal.append("sweep", name="other", fixed={setting: word})
        journal.close()
    search = {"train.teacher": ["", f"fake/trials/{searched}"]}
    (folder.parent / "relative" / RESOLVED).write_text(json.dumps({"search": search}))

    why = stays(folder)

    assert why[named] == why[searched] == "named by relative"
    assert why[linked] == "named by through"
    assert why[trained] == "named by train/0123abc"
    assert loser(folder, -5) not in why


def test_while_a_sweep_runs_weights_go_once_better_trials_ended(folder: Path) -> None:
    view = view_of(folder)
    room = Checkpoints(folder, view, KeepConfig(best=2))
    room.make_room()
    room.close()

    assert names(folder) == {trial.name for trial in view.ranked()[:2]}


def test_a_driver_that_was_asked_nothing_removes_no_weights(folder: Path) -> None:
    room = Checkpoints(folder, view_of(folder))
    room.make_room()
    room.close()

    assert names(folder) == view_of(folder).trials.keys()


def test_gc_tells_what_would_go_and_why_the_rest_stays_and_removes_nothing(folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    with locked(folder):  # a driver is at work
        told = sweep_gc(folder, "--best", "1", "--dry-run")

    assert any(line.split()[:3] == ["weights", "14", "14"] for line in told.splitlines())
    assert "13 kB would go:" in told
    assert f"{loser(folder, 0)}: 1 kB, the best" in told
    assert {*before, folder / "driver.lock"} == {*folder.rglob("*")}


def test_gc_removes_what_it_told_and_results_stay(folder: Path) -> None:
    view = view_of(folder)
    told = json.loads(sweep_gc(folder, "--best", "1", "--dry-run", "--json"))

    done = json.loads(sweep_gc(folder, "--best", "1", "--json"))

    assert done["goes"] == told["goes"]
    assert (told["removed"], done["removed"], done["freed"]) == (False, True, 13_000)
    assert names(folder) == {loser(folder, 0)}
    assert report.sweep_data(view_of(folder), False) == report.sweep_data(view, False)
    assert "nothing went" in sweep_gc(folder, "--best", "1")


def test_gc_alone_takes_what_kills_left_and_no_weights(folder: Path, space: Space) -> None:
    trial = folder / TRIALS / loser(folder)
    (trial / BEFORE).write_bytes(b"0" * 500)
    (trial / f"{CHECKPOINT}.part").write_bytes(b"0" * 100)
    (folder / TRIALS / "0777").mkdir()
    (folder / TRIALS / "0777" / "error.txt").write_bytes(b"0" * 50)
    write_ledger(folder, space)

    done = json.loads(sweep_gc(folder, "--json"))

    assert {Path(item["path"]).name for item in done["goes"]} == {
        BEFORE,
        f"{CHECKPOINT}.part",
        "0777",
    }
    assert done["freed"] == 650
    assert names(folder) == view_of(folder).trials.keys()


def test_gc_takes_no_weights_of_trials_that_nobody_knows_any_more(
    folder: Path, space: Space
) -> None:
    """Where journal and ledger are older copies, such a folder is all that is left of a trial."""
    (folder / TRIALS / "0777" / "member-1").mkdir(parents=True)
    (folder / TRIALS / "0777" / "member-1" / CHECKPOINT).write_bytes(b"0" * 50)
    write_ledger(folder, space)

    done = json.loads(sweep_gc(folder, "--json"))

    assert done["goes"] == []
    why = {its["trial"]: its["why"] for its in done["stays"]}
    assert why["0777"] == "no trial known here: sweep doctor moves it aside"


def test_gc_takes_no_folder_of_a_trial_where_journal_and_ledger_are_lost(folder: Path) -> None:
    before = {path.name for path in (folder / TRIALS).iterdir()}
    (folder / JOURNAL).write_text("")

    done = json.loads(sweep_gc(folder, "--json"))

    assert done["goes"] == []
    assert {path.name for path in (folder / TRIALS).iterdir()} == before


def test_a_look_outlives_files_that_a_driver_removes_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = folder / TRIALS / loser(folder) / CHECKPOINT
    real, looks = kept.checkpoints, list[Path]()

    def checkpoints(trial: Path) -> list[Path]:
        paths = real(trial)
        looks.append(trial)
        if trial == gone.parent and looks.count(trial) == 2:
            gone.unlink()
        return paths

    monkeypatch.setattr(kept, "checkpoints", checkpoints)

    holds = contents.contents(folder, ONE, TrialConfig())

    assert gone not in {item.path for item in holds.goes}


def test_gc_killed_in_the_middle_goes_on_with_the_same_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holds = contents.contents(folder, ONE, TrialConfig())
    half = contents.Contents(holds.kinds, holds.goes[:6], holds.stays)
    contents.remove(half, folder)

    sweep_gc(folder, "--best", "1")

    assert names(folder) == {loser(folder, 0)}


def test_trunks_go_only_once_no_trial_of_the_search_will_begin_from_them(folder: Path) -> None:
    (folder / TRUNKS / "recipe" / "00000010").mkdir(parents=True)
    (folder / TRUNKS / "recipe" / "00000010" / CHECKPOINT).write_bytes(b"0" * 100)
    journal = Journal(folder / JOURNAL)
    header = {k: v for k, v in journal.view.header.items() if k not in ("event", "time")}
    journal.append("sweep", **header)
    before = json.loads(sweep_gc(folder, "--json"))
    journal.append("end", ending="interrupted", reason="interrupted")
    interrupted = json.loads(sweep_gc(folder, "--json"))
    journal.append("end", ending="trials spent", reason="trials spent")
    journal.close()

    over = json.loads(sweep_gc(folder, "--json"))

    assert [item["kind"] for item in before["goes"] + interrupted["goes"]] == []
    assert [item["kind"] for item in over["goes"]] == ["trunks"]
    assert not (folder / TRUNKS).exists()
