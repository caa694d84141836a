"""Trials that are trained outside: each call opens the study, asks or tells, and lets go of it.

What trains them is not known here, so nothing is prepared, trained or published. Everything else
is the session's: proposals, points, repeats, constraints, budgets, pruning, ledger and journal.
Between calls nobody holds the run folder, so several loops may ask at once, and a loop that dies
leaves trials out that can be given out again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from model.config import SETTINGS, Config, ConfigError, Value
from model.progress import WHOLE, Progress
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import RESOLVED, TRIALS, locked
from sweep.records import OUTSIDE, SEED, Outcome, Trial
from sweep.run.driver import Job, header, open_journal, search
from sweep.run.manifest import read_resolved, write_or_compare
from sweep.session import Session, warm_start
from sweep.space import Space
from sweep.space.language import saved_space
from sweep.view import TrialView

SECONDS_TO_WAIT = 60.0  # for other calls on the same folder, of which each takes a fraction of one


@dataclass(frozen=True)
class Asked:
    """The answer to `sweep ask`: a trial to train, or why there is none."""

    run: Path
    trial: Trial | None
    reason: str = ""  # why there is none
    again: bool = False  # it was given out before
    told: float = 0.0  # fraction of its schedule that was told of before
    open: tuple[str, ...] = ()  # other trials that are out
    over: bool = False  # no trial is left, and none is out: asking again gives none either

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data; everything about the trial is null where there is none."""
        trial = self.trial
        return {
            "run": str(self.run),
            "trial": trial.name if trial else None,
            "folder": str(self.run / TRIALS / trial.name) if trial else None,
            "again": self.again,
            "told": self.told,
            "seed": int(str(_setting(trial.settings, SEED))) if trial else None,
            "searched": dict(trial.searched) if trial else None,
            "settings": dict(trial.settings) if trial else None,
            "reason": self.reason,
            "open": list(self.open),
            "over": self.over,
        }


@dataclass(frozen=True)
class Report:
    """What an outside loop tells of a trial: an evaluation or the end of it."""

    loss: float = math.nan  # nats per token on validation; one that is no number has diverged
    at: float = 1.0  # fraction of the trial's own schedule
    train_loss: float = math.nan
    error: float = math.nan  # standard error of the loss
    seconds: float | None = None  # of training so far; None: as long as the trial was out
    failed: str = ""  # why it ended without a loss


