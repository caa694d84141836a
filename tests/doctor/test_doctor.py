"""Run folders damaged with plain file operations: what is said, and what a repair makes of it."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sweeps import without_tracking

from model.training.release import CHECKPOINT
from sweep.cli.main import cli
from sweep.doctor import examine, repair
from sweep.doctor.ledger import lost_trials
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import JOURNAL, LEDGER, RESOLVED, SEALED, SWEEP_ID, TRIALS
from sweep.journal import mark, read_events, read_view
from sweep.records import Outcome
from sweep.session import LedgerTrial
from sweep.view import View

pytestmark = pytest.mark.xdist_group("trained runs")  # they take seconds to train


@pytest.fixture
def run(trained_runs: Path, tmp_path: Path) -> Path:
    """A copy of a run folder whose five trials were really trained."""
    return Path(shutil.copytree(trained_runs / "quickstart", tmp_path / "runs" / "quickstart"))


@pytest.fixture
def go_on(run: Path, trained_runs: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Result]:
    """Continue the sweep, with a budget of one trial more."""
    without_tracking(monkeypatch)
    monkeypatch.setenv("SWEEP_CACHE", str(trained_runs.parent / "cache"))
    space, corpus = trained_runs.parent / "quickstart.yaml", trained_runs.parent / "corpus"
    words = ["run", str(space), "--here", "--plain", "--trials", "6", "--runs", str(run.parent)]
    return lambda: CliRunner().invoke(cli, [*words, "--set", f"data.path={corpus}"])


def doctor(run: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["doctor", str(run), *words])
    assert done.exit_code in (0, 1), done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def losses(run: Path) -> dict[str, list[float]]:
    trials = read_view(run / JOURNAL).trials.values()
    return {t.name: [event["val_loss"] for event in t.observations] for t in trials}


def delete(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def garble(path: Path) -> None:
    path.write_bytes(b"not a database, " * 1000)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])


def put_an_older_copy_back(path: Path) -> None:
    """As it was before the last two trials were proposed."""
    database = sqlite3.connect(path)
    studies = dict(database.execute("SELECT study_name, study_id FROM studies"))
    database.execute("DELETE FROM trials WHERE number > 2 AND study_id = ?", (studies["search"],))
    database.commit()
    database.close()


def test_a_sound_run_folder_is_said_to_be_sound(run: Path) -> None:
    assert doctor(run) == (0, f"{run} is sound\n")
    assert doctor(run, "--repair") == (0, f"{run} is sound\n")
    assert not (run / "repairs").exists()


@pytest.mark.parametrize("damage", [delete, empty, garble, cut, put_an_older_copy_back])
def test_a_ledger_that_lacks_what_the_journal_has_stops_the_sweep_until_it_is_written_anew(
    damage: Callable[[Path], None], run: Path, go_on: Callable[[], Result]
) -> None:
    """Before, everything was trained again, and the journal got second outcomes."""
    before, journal = losses(run), (run / JOURNAL).read_bytes()
    damage(run / LEDGER)

    refused = go_on().exception
    assert isinstance(refused, SweepError)
    assert refused.code == REFUSED_TO_CONTINUE
    assert f"sweep doctor {run} --repair" in str(refused)
    assert (run / JOURNAL).read_bytes() == journal
    code, said = doctor(run)
    assert code == 1
    assert said.startswith(f"{LEDGER}: it ")

    assert doctor(run, "--repair")[0] == 0
    continued = go_on()

    assert continued.exit_code == 0, continued.exception
    after = losses(run)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {"0005"}
    assert doctor(run) == (0, f"{run} is sound\n")
    if damage is not delete:
        assert (run / "repairs" / "0001" / LEDGER).exists()


def test_lines_of_the_journal_that_are_damaged_come_back_from_the_checkpoints(run: Path) -> None:
    before, path = losses(run), run / JOURNAL
    lines = path.read_text().splitlines(keepends=True)
    of = [n for n, line in enumerate(lines) if '"observation"' in line and '"0003"' in line]
    lines[of[1]] = "{" + lines[of[1]]
    lines[of[-1]] = lines[of[-1]].replace('"basis_points"', '"basis_poinus"')
    damaged = "".join(lines) + '{"event": "outc'
    path.write_text(damaged)

    code, said = doctor(run)
    assert code == 1
    assert f"line {of[1] + 1}: no event stands there" in said
    assert f"line {of[-1] + 1}: its observation has no basis_points" in said
    assert "its last line is torn: 15 bytes" in said
    code, said = doctor(run, "--repair")

    assert code == 0, said
    assert losses(run) == before
    assert (run / "repairs" / "0001" / JOURNAL).read_text() == damaged


def test_a_trial_whose_own_line_is_damaged_comes_back_from_the_ledger(run: Path) -> None:
    """Before, all that it had done was taken out, and the trial was trained again."""
    before, path = losses(run), run / JOURNAL
    settings = read_view(path).trials["0003"].settings
    lines = path.read_text().splitlines(keepends=True)
    (of,) = [n for n, its in enumerate(lines) if '"event": "trial"' in its and '"0003"' in its]
    path.write_text("".join([*lines[:of], lines[of].replace("role", "rule"), *lines[of + 1 :]]))

    code, said = doctor(run, "--repair")

    assert code == 0, said
    assert losses(run) == before
    assert read_view(path).trials["0003"].settings == settings


def test_trials_that_only_the_ledger_has_are_neither_moved_nor_forgotten(run: Path) -> None:
    """Of an emptied journal: before, a repair moved all trials aside and called that sound."""
    ledger = (run / LEDGER).read_bytes()
    empty(run / JOURNAL)

    code, said = doctor(run, "--repair")

    assert code == 1
    assert f"{JOURNAL}: it lacks what {LEDGER} has" in said
    assert f"{TRIALS}/0003: {LEDGER} has its end, the journal does not know it" in said
    assert (run / TRIALS / "0003" / CHECKPOINT).exists()
    assert (run / LEDGER).read_bytes() == ledger


@pytest.mark.parametrize(("outcome", "lost"), [("complete", {"0001": False}), ("pruned", {})])
def test_a_trial_whose_last_line_was_cut_is_lost_only_if_it_was_to_go_on(
    outcome: str, lost: dict[str, bool], tmp_path: Path
) -> None:
    """A repair would have let a pruned one go on from a checkpoint that has given up its state."""
    view = View()
    trial = {"trial": "0001", "role": "search", "searched": {}, "settings": {}, "time": 0}
    view.apply({"event": "trial", **trial})
    view.apply({"event": "observation", "trial": "0001", "basis_points": 5000})
    ledger = {"0001": LedgerTrial({}, Outcome(outcome), frozenset({5000, 7500}))}

    assert lost_trials(tmp_path, view, ledger) == lost


def test_what_was_trained_twice_counts_once(run: Path) -> None:
    """As versions left it that trained everything again once the ledger was lost."""
    path, before = run / JOURNAL, losses(run)
    lines = path.read_text().splitlines(keepends=True)
    again = [line for line in lines if '"trial": "0001"' in line]
    path.write_text("".join([*lines, *again]))

    code, said = doctor(run)
    assert code == 1
    assert f"{len(again)} events of trials that had ended" in said
    assert doctor(run, "--repair")[0] == 0

    assert losses(run) == before
    assert path.read_text() == "".join(lines)


def test_what_belongs_to_nothing_is_moved_aside_and_what_the_journal_has_is_written(
    run: Path,
) -> None:
    (run / TRIALS / "0099").mkdir()
    (run / TRIALS / "0099" / CHECKPOINT).write_bytes(b"0")
    (run / SWEEP_ID).write_text("another")
    (run / SEALED).write_text("[{}]")
    (run / "tracking.json").write_text(json.dumps({"uri": "", "offset": 3}))

    report = json.loads(CliRunner().invoke(cli, ["doctor", str(run), "--json"]).stdout)
    assert [its["file"] for its in report["damages"]] == [
        f"{TRIALS}/0099", SWEEP_ID, SEALED, "tracking.json",
    ]  # fmt: skip
    assert all(its["repairable"] for its in report["damages"])

    assert doctor(run, "--repair")[0] == 0
    aside = run / "repairs" / "0001"
    assert sorted(str(path.relative_to(aside)) for path in aside.rglob("*") if path.is_file()) == [
        SWEEP_ID, SEALED, "tracking.json", f"{TRIALS}/0099/{CHECKPOINT}",
    ]  # fmt: skip
    header = next(read_events(run / JOURNAL))[0]
    assert (run / SWEEP_ID).read_text() == header["id"]


def test_weights_that_are_damaged_are_told_and_cannot_be_repaired(run: Path) -> None:
    path = run / TRIALS / "0002" / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))

    for words in ((), ("--repair",)):
        code, said = doctor(run, *words)
        assert code == 1
        assert f"{TRIALS}/0002/{CHECKPOINT}: tensor " in said
        assert "is not as it was written\n  its weights are lost for text" in said
    path.write_bytes(whole[:-8])
    assert f"it has {len(whole) - 8:,} bytes, not {len(whole):,}" in doctor(run)[1]


@pytest.mark.parametrize("section", ["fixed", "search", "trial", "name"])
def test_a_definition_without_a_section_is_one_message(
    section: str, run: Path, go_on: Callable[[], Result]
) -> None:
    text = (run / RESOLVED).read_text().replace(f"{section}:", f"{section}x:", 1)
    (run / RESOLVED).write_text(text)

    confirmed = CliRunner().invoke(cli, ["confirm", str(run), "--here"]).exception
    for error in (go_on().exception, confirmed):
        assert isinstance(error, SweepError)
        assert f"{RESOLVED} is missing or damaged" in str(error)
        assert f"it has no {section}" in str(error)
    assert doctor(run)[0] == 1


def test_publishing_from_a_folder_that_cannot_be_written_is_one_message(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that publishes would die before it could say so."""
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)

    error = CliRunner().invoke(cli, ["publish", str(run)]).exception

    assert isinstance(error, SweepError)
    assert "cannot be written to" in str(error)


