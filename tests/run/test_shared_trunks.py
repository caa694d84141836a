"""A search whose trials share trunks, with the real trainer: the same losses for less."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweeps import finished, make_space, sharing_space

from model.config.config import Config
from model.progress import Progress
from sweep.journal import Journal
from sweep.records import Outcome
from sweep.replay.curves import read_curves
from sweep.results.budget import SEARCHING, spent
from sweep.results.report import counts, sweep_data
from sweep.run import local, trunk_files
from sweep.run.console import describe
from sweep.session.roles import Searching
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.space import Space
from sweep.tracking.metrics import of_outcome
from sweep.view import View

CHECKPOINTS = "trunks/*/*/checkpoint.safetensors"


class Killed(BaseException):
    """Ends a driver where it stands."""


@pytest.fixture
def space(small: dict[str, object], tmp_path: Path) -> Space:
    return sharing_space(tmp_path, small)


def without_sharing(folder: Path) -> Space:
    return make_space(folder, (folder / "space.yaml").read_text(), "trial.share_trunks=false")


def ran(session: Session, space: Space, folder: Path) -> View:
    """Run to the end with the trainer that the driver takes."""
    return finished(session, trunk_files.trainer(space, folder), folder / "trials")


def learned(view: View) -> dict[str, dict[int, tuple[float, ...]]]:
    """The losses of every trial, by step."""
    names = ("val_loss", "train_loss", "raw_loss", "bits_per_byte", "lr")
    return {
        trial.name: {e["step"]: tuple(e[n] for n in names) for e in trial.observations}
        for trial in view.searches()
    }


def test_trials_that_share_trunks_come_to_the_same_losses_for_less(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    lines: list[str] = []
    session = open_session(space, lambda event: lines.append(describe(session.journal.view, event)))
    view = ran(session, space, tmp_path)
    alone = _alone(tmp_path)

    ours, theirs = learned(view), learned(alone)
    assert [t.settings for t in view.searches()] == [t.settings for t in alone.searches()]
    for name, losses in ours.items():
        assert losses == {step: theirs[name][step] for step in losses}
        assert max(losses) == max(theirs[name])
    used, whole = spent(view, SEARCHING), spent(alone, SEARCHING)
    # 8 + 16 + 32 steps of each recipe alone; of trunks 6, 12 and 24, together 24 + 2 + 4 + 8.
    assert used.flops == pytest.approx(whole.flops * 38 / 56)
    assert used.flops + used.spared_flops == pytest.approx(whole.flops)
    assert "shared trunks spared 32% of FLOPs" in counts(view)
    begun = [trial for trial in view.searches() if trial.trunk]
    assert len(begun) == 4
    assert all(f"{trial.name} begins {trial.trunk}" in lines for trial in begun)
    assert all(t.trunk.startswith("from the trunk of trial 000") for t in begun)
    data = {trial["trial"]: trial for trial in sweep_data(view, False)["trials"]}
    assert data[begun[0].name]["trunk"] == begun[0].trunk
    first = begun[0]
    sent = {point.name: point.value for point in of_outcome(first)}
    assert sent["final/seconds"] == first.seconds
    assert sent["final/trunk_seconds"] > 0
    (curve,) = (
        c for c in read_curves(tmp_path) if dict(first.searched).items() <= c.settings.items()
    )
    assert curve.seconds == first.seconds + sent["final/trunk_seconds"]


def _alone(folder: Path) -> View:
    space = without_sharing(folder)
    (folder / "alone").mkdir()
    journal = Journal(folder / "alone" / "journal.jsonl")
    journal.append("sweep", name="alone", trials=6, train_tokens=space.train_tokens)
    session = Session(space, Searching.open(open_storage(None), space), journal)
    return finished(session, local.shared_trainer, folder / "alone" / "trials")


def killed_after(train: local.Train, evaluations: int) -> local.Train:
    """`train` in a process that dies once so many evaluations were handed over."""
    left = iter(range(evaluations))

    def run(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in train(config, folder):
            if next(left, None) is None:
                raise Killed
            yield progress

    return run


def test_a_driver_that_is_killed_anywhere_goes_on_to_the_same_losses_and_costs(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    whole, train = _alone(tmp_path), trunk_files.trainer(space, tmp_path)
    for after in (2, 5, 3):
        with pytest.raises(Killed):
            finished(open_session(space), killed_after(train, after), tmp_path / "trials")

    view = ran(open_session(space), space, tmp_path)

    ours, theirs = learned(view), learned(whole)
    assert ours.keys() == theirs.keys()
    for name, losses in ours.items():
        assert losses == {step: theirs[name][step] for step in losses}
    flops = spent(whole, SEARCHING).flops
    assert spent(view, SEARCHING).flops == pytest.approx(flops * 38 / 56)


def test_a_trunk_that_is_gone_means_the_start_and_is_told(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    train = trunk_files.trainer(space, tmp_path)

    def losing(config: Config, folder: Path) -> Iterator[Progress]:
        for path in tmp_path.glob(CHECKPOINTS):
            path.unlink()
        yield from train(config, folder)

    view = finished(open_session(space), losing, tmp_path / "trials")

    told = [trial.trunk for trial in view.searches()]
    assert told.count("at its start: the trunk it was to begin from is gone") == 4
    assert spent(view, SEARCHING).spared_flops == 0
    assert all(trial.outcome is Outcome.COMPLETE for trial in view.searches())


def test_trunks_that_nobody_needs_any_more_are_deleted(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    kept = []

    def watch(event: dict[str, object]) -> None:
        if event["event"] == "outcome":
            trunk_files.tidy(space, tmp_path, session.journal.view)
            kept.append(len(list(tmp_path.glob(CHECKPOINTS))))

    session = open_session(space, watch)
    ran(session, space, tmp_path)

    assert max(kept) > 0
    assert kept[-1] == 0


def test_the_oldest_trunks_make_room(
    small: dict[str, object], space: Space, tmp_path: Path
) -> None:
    train = trunk_files.trainer(space, tmp_path)
    config = Config.from_settings({**space.fixed, "train.epochs": 4, "optim.lr": 0.004})
    list(train(config, tmp_path / "trials" / "0000"))
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob(CHECKPOINTS))]
    room = (sum(sizes) - sizes[0] / 2) / 1e9

    tight = make_space(tmp_path, (tmp_path / "space.yaml").read_text(), f"trial.trunk_room={room}")
    trunk_files.tidy(tight, tmp_path, View())

    left = [int(path.parent.name) for path in sorted(tmp_path.glob(CHECKPOINTS))]
    assert left == [12, 24]


def test_a_budget_counts_what_a_trial_trains_itself(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    """Room for 38 of 56 steps of each recipe is room for all six trials."""
    whole = sum(t.flops for t in _alone(tmp_path).searches())
    text = (tmp_path / "space.yaml").read_text()
    enough = f"budget.flops={whole * 38 / 56 * 1.001}"
    tight = make_space(tmp_path, text, enough)

    view = ran(open_session(tight), tight, tmp_path)

    assert view.count(Outcome.COMPLETE) == 6