@dataclass(frozen=True)
class Told:
    """The answer to `sweep tell`."""

    trial: str
    stop: bool  # it should not go on, or has ended
    reason: str
    outcome: Outcome | None  # None while it goes on

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain data."""
        return {
            "trial": self.trial,
            "stop": self.stop,
            "reason": self.reason,
            "outcome": self.outcome,
        }


def ask(folder: Path, space: Space | None, source: str = "", silent: float | None = None) -> Asked:
    """The next trial of the search in `folder`, which is begun if need be.

    space    None: as the folder has it
    source   its YAML text, kept beside the results
    silent   seconds; a trial that is out and of which nothing was heard for so long comes first
    Raises SweepError for what the user can mend.
    """
    with _opened(folder, space, source) as session:
        view, out = session.journal.view, session.hold()
        stale = [trial for trial in out if _silence(view.trials[trial.name]) >= (silent or 0.0)]
        if silent is not None and stale:
            trial = max(stale, key=lambda trial: _silence(view.trials[trial.name]))
            session.note("asked", trial=trial.name)
            return _asked(folder, session, trial, again=True)
        if view.end is not None and session.has_work and not session.gave_up:
            session.note("sweep", **_header(folder, session.space))
        new = session.next_trial()
        if new is None:
            over = _close_if_over(session)
            return replace(_asked(folder, session, None), reason=str(session.end), over=over)
        return _asked(folder, session, new)


def tell(folder: Path, name: str, report: Report) -> Told:
    """Record what is known of the trial `name` in `folder`, and say whether it should go on.

    Told again, an evaluation or an end changes nothing and gets the same answer, so that a loop
    that was killed before it heard may repeat itself. Raises SweepError for what the user can mend.
    """
    with _opened(folder, None, "") as session:
        view, out = session.journal.view, {trial.name: trial for trial in session.hold()}
        if name not in view.trials:
            raise SweepError(
                f"{folder} has given out no trial {name}",
                hint=f"Out are: {', '.join(out) or 'none'}. sweep ask {folder} gives out the next.",
            )
        past = view.trials[name]
        if past.ending is not None:
            return Told(name, True, past.reason or str(past.ending), past.outcome)
        trial = out[name]
        if report.failed:
            session.fail(trial, report.failed)
        else:
            progress = _progress(trial.settings, past, report)
            last = past.last["basis_points"] if past.last else 0
            if progress.basis_points <= last:
                return Told(name, False, f"was told of {last / WHOLE:g} before", None)
            verdict = session.observe(trial, progress)
            if not verdict.stop:
                return Told(name, False, "", None)
        if session.disk_full:
            return Told(name, True, "the disk is full: it stays out, to be asked again", None)
        _close_if_over(session)
        return Told(name, True, past.reason or str(past.ending), past.outcome)


@contextmanager
def _opened(folder: Path, space: Space | None, source: str) -> Iterator[Session]:
    """The session of the folder, which is kept to this call meanwhile."""
    _refuse_ours(folder)
    if space is None:
        its, source = saved_space(folder), ""
        if its is None:
            raise SweepError(
                f"{folder} was not begun by sweep ask",
                hint=f"It begins with a space: sweep ask space.yaml --name {folder.name}",
            )
    else:
        its = outside_space(space)
        earlier = warm_start.take_over(its, folder)
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, SECONDS_TO_WAIT):
        if space is not None:
            write_or_compare(folder, its, source, OUTSIDE)
            warm_start.keep(folder, earlier)
        journal = open_journal(folder)
        try:
            head = _header(folder, its)
            before = journal.view.header
            begins = any(before.get(key) != head[key] for key in ("budget", "searched"))
            if begins:
                journal.append("sweep", **head)
            yield search(its, folder, notes=begins)(journal, lambda event: None)
        finally:
            journal.close()


def outside_space(space: Space) -> Space:
    """`space` without what only our trainer can do. Raises SweepError where that was asked for."""
    if space.trial.share_trunks:
        raise SweepError(
            "trial.share_trunks: only our own trainer can share trunks",
            hint="Leave it out, or let `sweep run` train.",
        )
    # The plain baseline is a recipe of our trainer; a table of another one may be given.
    return replace(space, baseline=replace(space.baseline, multiples=()))


def _refuse_ours(folder: Path) -> None:
    if (folder / RESOLVED).exists() and read_resolved(folder / RESOLVED).get("trainer") != OUTSIDE:
        raise SweepError(
            f"{folder} holds a sweep that sweep run trains: losses of two trainers do not compare",
            hint="Give this one another --name.",
            code=REFUSED_TO_CONTINUE,
        )


def _header(folder: Path, space: Space) -> dict[str, Any]:
    """What the journal begins with: as of a driver, and that nobody here trains."""
    return {**header(Job(space, folder, search(space, folder)), {}), "driver": OUTSIDE}


def _asked(folder: Path, session: Session, trial: Trial | None, again: bool = False) -> Asked:
    view = session.journal.view
    out = tuple(t.name for t in view.running() if trial is None or t.name != trial.name)
    if trial is None:
        return Asked(folder, None, open=out)
    (folder / TRIALS / trial.name).mkdir(parents=True, exist_ok=True)
    return Asked(folder, trial, again=again, told=view.trials[trial.name].done, open=out)


def _close_if_over(session: Session) -> bool:
    """Note the end of the search once no trial is out and none is left; whether that is so."""
    view = session.journal.view
    over = not view.running() and (session.gave_up or not session.has_work)
    if over and view.end is None:
        session.close(session.end)
    return over


def _silence(trial: TrialView) -> float:
    """Seconds since a trial was given out or told of."""
    return max(0.0, time.time() - trial.heard / 1000)


def _progress(settings: Mapping[str, Value], past: TrialView, report: Report) -> Progress:
    """An evaluation as our trainer would report it, as far as it was told.

    Steps, epochs and tokens are those of the settings at that fraction.
    """
    basis_points = max(1, round(WHOLE * report.at))
    try:
        config = Config.from_settings(settings)
        steps, epochs, batch = config.steps, config.train.epochs, config.train.batch_tokens
    except ConfigError:  # ours could not train it, which theirs may
        steps, epochs, batch = WHOLE, 1, 0
    step = max(1, round(steps * report.at))
    seconds = report.seconds
    if seconds is None:
        seconds = past.seconds + _silence(past)
    return Progress(
        basis_points=basis_points,
        step=step,
        epoch=epochs * report.at,
        tokens=step * batch,
        train_loss=report.train_loss,
        val_loss=report.loss,
        val_loss_error=report.error,
        bits_per_byte=math.nan,
        raw_loss=report.loss,
        lr=math.nan,
        seconds=seconds,
        diverged_step=None if math.isfinite(report.loss) else step,
    )


def _setting(settings: Mapping[str, Value], name: str) -> Value:
    return settings.get(name, SETTINGS[name].default)
