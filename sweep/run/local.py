"""Drive a session with a plain loop: one trial at a time, in this process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from model.config import Config, SharedTrunks
from model.progress import Progress
from sweep.run.interrupt import Interrupt
from sweep.run.placed import placed
from sweep.run.resource_meter import Meter
from sweep.session import Session

Train = Callable[[Config, Path], Iterator[Progress]]


def shared_trainer(
    config: Config, folder: Path, trunks: SharedTrunks | None = None
) -> Iterator[Progress]:
    """`train` of the trainer, imported where it trains: the driver of a cluster needs no torch.

    Each evaluation says which machine it is from.
    """
    from model.training.machine import machine
    from model.training.train import train

    here = machine(config)
    for progress in train(config, folder, trunks):
        yield placed(progress, here)


def run(session: Session, train: Train, folder: Path, interrupt: Interrupt) -> None:
    """Run every trial of `session`, each in its own folder under `folder`."""
    session.note("ready", slots=1, resources=session.queue.budget.resources)
    while (trial := session.next_trial()) is not None:
        evaluations, meter = None, Meter()
        while True:
            try:
                config = Config.from_settings(trial.settings)
                evaluations = evaluations or train(config, folder / trial.name)
                with interrupt.allowed():
                    progress = next(evaluations)
            except Exception:
                session.fail(trial, traceback.format_exc())
                break
            if session.observe(trial, progress, meter.read()).stop:
                break
        interrupt.check()
