"""A trial trained again and held against its journal; real training of tiny GPTs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from fakes import fake_train
from run_folders import Ended, write_run
from sweeps import finished, sharing_space

from model.config import Config
from model.progress import Progress
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import ENVIRONMENT, JOURNAL, RESOLVED, TEACHERS
from sweep.journal import Journal, read_events, read_view
from sweep.records import End, Ending, Event
from sweep.run import reproduction, trunk_files
from sweep.run.agreement import agreements
from sweep.run.manifest import digest_of_trainer
from sweep.run.placed import placed
from sweep.run.reproduction import Prepared, verdict
from sweep.session.session import Session
from sweep.space.space import Space

pytestmark = pytest.mark.xdist_group("trained runs")  # they take seconds to train


@pytest.fixture
def run(trained_runs: Path, tmp_path: Path) -> Path:
    """A run folder of a test's own, without networks; its trials were really trained."""
    folder = tmp_path / "quickstart"
    shutil.copytree(trained_runs / "quickstart", folder, ignore=lambda *_: ["trials", "study.db"])
    return folder


def reproduce(*words: object) -> Result:
    done = CliRunner().invoke(cli, ["reproduce", *map(str, words)])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def rewrite(folder: Path, change: Callable[[Event], Event | None]) -> None:
    """Put other events into the journal; those that become None are left out."""
    events = [change(event) for event, _ in read_events(folder / JOURNAL)]
    lines = [json.dumps(event) for event in events if event is not None]
    (folder / JOURNAL).write_text("\n".join(lines) + "\n")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_on_the_same_machine_every_evaluation_is_the_same_bit_for_bit(run: Path) -> None:
    before = contents(run)

    done = reproduce(run)

    assert done.exit_code == 0, done.output
    assert "expected: the same losses, bit for bit" in done.output
    assert done.output.count("  same\n") == 4
    assert "reproduced, bit for bit: 4 evaluations" in done.output
    assert contents(run) == before


def test_one_bit_of_the_journal_that_differs_is_found(run: Path) -> None:
    name = read_view(run / JOURNAL).ranked()[0].name

    def change(event: Event) -> Event:
        if event.get("trial") == name and event.get("basis_points") == 5000:
            event["val_loss"] += 2**-50
        return event

    rewrite(run, change)
    done = reproduce(run, name)

    assert done.exit_code == 1
    assert "not bit for bit, though all that it depends on agrees" in done.output
    assert done.output.count("val_loss ") == 1
    assert "50 %  val_loss" in done.output


def test_a_baseline_run_and_a_trial_by_its_number_are_reproduced_too(run: Path) -> None:
    assert reproduce(run, "baseline-2x", "--check").exit_code == 0
    assert reproduce(run, "1", "--check").exit_code == 0


def test_a_trial_that_was_pruned_is_trained_as_far_as_it_came(run: Path) -> None:
    def change(event: Event) -> Event | None:
        if event.get("trial") == "0002":
            if event.get("basis_points", 0) > 5000:
                return None
            if event["event"] == "outcome":
                return {**event, "outcome": "pruned", "ending": "behind its peers"}
        return event

    rewrite(run, change)
    done = reproduce(run, "0002")

    assert done.exit_code == 0, done.output
    assert "50.0 %" in done.output
    assert "75.0 %" not in done.output


def test_the_threads_are_those_that_it_had(run: Path) -> None:
    """Sums are cut into as many parts: other threads are other bits."""

    def change(event: Event) -> Event:
        if "machine" in event:
            event["machine"]["threads"] = 3
        return event

    rewrite(run, change)
    view = read_view(run / JOURNAL)

    prepared = reproduction.prepare(run, view, view.trials["0000"], {})

    assert prepared.threads == 3
    assert prepared.same_kind
    assert next(each.now for each in prepared.agreements if each.what == "threads") == "3"


