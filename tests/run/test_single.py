"""One run of the trainer with the journal of a sweep of one trial; real training of a tiny GPT."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from model.config import Config, ConfigError
from model.training.train import train
from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import JOURNAL, RESOLVED
from sweep.journal import read_events, read_view
from sweep.records import Ending, Outcome
from sweep.results import report
from sweep.run import single
from sweep.run.manifest import write_or_compare
from sweep.run.single import SingleRun
from sweep.space.space import Space


@pytest.fixture
def config(small: dict[str, object]) -> Config:
    return Config.from_settings({**small, "train.precision": "fp32"})


def run(config: Config, folder: Path) -> SingleRun:
    return SingleRun(config, folder, {"train.epochs": config.train.epochs}, "d1", "http://nowhere")


def test_a_run_by_itself_is_read_as_a_sweep_of_one_trial(config: Config, tmp_path: Path) -> None:
    alone = run(config, tmp_path)
    losses = [progress.val_loss for progress in alone.train()]

    view = read_view(tmp_path / JOURNAL)
    trial = view.trials["0000"]
    assert [event["val_loss"] for event in trial.observations] == losses
    assert (trial.outcome, view.end and view.end.ending) == (
        Outcome.COMPLETE,
        Ending.TRIALS_SPENT,
    )
    assert report.counts(view).startswith("1/1 trials")
    assert "0000" in report.leaderboard(view)
    assert os.path.samefile(tmp_path / "trials" / "0000", tmp_path)
    assert f"val loss {losses[-1]:.4f} after " in alone.closing()
    assert f"sweep sample {tmp_path}" in alone.closing()


def test_a_run_goes_on_by_the_digest_of_its_tokens_where_their_text_is_gone(
    small: dict[str, object], corpus: Path, tmp_path: Path
) -> None:
    words = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    words = ["train", *words, "--out", str(tmp_path / "run")]
    first = CliRunner().invoke(cli, words)
    assert first.exit_code == 0, first.exception
    corpus.rename(tmp_path / "elsewhere")

    again = CliRunner().invoke(cli, words)

    assert again.exit_code == 0, again.exception
    assert again.stdout == first.stdout
    assert isinstance(CliRunner().invoke(cli, [*words[:-1], "new"]).exception, SweepError)


def test_watching_each_step_changes_no_loss(config: Config, tmp_path: Path) -> None:
    heard: list[tuple[int, float]] = []
    unwatched = [p.val_loss for p in train(config, tmp_path / "a")]
    watched = list(train(config, tmp_path / "b", watch=lambda *step: heard.append(step)))

    assert [p.val_loss for p in watched] == unwatched
    assert [step for step, _ in heard] == list(range(1, config.steps + 1))
    stretch = [loss for step, loss in heard if step <= watched[0].step]
    assert sum(stretch) / len(stretch) == pytest.approx(watched[0].train_loss)


def test_a_run_that_is_stopped_goes_on_and_its_journal_doubles_nothing(
    config: Config, tmp_path: Path
) -> None:
    evaluations = run(config, tmp_path).train()
    next(evaluations)
    evaluations.close()
    assert read_view(tmp_path / JOURNAL).end
    assert not read_view(tmp_path / JOURNAL).trials["0000"].outcome

    losses = [progress.val_loss for progress in run(config, tmp_path).train()]
    again = [progress.val_loss for progress in run(config, tmp_path).train()]

    events = [event for event, _ in read_events(tmp_path / JOURNAL)]
    steps = [event["step"] for event in events if event["event"] == "steps"]
    assert steps == sorted(set(steps))
    assert steps[-1] == config.steps
    marks = [event["basis_points"] for event in events if event["event"] == "observation"]
    assert marks == sorted(set(marks))
    assert again == losses
    assert read_view(tmp_path / JOURNAL).trials["0000"].outcome is Outcome.COMPLETE


def test_a_sweep_and_a_run_by_itself_do_not_share_a_folder(
    config: Config, space: Space, tmp_path: Path
) -> None:
    swept, alone = tmp_path / "swept", tmp_path / "alone"
    swept.mkdir()
    write_or_compare(swept, space, "")
    list(run(config, alone).train())

    with pytest.raises(SweepError, match="holds a sweep"):
        next(run(config, swept).train())
    with pytest.raises(SweepError, match="is missing or damaged"):
        write_or_compare(alone, space, "")

    assert not (swept / JOURNAL).exists()
    assert not (alone / RESOLVED).exists()


def test_a_folder_that_the_trainer_refuses_keeps_its_journal(
    config: Config, small: dict[str, object], tmp_path: Path
) -> None:
    list(run(config, tmp_path).train())
    before = (tmp_path / JOURNAL).read_bytes()
    other = Config.from_settings({**small, "train.precision": "fp32", "train.seed": 7})

    with pytest.raises(ConfigError, match="choose another folder"):
        list(run(other, tmp_path).train())

    assert (tmp_path / JOURNAL).read_bytes() == before


def test_between_evaluations_it_says_how_far_it_is_and_how_fast(
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(single, "SECONDS_BETWEEN_LINES", {True: 0.0, False: 0.0})

    list(run(config, tmp_path).train())

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == config.steps
    assert lines[1].startswith(f"step 2 of {config.steps} (")
    assert "tokens/s, about 0:0" in lines[-1]


def test_a_run_worth_it_is_published_while_it_trains(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeps import without_tracking

    started: list[str] = []
    without_tracking(monkeypatch)
    start = single.process.start
    monkeypatch.setattr(single.process, "start", lambda f, uri: started.append(uri) or start(f))
    short = run(config, tmp_path / "short")
    list(short.train())
    monkeypatch.setattr(single, "SECONDS_WORTH", -1.0)

    long = run(config, tmp_path / "long")
    list(long.train())

    assert started == ["http://nowhere"]
    assert "sweep publish" in short.closing()
    assert "sweep publish" not in long.closing()