def test_a_cursor_of_lines_that_a_crash_took_is_named_and_put_aside(run: Path) -> None:
    """Another line of that length stands there now: its offset alone says nothing."""
    journal = run / JOURNAL
    end = journal.stat().st_size
    sent = {"uri": "", "offset": end, "mark": mark(journal, end)}
    (run / "tracking.json").write_text(json.dumps(sent))
    assert doctor(run) == (0, f"{run} is sound\n")

    (run / "tracking.json").write_text(json.dumps({**sent, "mark": "0123456789abcdef"}))

    code, said = doctor(run)
    assert code == 1
    assert said.startswith("tracking.json: the journal's lines before it are not those that were ")
    assert doctor(run, "--repair")[0] == 0
    assert not (run / "tracking.json").exists()


def test_what_was_searched_comes_back_from_the_journal_word_for_word(
    run: Path, go_on: Callable[[], Result]
) -> None:
    """With the ledger, which cannot be written anew without it."""
    before, resolved = losses(run), (run / RESOLVED).read_bytes()
    (run / RESOLVED).unlink()
    (run / LEDGER).unlink()

    assert doctor(run)[1].startswith(f"{RESOLVED}: it is missing")
    assert doctor(run, "--repair")[0] == 0
    assert (run / RESOLVED).read_bytes() == resolved
    assert go_on().exit_code == 0

    after = losses(run)
    assert {name: after[name] for name in before} == before
    assert doctor(run) == (0, f"{run} is sound\n")