def test_on_another_machine_the_last_loss_must_be_within_the_noise(run: Path) -> None:
    def change(event: Event) -> Event:
        if "machine" in event:
            event["machine"]["device"] = "another CPU"
        if event["event"] == "observation":
            event["val_loss"] += 1e-6
        return event

    rewrite(run, change)

    unknown = reproduce(run, "0000", "--json")
    within = reproduce(run, "0000", "--noise", "0.001")
    beyond = reproduce(run, "0000", "--noise", "1e-9")

    assert "device     another CPU" in within.output
    assert "expected: a last loss within the noise between seeds" in within.output
    assert (unknown.exit_code, within.exit_code, beyond.exit_code) == (1, 0, 1)
    assert "nobody has measured" in json.loads(unknown.stdout)["verdict"]
    assert "within the 0.0028 that seeds alone" in within.output
    assert "0 %  val_loss" in beyond.output


def test_a_journal_that_notes_no_machine_is_held_against_what_it_has(run: Path) -> None:
    def change(event: Event) -> Event:
        return {key: v for key, v in event.items() if key not in ("machine", "environment")}

    rewrite(run, change)
    (run / ENVIRONMENT).unlink()

    done = reproduce(run, "--json")

    its = json.loads(done.stdout)
    then = {each["what"]: each["then"] for each in its["agreements"]}
    assert (then["threads"], then["torch"], its["expected"]) == (None, None, "noise")
    assert then["trainer"] == digest_of_trainer()
    assert (its["exact"], done.exit_code) == (True, 0)


def test_settings_that_are_not_those_of_the_space_are_told(run: Path) -> None:
    path = run / RESOLVED
    resolved = yaml.safe_load(path.read_text())
    resolved["fixed"]["gpt.width"] = 32
    resolved["trainer"] = "another"
    path.write_text(yaml.safe_dump(resolved))

    for trial in ("0000", "baseline-1x"):
        done = reproduce(run, trial, "--check")
        assert done.exit_code == 1
        assert "another gpt.width" in done.output
        assert "trainer" in done.output.partition("otherwise")[2]


def test_a_trial_that_began_from_a_trunk_is_the_same_without_it(
    tmp_path: Path, small: dict[str, object], open_session: Callable[..., Session]
) -> None:
    space = sharing_space(tmp_path, small)
    train = trunk_files.trainer(space, tmp_path)
    view = finished(open_session(space), train, tmp_path / "trials")
    branched = [trial for trial in view.searches() if "from the trunk" in trial.trunk]

    done = reproduce(tmp_path, branched[-1].name, "--json")

    its = json.loads(done.stdout)
    assert (its["exact"], its["reproduced"]) == (True, True), done.output


def test_a_run_of_its_own_is_kept_and_reproduced_also_without_git(
    small: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    words = [f"--set={name}={value}" for name, value in small.items()]
    CliRunner().invoke(cli, ["train", *words, "--out", str(tmp_path / "one")])

    first = reproduce(tmp_path / "one", "--keep", tmp_path / "two")
    again = reproduce(tmp_path / "two", "--check")

    assert first.exit_code == 0, first.output
    assert again.exit_code == 0, again.output
    assert (tmp_path / "two" / "checkpoint.safetensors").exists()


def test_what_cannot_be_trained_again_gets_one_message(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "empty"))
    moved = tmp_path / "moved"
    with pytest.raises(SweepError, match="cannot be trained here") as caught:
        reproduce(run, "--set", f"data.path={moved}")
    assert str(caught.value).count("\n") == 2
    with pytest.raises(SweepError, match="another setting would make it another trial"):
        reproduce(run, "--set", "train.epochs=3")
    with pytest.raises(SweepError, match="stays as it is"):
        reproduce(run, "--keep", run / "again")
    with pytest.raises(SweepError, match="no such trial"):
        reproduce(run, "0099")


def test_a_loop_of_ones_own_and_a_trial_without_evaluations_are_refused(
    run: Path, tmp_path: Path
) -> None:
    trial = {"trial": "0009", "role": "search", "searched": {}, "settings": {}}
    journal = Journal(run / JOURNAL)
    journal.append("trial", **trial)
    journal.append("outcome", trial="0009", outcome="failed", ending="failed", reason="no memory")
    journal.close()
    with pytest.raises(SweepError, match=r"0009 has no evaluation.*failed \(no memory\)"):
        reproduce(run, "0009")

    resolved = yaml.safe_load((run / RESOLVED).read_text())
    (run / RESOLVED).write_text(yaml.safe_dump({**resolved, "trainer": "outside"}))
    with pytest.raises(SweepError, match="a loop outside trained"):
        reproduce(run)


