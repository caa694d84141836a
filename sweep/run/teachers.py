"""The teachers in a run folder: a file each, which names networks and who learns from them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from model.config import Value
from model.files import write_text
from sweep.folder import TEACHERS, TRIALS
from sweep.view import View

Recipes = Mapping[str, Mapping[str, Value]]  # settings by the name of the recipe


@dataclass(frozen=True)
class Lesson:
    """How a network learns from a teacher."""

    weight: float = 0.5  # of the teacher in the loss; the text has the rest
    temperature: float = 1.0


def student_of(folder: Path, of: str, members: Sequence[tuple[str, float]], lesson: Lesson) -> str:
    """The recipe of the trial `of` with a teacher; its name, such as 0012-d1.

    members   names of runs in the folder, and the weight of each in the teacher
    The same teacher and lesson are the same recipe, whoever asks: their file is found again.
    """
    its = {
        "of": of,
        "members": [{"folder": f"../{TRIALS}/{name}", "weight": w} for name, w in members],
        "teacher_weight": lesson.weight,
        "teacher_temperature": lesson.temperature,
    }
    for number in count(1):
        name = f"{of}-d{number}"
        path = folder / TEACHERS / f"{name}.json"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_text(path, json.dumps(its, indent=2) + "\n")
        if json.loads(path.read_text()) == its:
            return name
    raise AssertionError("numbers never end")


def recipes(folder: Path, view: View) -> Recipes:
    """All that can be run again with fresh seeds: complete search trials, and their students."""
    searched = {trial.name: trial.settings for trial in view.ranked()}
    students = {}
    for path in sorted((folder / TEACHERS).glob("*.json")):
        its = json.loads(path.read_text())
        if its["of"] in searched:
            students[path.stem] = {
                **searched[its["of"]],
                "train.teacher": str(path.absolute()),
                "train.teacher_weight": its["teacher_weight"],
                "train.teacher_temperature": its["teacher_temperature"],
            }
    return searched | students