class Killed(BaseException):
    """Instead of SIGKILL."""


def test_a_repair_that_is_killed_before_any_of_its_writes_can_be_made_again(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = losses(run)
    lines = (run / JOURNAL).read_bytes().splitlines(keepends=True)
    (run / JOURNAL).write_bytes(b"".join(lines) + lines[-3])
    for name in (LEDGER, RESOLVED, SWEEP_ID):
        (run / name).unlink()
    (run / TRIALS / "0099").mkdir()
    left = [0]

    def counted(write: Callable[..., object]) -> Callable[..., object]:
        def before(*words: object, **named: object) -> object:
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return write(*words, **named)

        return before

    for place, name in ((os, "replace"), (os, "fsync"), (shutil, "copy2"), (Path, "rename")):
        monkeypatch.setattr(place, name, counted(getattr(place, name)))
    survived = []
    for writes in range(1, 100, 3):  # each takes a second
        copy = tmp_path / f"{writes}"
        left[0] = 1000
        shutil.copytree(run, copy, copy_function=shutil.copyfile)
        left[0] = writes
        try:
            repair(copy)
        except Killed:
            survived.append(writes)
            left[0] = 1000
            repair(copy)
        left[0] = 1000
        assert examine(copy) == []
        assert losses(copy) == before
        if writes not in survived:
            break

    assert len(survived) >= 2
