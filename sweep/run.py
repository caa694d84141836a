"""A run folder, from a space to a result: opened or continued, driven, reported."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import model
from model.config import Config
from model.setting import ConfigError
from sweep import publisher
from sweep.errors import REFUSED_TO_CONTINUE, TOO_MANY_FAILED, SweepError
from sweep.interrupt import Interrupt, Interrupted
from sweep.journal import NAME as JOURNAL
from sweep.journal import Journal
from sweep.local_runner import Train, shared_trainer
from sweep.records import Event, Outcome, Role
from sweep.reference_cache import ReferenceCache
from sweep.reference_table import settled
from sweep.space import Space

if TYPE_CHECKING:
    from sweep.ray_cluster import Cluster
    from sweep.session import Session

CHANGEABLE = ("budget", "trial")  # sections that a continued sweep may have differently
DRIVER_LOCK = "driver.lock"
PACKAGES = ("torch", "ray", "optuna", "mlflow", "tiktoken", "pyarrow", "numpy")


@dataclass(frozen=True)
class Options:
    """How a sweep is driven, as opposed to what it searches."""

    runs: Path = Path("runs")
    address: str | None = None  # of a Ray cluster; None: one of our own
    here: bool = False  # one trial at a time in this process, without Ray
    plain: bool = False  # lines even on a terminal


def run(space: Space, source: str, options: Options) -> tuple[int, Path]:
    """Run `space`, or continue it if its folder has begun; the exit code and the run folder.

    source   the YAML text, kept beside the results
    Raises SweepError for what the user can mend.
    """
    from model.prepare import cache_folder

    folder = options.runs / space.name
    space = _with_data(space)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SweepError(f"cannot make the run folder {folder}: {error.strerror}") from None
    with _locked(folder):
        _write_or_compare(folder, space, source)
        cache = ReferenceCache(cache_folder() / "reference", _digest_of_trainer())
        return drive(space, folder, options, shared_trainer, cache), folder


def drive(
    space: Space,
    folder: Path,
    options: Options,
    train: Train,
    cache: ReferenceCache | None = None,
) -> int:
    """Drive the sweep in `folder` to its end or to an interruption; the exit code.

    cache   of baseline runs that `train` made; None: each sweep measures its own
    """
    from sweep.console import open_console
    from sweep.session import DISK_FULL, Session
    from sweep.study import Ledger, open_storage

    storage = open_storage(folder / "study.db")
    journal = Journal(folder / JOURNAL)
    publishing = publisher.start(folder)
    # Baseline and trials begin once the header is written: a reader of the journal needs it first.
    with Interrupt() as interrupt, open_console(journal.view, options.plain) as console:
        header = journal.append("sweep", **_header(space, folder))
        console.show(header)
        session = Session(
            space,
            Ledger(storage, Role.SEARCH, space),
            Ledger(storage, Role.BASELINE, space),
            journal,
            console.show,
            cache,
        )
        reason = "failed"
        with _cluster(options) if session.has_work else nullcontext() as cluster:
            try:
                _run_trials(session, train, folder / "trials", interrupt, cluster)
                reason = "too many trials failed" if session.gave_up else "budget spent"
            except Interrupted:
                reason = "interrupted"
            except Exception:
                if not DISK_FULL.search(traceback.format_exc()):
                    raise
                session.disk_full = True
            finally:
                with suppress(OSError):  # on a full disk the next driver sees the end missing
                    session.close("disk full" if session.disk_full else reason)
                publisher.close(publishing)  # it ends while the cluster does
    for line in session.certificate():
        _say(line)
    if not publisher.finish(publishing):
        _say(
            f"MLflow at {publisher.store_uri(options.runs)} lacks the last points; "
            "they are safe in the journal and follow when the sweep is continued."
        )
    if session.disk_full:
        raise SweepError(
            f"no space left for {folder}",
            hint="Free some; the same command continues, each trial from its last checkpoint.",
            code=1,
        )
    if reason == "interrupted":
        return interrupt.exit_code
    if session.gave_up:
        return TOO_MANY_FAILED
    return 0 if journal.view.count(Outcome.COMPLETE) else 1


def _cluster(options: Options) -> AbstractContextManager[Cluster | None]:
    if options.here:
        return nullcontext()
    from sweep.ray_cluster import Cluster

    return Cluster(options.address)


def _run_trials(
    session: Session, train: Train, folder: Path, interrupt: Interrupt, cluster: Cluster | None
) -> None:
    if cluster is None:
        from sweep import local_runner

        local_runner.run(session, train, folder, interrupt)
    else:
        from sweep import ray_runner

        ray_runner.run(session, train, folder, interrupt, cluster)


def is_driven(folder: Path) -> bool:
    """Whether a driver is at work in `folder`."""
    try:
        with publisher.lock(folder / DRIVER_LOCK):
            return False
    except publisher.Locked:
        return True


def latest(runs: Path) -> Path:
    """The run folder under `runs` that was written to last. Raises SweepError if there is none."""
    journals = sorted(runs.glob(f"*/{JOURNAL}"), key=lambda path: path.stat().st_mtime)
    if not journals:
        raise SweepError(
            f"no sweep under {runs}", hint="Begin one: sweep run search_spaces/quickstart.yaml"
        )
    return journals[-1].parent


def _with_data(space: Space) -> Space:
    """The space with its corpus prepared and pinned by digest, the path made absolute."""
    from model.data import open_table
    from model.prepare import table_path

    fixed = dict(space.fixed)
    if fixed.get("data.path") and "://" not in str(fixed["data.path"]):
        fixed["data.path"] = str(Path(str(fixed["data.path"])).expanduser().absolute())
    smallest, largest = space.budgets
    most = max(largest, *(multiple * smallest for multiple in (1, *space.reference.multiples)))
    settings = {**fixed, "data.train_tokens": most}
    try:
        data = Config.from_settings(settings).data
        if not table_path(data).exists():
            _say(f"preparing tokens of {data.path or 'the embedded corpus'} (once)")
        table = open_table(data, verify=True)
    except ConfigError as error:
        raise SweepError("the data cannot be used", error.problems) from None
    reference = settled(space.reference, table.about)
    return replace(space, fixed={**fixed, "data.digest": table.digest}, reference=reference)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with publisher.lock(folder / DRIVER_LOCK):
            yield
    except publisher.Locked:
        raise SweepError(
            f"{folder} is being run by another process",
            hint="Wait for it, stop it, or give this one another --name.",
            code=REFUSED_TO_CONTINUE,
        ) from None


def _write_or_compare(folder: Path, space: Space, source: str) -> None:
    """Write what defines the sweep, or refuse to continue one that is defined differently."""
    now = {**space.resolved(), "trainer": _digest_of_trainer()}
    resolved = folder / "resolved.yaml"
    if resolved.exists():
        before = _read_resolved(resolved)
        _refuse_if_different(folder, before, now)
    _write(folder / "environment.json", json.dumps(_environment(), indent=2))
    _write(folder / "space.yaml", source)
    _write(resolved, yaml.safe_dump(now, sort_keys=False))


def _read_resolved(path: Path) -> dict[str, Any]:
    try:
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        before = None
    if not isinstance(before, dict):
        raise SweepError(
            f"{path} is damaged, so whether this sweep is the same cannot be told",
            hint="Restore it, or begin anew with --name.",
            code=REFUSED_TO_CONTINUE,
        )
    return before


def _refuse_if_different(folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
    problems = []
    for part in sorted(now.keys() | before.keys()):
        old, new = before.get(part), now.get(part)
        if old == new or part in CHANGEABLE:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            keys = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k))
            problems += [f"{part}: {k} was {old.get(k)!r}, is {new.get(k)!r}" for k in keys]
        elif part == "trainer":
            problems.append("trainer: the code in model/ has changed")
        else:
            problems.append(f"{part}: was {old!r}, is {new!r}")
    if problems:
        raise SweepError(
            f"{folder} holds a sweep that is not comparable with this one",
            problems,
            hint="Continue it as it was, or give this one another --name; only budget and trial "
            "may change.",
            code=REFUSED_TO_CONTINUE,
        )


def _header(space: Space, folder: Path) -> Event:
    return {
        "id": _sweep_id(folder),
        "name": space.name,
        "trials": space.budget.trials,
        "fixed": dict(space.fixed),
        "train_tokens": space.train_tokens,
        "data": space.fixed["data.digest"],
        "cpus": space.trial.cpus,
        "gpus": space.trial.gpus,
        "noise": space.reference.noise,
    }


def _sweep_id(folder: Path) -> str:
    """Random, made with the folder: another sweep of the same name is another sweep."""
    path = folder / "id"
    if not path.exists():
        _write(path, os.urandom(8).hex())
    return path.read_text()


def _digest_of_trainer() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(next(iter(model.__path__))).glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _environment() -> dict[str, Any]:
    commit = ""
    with suppress(OSError):  # git is not installed everywhere
        commit = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "commit": commit or None,
        "cores": len(os.sched_getaffinity(0)),
    }


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    os.replace(beside, path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
