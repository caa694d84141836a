"""Whether what would train a trial now is what trained it then."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.config import PATHS
from sweep.folder import ENVIRONMENT, JOURNAL, RESOLVED
from sweep.journal import read_events
from sweep.records import BaselinePoint, FinalistRun
from sweep.run.manifest import digest_of_trainer, environment, read_resolved
from sweep.run.teachers import recipes
from sweep.space import Space
from sweep.space.baseline import baseline_settings
from sweep.space.compatibility import Outside, place, trained_otherwise
from sweep.space.language import saved_space
from sweep.view import TrialView, View

SAME = "as resolved.yaml says"
# On these the bits of a loss depend; of a machine all does that model.training.machine says.
PACKAGES_THAT_COUNT = ("torch", "numpy")
PACKAGES_TOLD = ("sweep", "ray", "optuna")


@dataclass(frozen=True)
class Agreement:
    """One thing that training depends on, or that is told beside it, then and now."""

    what: str
    then: str | None  # None: nobody noted it
    now: str
    counts: bool  # whether the bits of a loss may depend on it

    @property
    def agrees(self) -> bool:
        return self.then == self.now

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "agrees": self.agrees}


def agreements(
    folder: Path, view: View, trial: TrialView, data: str, here: Mapping[str, object]
) -> list[Agreement]:
    """All that is known of what trained `trial`, beside what would train it here.

    data   digest of the tokens that are here
    here   what model.training.machine says of this machine
    """
    then, now = environment_of(folder, trial.name), environment()
    its = [
        Agreement("settings", _settings(folder, view, trial), SAME, counts=False),
        Agreement(
            "data", _text(trial.settings.get("data.digest") or view.header["data"]), data, True
        ),
        Agreement("trainer", _trainer(folder, then), digest_of_trainer(), True),
        Agreement("commit", _commit(then), _commit(now) or "", False),
        Agreement("python", _version(then.get("python")), _version(now["python"]) or "", False),
    ]
    packages = then.get("packages") or {}
    for name in (*PACKAGES_THAT_COUNT, *PACKAGES_TOLD):
        with suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version(name)
            counts = name in PACKAGES_THAT_COUNT
            noted = trial.machine.get(name) if trial.machine else None
            its.append(Agreement(name, _text(noted or packages.get(name)), version, counts))
    noted = trial.machine or {}
    for name in dict.fromkeys([*here, *noted]):
        if name not in PACKAGES_THAT_COUNT:
            value = str(here.get(name, "none"))
            its.append(Agreement(name, _text(noted.get(name)), value, counts=True))
    return its


def same_kind(its: list[Agreement], here: Mapping[str, object]) -> bool:
    """Whether the losses must be the same to the last bit: a CPU, and all that counts agrees."""
    return "threads" in here and all(each.agrees for each in its if each.counts)


def environment_of(folder: Path, name: str) -> dict[str, Any]:
    """What the driver of the trial's latest evaluation noted of itself.

    Journals of earlier versions have none of it: then it is that of the folder's last driver.
    """
    header: dict[str, Any] = {}
    its: dict[str, Any] = {}
    for event, _ in read_events(folder / JOURNAL):
        if event["event"] == "sweep":
            header = event
        elif event["event"] == "observation" and event["trial"] == name:
            its = header
    noted = its.get("environment")
    if noted is None:
        with suppress(OSError, ValueError):
            noted = json.loads((folder / ENVIRONMENT).read_text(encoding="utf-8"))
    return noted if isinstance(noted, dict) else {}


def _trainer(folder: Path, then: Mapping[str, Any]) -> str | None:
    """The digest of the code that trained: a sweep goes on with no other."""
    if (folder / RESOLVED).exists():
        return _text(read_resolved(folder / RESOLVED).get("trainer"))
    return _text(then.get("trainer"))


def _settings(folder: Path, view: View, trial: TrialView) -> str | None:
    """SAME, or in what the journal has the trial otherwise than the space; None without a space."""
    if not (folder / RESOLVED).exists():
        return SAME if view.header["fixed"] == trial.settings else "otherwise than the header"
    space = saved_space(folder)
    if space is None:
        return None
    try:
        expected = _expected(folder, space, view, trial)
    except Outside as error:
        return f"a trial with {error}"
    different = trained_otherwise(trial.settings, expected)
    return f"another {different}" if different else SAME


def _expected(folder: Path, space: Space, view: View, trial: TrialView) -> Mapping[str, Any]:
    if isinstance(trial.kind, BaselinePoint):
        return baseline_settings(space, trial.kind)
    if isinstance(trial.kind, FinalistRun):
        recipe = recipes(folder, view).get(trial.kind.finalist)
        if recipe is None:
            raise Outside(f"no finalist {trial.kind.finalist}")
        # The run folder may have moved since.
        return {**recipe, **{name: trial.settings.get(name, "") for name in PATHS}}
    return {**space.fixed, **place(space.hyperparameters, trial.settings)}


def _commit(environment: Mapping[str, Any]) -> str | None:
    return str(environment["commit"] or "no repository") if "commit" in environment else None


def _text(value: object) -> str | None:
    return None if value in (None, "") else str(value)


def _version(python: object) -> str | None:
    """Of sys.version, the number."""
    return str(python).split()[0] if python else None
