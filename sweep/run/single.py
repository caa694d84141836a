"""One run of the trainer by itself, with the journal of a sweep of one trial.

So `status`, `compare`, the notebook and MLflow read it as they read any trial.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from subprocess import Popen
from typing import TYPE_CHECKING

from model.config import Config, Value, trial_flops
from model.progress import Progress
from sweep.errors import REFUSED_TO_CONTINUE, SweepError
from sweep.folder import JOURNAL, RESOLVED, TRIALS, locked
from sweep.format import clock_text
from sweep.journal import Journal
from sweep.records import End, Ending, Outcome, Role, TrialEnding
from sweep.results.time_left import rounded
from sweep.run.manifest import digest_of_trainer, environment
from sweep.tracking import process

if TYPE_CHECKING:
    from model.training.ranks import Ranks

TRIAL = "0000"
POINTS = 200  # of the training loss in a whole schedule
SECONDS_BETWEEN_LINES = {True: 0.5, False: 60.0}  # on a terminal, where one line is redrawn; else
SECONDS_WORTH = 20.0  # of training, before MLflow is worth a process that takes ten


class SingleRun:
    """Trains in `folder`: what is heard of each step is shown, what of each evaluation is noted."""

    def __init__(
        self,
        config: Config,
        folder: Path,
        chosen: Mapping[str, Value],
        data: str,
        uri: str | None,
        name: str = "train",
        gpus: int = 1,
        ranks: Ranks | None = None,
    ) -> None:
        """What makes the run different is in `chosen`; `data` is the digest of its tokens.

        uri    of the MLflow store; None: nothing is published
        name   of the experiment there
        gpus   of this machine, each with a process that has its share of every batch
        ranks  that somebody else has started, of which this process is the first
        """
        self._width, self._ranks = ranks.width if ranks else gpus, ranks
        self._name = name
        self._config, self._folder, self._chosen = config, folder, dict(chosen)
        self._data, self._uri = data, uri
        self._losses: list[float] = []  # of steps since the last point
        self._began = self._shown = self._point_at = time.monotonic()
        self._first_step: int | None = None
        self._publishing: Popen[bytes] | None = None
        self._begun = False  # whether the journal knows of this process
        self.last: Progress | None = None

    def train(self) -> Iterator[Progress]:
        """Each evaluation, once it is in the journal. Raises what the trainer raises.

        Raises SweepError if another process trains there, or if a sweep has its journal there.
        """
        from model.training.machine import machine

        self._machine = machine(self._config, self._width)
        self._folder.mkdir(parents=True, exist_ok=True)
        if (self._folder / RESOLVED).exists():
            raise SweepError(
                f"{self._folder} holds a sweep, whose journal is of its own trials",
                hint="Give this run another folder: --out.",
                code=REFUSED_TO_CONTINUE,
            )
        with locked(self._folder):
            self._journal = Journal(self._folder / JOURNAL)
            end = End(Ending.CRASHED)
            try:
                for progress in self._evaluations():
                    self._erase()
                    self._begin()
                    self._observe(progress)
                    yield progress
                self._finish()
                end = End(Ending.TRIALS_SPENT)
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                end = End(Ending.INTERRUPTED)
                raise
            finally:
                self._erase()
                if self._begun:
                    self._journal.append("end", ending=end.ending, reason=str(end))
                self._journal.close()
                if self._publishing is not None:
                    process.finish(self._publishing)

    def _evaluations(self) -> Iterator[Progress]:
        if self._ranks is None and self._width > 1:
            from model.training.together import train_together

            return train_together(self._config, self._folder, self._width, watch=self._step)
        from model.training.ranks import ALONE
        from model.training.train import train

        ranks = self._ranks or ALONE
        return train(self._config, self._folder, watch=self._step, ranks=ranks)

    def closing(self) -> str:
        """What came of it, where it is, and how to have it write text."""
        if self.last is None:
            return ""
        took = clock_text(self.last.seconds)
        speed = self.last.tokens / self.last.seconds if self.last.seconds else 0.0
        folder = shlex.quote(str(self._folder))
        curves = "" if self._publishing else f"\n  in MLflow  sweep publish {self._folder}"
        return (
            f"val loss {self.last.val_loss:.4f} after {took} of training, {rounded(speed)} tokens/s"
            f"\n  the model  {self._folder}\n  to sample  sweep sample {folder}{curves}"
        )

    def _begin(self) -> None:
        """Note the run, or that it goes on, once: not before the trainer has taken the folder."""
        if self._begun:
            return
        self._begun = True
        config, settings = self._config, self._config.settings()
        identity = hashlib.sha256(str(self._folder.absolute()).encode()).hexdigest()[:16]
        self._journal.append(
            "sweep",
            id=self._journal.view.header.get("id", identity),
            name=self._name,
            role=Role.SEARCH,
            trials=1,
            budget={},
            fixed=settings,
            train_tokens=config.data.train_tokens,
            data=self._data,
            searched=list(self._chosen),
            environment={**environment(), "trainer": digest_of_trainer()},
        )
        self._journal.append("ready", slots=1, resources={})
        ended = self._journal.view.trials.get(TRIAL)
        if ended is None or ended.outcome is None:
            self._journal.append(
                "trial",
                trial=TRIAL,
                role=Role.SEARCH,
                searched=self._chosen,
                settings=settings,
                flops=trial_flops(settings),
                devices=float(self._width),
            )
        # Readers look for a trial's files in a folder of its name.
        (self._folder / TRIALS).mkdir(exist_ok=True)
        with suppress(OSError):  # there already, or a file system without links
            (self._folder / TRIALS / TRIAL).symlink_to("..")

    def _step(self, step: int, loss: float) -> None:
        """Show how far it is; a point of the training loss belongs to every so many steps."""
        if self._first_step is None:
            self._begin()
            # A first step may compile, or get memory: speed and time left begin with the second.
            self._first_step, self._began = step, time.monotonic()
        self._losses.append(loss)
        steps, now = self._config.steps, time.monotonic()
        if step % max(1, steps // POINTS) == 0:
            seconds, self._point_at = now - self._point_at, now
            tokens = len(self._losses) * self._config.train.batch_tokens
            self._note_point(step, fmean(self._losses), tokens / seconds if seconds else 0.0)
            self._losses = []
        if now - self._shown >= SECONDS_BETWEEN_LINES[sys.stderr.isatty()]:
            self._shown = now
            self._show(step, loss)

    def _note_point(self, step: int, loss: float, speed: float) -> None:
        if step > self._journal.view.steps_noted:  # steps since a checkpoint are trained again
            point = {"step": step, "train_loss": loss, "tokens_per_second": speed}
            self._journal.append("steps", trial=TRIAL, **point)
        worth = time.monotonic() - self._began > SECONDS_WORTH
        if worth and self._publishing is None and self._uri is not None:
            self._publishing = process.start(self._folder, self._uri)

    def _show(self, step: int, loss: float) -> None:
        assert self._first_step is not None
        steps, seconds = self._config.steps, time.monotonic() - self._began
        done = step - self._first_step
        line = f"step {step:,} of {steps:,} ({step / steps:.0%}), train loss {loss:.4f}"
        if done and seconds:
            speed = done * self._config.train.batch_tokens / seconds
            line += f", {rounded(speed)} tokens/s, about "
            line += f"{clock_text((steps - step) * seconds / done)} left"
        end = "" if sys.stderr.isatty() else "\n"
        print(f"{ERASE}{line}" if not end else line, end=end, file=sys.stderr, flush=True)  # noqa: T201

    def _erase(self) -> None:
        if sys.stderr.isatty():
            print(ERASE, end="", file=sys.stderr, flush=True)  # noqa: T201

    def _observe(self, progress: Progress) -> None:
        self.last = progress
        if progress.checkpoint_lost:
            print(progress.checkpoint_lost, file=sys.stderr, flush=True)  # noqa: T201
        trial = self._journal.view.trials[TRIAL]
        if all(event["basis_points"] != progress.basis_points for event in trial.observations):
            fields = {"gap": progress.gap, **progress.to_dict()}
            fields |= {} if self._machine == trial.machine else {"machine": self._machine}
            self._journal.append("observation", trial=TRIAL, **fields)

    def _finish(self) -> None:
        trial = self._journal.view.trials[TRIAL]
        if trial.outcome is not None or self.last is None:
            return
        ending, reason = TrialEnding.FINISHED, ""
        if self.last.diverged:
            ending = TrialEnding.DIVERGED
            reason = f"diverged at step {self.last.diverged_step}"
        fields = {"outcome": Outcome(ending.outcome), "ending": ending, "reason": reason}
        self._journal.append("outcome", trial=TRIAL, **fields)


ERASE = "\r\x1b[2K"
