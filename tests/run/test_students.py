"""`sweep ensemble --distill` and `--chain`: students in a finished search's run folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from fakes import noisy_train

from model.config.config import Config
from model.progress import Progress
from model.training.release import CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import JOURNAL, TRIALS
from sweep.journal import read_view
from sweep.records import Ending, Role
from sweep.run.confirmation import Request, confirm
from sweep.run.driver import Options
from sweep.run.students import distill
from sweep.run.teachers import Lesson
from sweep.space.settings import BudgetConfig

HERE = Options(here=True, plain=True)
ANY = BudgetConfig(trials=99)


def of(folder: Path, links: int = 1, lesson: Lesson | None = None, train=noisy_train) -> list[str]:
    """Distil the two best trials, whose networks the fake trainer did not keep."""
    best = [trial.name for trial in read_view(folder / JOURNAL).ranked()[:2]]
    for name in best:
        (folder / TRIALS / name).mkdir(parents=True, exist_ok=True)
        (folder / TRIALS / name / CHECKPOINT).touch()
    members = [(best[0], 0.7), (best[1], 0.3)]
    code, names = distill(folder, members, best[0], lesson or Lesson(), links, ANY, HERE, train)
    assert code == 0
    return names


def ended(folder: Path) -> list[str]:
    trials = read_view(folder / JOURNAL).trials.values()
    return [trial.name for trial in trials if trial.role is Role.CONFIRM and trial.outcome]


def test_a_student_has_the_best_recipe_a_teacher_and_a_fresh_seed(folder: Path) -> None:
    before = read_view(folder / JOURNAL).ranked()

    (name,) = of(folder)

    view, best = read_view(folder / JOURNAL), before[0]
    assert name == f"{best.name}-d1-s1"
    taught = dict(view.trials[name].settings)
    teacher = folder / "teachers" / f"{best.name}-d1.json"
    assert taught.pop("train.teacher") == str(teacher.absolute())
    assert (taught.pop("train.teacher_weight"), taught.pop("train.teacher_temperature")) == (0.5, 1)
    seeds = ("train.seed", "train.data_seed")
    assert all(taught.pop(seed) == 1_000_001 for seed in seeds)
    assert taught == {k: v for k, v in best.settings.items() if k not in seeds}
    assert [trial.name for trial in view.ranked()] == [trial.name for trial in before]
    assert view.end is not None
    assert view.end.ending is Ending.DISTILLED


def test_the_same_request_finds_its_student_and_another_lesson_is_another(folder: Path) -> None:
    first = of(folder)

    assert of(folder) == first
    assert of(folder, lesson=Lesson(temperature=2.0)) == [first[0].replace("-d1-", "-d2-")]
    assert len(ended(folder)) == 2


def test_each_link_of_a_chain_begins_once_the_one_before_has_ended(folder: Path) -> None:
    seen: list[tuple[str, str]] = []

    def watched(config: Config, folder: Path) -> Iterator[Progress]:
        seen.append((folder.name, Path(config.train.teacher).read_text()))
        yield from noisy_train(config, folder)

    names = of(folder, links=3, train=watched)

    best = read_view(folder / JOURNAL).ranked()[0].name
    assert names == [f"{best}-d{link}-s{link}" for link in (1, 2, 3)] == [name for name, _ in seen]
    for (name, _), (_, teacher) in pairwise(seen):
        assert f'"../trials/{name}"' in teacher


def test_a_chain_that_was_killed_goes_on_where_it_was(folder: Path) -> None:
    def killed(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in noisy_train(config, folder):
            yield progress
            if folder.name.endswith("-s2"):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        of(folder, links=3, train=killed)
    assert len(ended(folder)) == 1

    assert of(folder, links=3) == ended(folder)


def test_a_link_that_diverges_ends_the_chain(folder: Path) -> None:
    def diverging(config: Config, folder: Path) -> Iterator[Progress]:
        for progress in noisy_train(config, folder):
            yield replace(progress, diverged_step=1 if folder.name.endswith("-s2") else None)

    names = of(folder, links=3, train=diverging)

    assert ended(folder) == names[:2]
    end = read_view(folder / JOURNAL).end
    assert end is not None
    assert end.ending is Ending.RUNS_FAILED


def test_a_confirmation_afterwards_knows_the_students_and_leaves_them_be(folder: Path) -> None:
    (name,) = of(folder)

    confirm(folder, Request(2, 2, until_separated=False, budget=ANY, test=False), HERE, noisy_train)

    view = read_view(folder / JOURNAL)
    assert view.end is not None
    assert view.end.ending is Ending.CONFIRMED
    assert name not in view.confirmed[-1]["tied"]
    assert of(folder) == [name]


def test_what_cannot_be_distilled_is_refused_in_one_message(folder: Path) -> None:
    best = read_view(folder / JOURNAL).ranked()[0].name

    with pytest.raises(SweepError, match=f"the teacher lacks networks: {best} have no checkpoint"):
        distill(folder, [(best, 1.0)], best, Lesson(), 1, ANY, HERE, noisy_train)
    with pytest.raises(SweepError, match="no complete search trial 0099"):
        distill(folder, [(best, 1.0)], "0099", Lesson(), 1, ANY, HERE, noisy_train)
    assert ended(folder) == []
    assert not (folder / "teachers").exists()
