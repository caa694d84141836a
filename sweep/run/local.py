"""Drive a session with a plain loop: one trial at a time, in this process."""

from __future__ import annotations

import ctypes
import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from model.config import Config, SharedTrunks
from model.progress import Progress
from model.training.ranks_failed import RanksFailed
from sweep.records import TrialEnding
from sweep.run.interrupt import Interrupt
from sweep.run.placed import placed
from sweep.run.resource_meter import Meter
from sweep.run.worker_deaths import KernelKills
from sweep.session import Session, ending_of
from sweep.space import TrialConfig

Train = Callable[..., Iterator[Progress]]  # of Config and Path; on several GPUs also of `gpus`


def shared_trainer(
    config: Config, folder: Path, trunks: SharedTrunks | None = None, gpus: int = 1
) -> Iterator[Progress]:
    """`train` of the trainer, imported where it trains: the driver of a cluster needs no torch.

    gpus   of this machine, each with a process that has its share of every batch

    Each evaluation says which machine it is from.
    """
    from model.training.machine import machine

    here, kills = machine(config, gpus), KernelKills()
    try:
        for progress in _evaluations(config, folder, trunks, gpus):
            yield placed(progress, here)
    except RanksFailed as error:
        if not kills.one_more():
            raise
        raise RanksFailed(f"{error}\nout of memory: the kernel killed it") from None


def _evaluations(
    config: Config, folder: Path, trunks: SharedTrunks | None, gpus: int
) -> Iterator[Progress]:
    if gpus > 1:
        from model.training.together import train_together

        return train_together(config, folder, gpus, trunks)
    from model.training.train import train

    return train(config, folder, trunks)


def on_gpus(train: Train, trial: TrialConfig) -> Train:
    """`train` as it trains one network on all GPUs that a trial is given."""
    return partial(train, gpus=trial.width) if trial.width > 1 else train


def run(session: Session, train: Train, folder: Path, interrupt: Interrupt) -> None:
    """Run every trial of `session`, each in its own folder under `folder`."""
    session.note("ready", slots=1, resources=session.queue.budget.resources)
    while (trial := session.next_trial()) is not None:
        evaluations, meter, error = None, Meter(), ""
        while True:
            try:
                config = Config.from_settings(trial.settings)
                evaluations = evaluations or train(config, folder / trial.name)
                with interrupt.allowed():
                    progress = next(evaluations)
            except Exception:
                session.fail(trial, error := traceback.format_exc())
                evaluations = None
                break
            if session.observe(trial, progress, meter.read()).stop:
                break
        # Not while the exception is handled: it holds all of the trial.
        if ending_of(error) is TrialEnding.OUT_OF_MEMORY:
            _give_memory_back()
        interrupt.check()


def _give_memory_back() -> None:
    """Hand to the system what a failed trial had: the C library keeps it in pieces.

    A trial that ran out of memory left 4.6 of 4.6 GiB behind, beside which the next ran out too.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc can
        ctypes.CDLL(None).malloc_trim(0)