def test_a_teacher_moves_with_its_run_folder(tmp_path: Path) -> None:
    (tmp_path / TEACHERS).mkdir()
    here = tmp_path / TEACHERS / "0001-d1.json"
    here.write_text("{}")

    gone = {"train.teacher": "/gone/teachers/0001-d1.json"}

    assert reproduction._teacher_here(tmp_path, gone) == {"train.teacher": str(here)}
    assert reproduction._teacher_here(tmp_path, {"train.teacher": str(here)}) == {}
    assert reproduction._teacher_here(tmp_path, {}) == {}


def test_the_journal_notes_a_machine_once_and_again_when_it_is_another(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    session = open_session(space)
    trial = session.next_trial()
    assert trial is not None
    config = Config.from_settings(trial.settings)

    for number, progress in enumerate(fake_train(config, tmp_path / "t")):
        session.observe(trial, placed(progress, {"threads": 1 if number < 4 else 2}))
    session.close(End(Ending.INTERRUPTED))

    noted = [
        e["machine"]["threads"]
        for e in session.journal.view.trials[trial.name].observations
        if "machine" in e
    ]
    assert noted == [1, 2]


PROGRESS: dict[str, Any] = {
    "basis_points": 10_000,
    "step": 10,
    "epoch": 1.0,
    "tokens": 10,
    "train_loss": 2.0,
    "val_loss": 3.0,
    "val_loss_error": 0.1,
    "bits_per_byte": 1.0,
    "raw_loss": 3.0,
    "lr": 0.0,
    "seconds": 1.0,
}


def prepared(tmp_path: Path, loss: float, noise: float, same_kind: bool = False) -> Prepared:
    text = "name: s\nsearch: {train.epochs: [1, 2]}\nbudget: {trials: 1}\n"
    folder = write_run(tmp_path / "made", text, [Ended({"train.epochs": 1}, loss)], noise=noise)
    view = read_view(folder / JOURNAL)
    trial = view.trials["0000"]
    del trial.observations[:-1]
    return Prepared(view, trial, Config(), 1, "digest", [], same_kind, on_gpu=False)


@pytest.mark.parametrize(
    ("loss", "noise", "same_kind", "reproduced", "text"),
    [
        (3.001, 0.01, False, True, "within the 0.028"),
        (3.1, 0.01, False, False, "beyond the 0.028"),
        (3.001, 0.0, False, False, "nobody has measured"),
        (3.001, 0.01, True, False, "not bit for bit, though"),
    ],
)
def test_a_loss_is_judged_by_the_noise_between_seeds(
    tmp_path: Path, loss: float, noise: float, same_kind: bool, reproduced: bool, text: str
) -> None:
    its = prepared(tmp_path, loss, noise, same_kind)
    pairs = [(its.trial.last, Progress(**PROGRESS))]

    outcome = verdict(its, pairs)

    assert outcome.reproduced == reproduced
    assert text in outcome.text


def test_a_run_that_diverges_where_the_other_did_not_is_not_reproduced(tmp_path: Path) -> None:
    its = prepared(tmp_path, 3.0, 0.01)
    broken = Progress(**{**PROGRESS, "val_loss": float("nan"), "diverged_step": 7})

    assert not verdict(its, [(its.trial.last, broken)]).reproduced
    early = Progress(**{**PROGRESS, "basis_points": 5000, "diverged_step": 7})
    assert "diverged at step 7" in verdict(its, [(None, early)]).text


def test_what_another_version_trained_is_told_with_its_version(run: Path) -> None:
    def change(event: Event) -> Event:
        if "machine" in event:
            event["machine"]["torch"] = "2.0.0"
        if "environment" in event:
            event["environment"]["commit"] = "abc"
        return event

    rewrite(run, change)
    view = read_view(run / JOURNAL)

    its = agreements(run, view, view.trials["0000"], "d", {"threads": 1, "torch": "2.13"})

    differ = {each.what: (each.then, each.counts) for each in its if not each.agrees}
    assert differ["torch"] == ("2.0.0", True)
    assert differ["commit"] == ("abc", False)
