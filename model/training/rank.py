"""One of several processes that train a network together on this machine: `together` starts it.

It reads its task from a pipe and says there what it has come to. Its parent's end of the pipe
closes when the parent ends, however it ends: then nobody wants the rest.
"""

from __future__ import annotations

import os
import shutil
import sys
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Semaphore, Thread

from model.config import Config, ConfigError
from model.training.ranks import ALONE, joined
from model.training.ranks_failed import RanksFailed
from model.training.together import CRASHED, DONE, GO_ON, LOST, PROGRESS, REFUSED, STEP, Task


def main(parent: Connection) -> None:
    """Train the task that comes from `parent`, on to the next evaluation whenever it says so."""
    task: Task = parent.recv()
    wanted = Semaphore(0)  # evaluations that the parent has asked for
    temporary = task.meeting.parent
    Thread(target=_hear, args=(parent, wanted.release, temporary), daemon=True).start()
    try:
        _train(task, parent, wanted)
        parent.send((DONE, ""))
    except ConfigError as error:
        parent.send((REFUSED, error.problems))
    except RanksFailed as error:
        parent.send((LOST, str(error)))
    except Exception:
        parent.send((CRASHED, traceback.format_exc()))
    # Not by the interpreter's own end: a library that waits for lost ranks there would keep it.
    sys.stderr.flush()
    os._exit(0)


def _train(task: Task, parent: Connection, wanted: Semaphore) -> None:
    from model.data.batches import open_table
    from model.training.device import set_threads
    from model.training.train import train

    config = Config.from_settings(task.settings)
    set_threads(task.threads)
    open_table(config.data)  # may take long where it is made: before anybody waits for this rank

    def watch(step: int, loss: float) -> None:
        if task.rank == ALONE.rank:
            parent.send((STEP, (step, loss)))

    with joined(config, task.rank, task.width, task.rank, task.meeting) as ranks:
        wanted.acquire()
        for progress in train(config, task.folder, task.shared, watch=watch, ranks=ranks):
            if ranks.first:
                parent.send((PROGRESS, progress))
            wanted.acquire()


def _hear(parent: Connection, go_on: Callable[[], None], temporary: Path) -> None:
    """Take wishes to go on; end the process with its parent, which left `temporary` if it was
    killed."""
    try:
        while parent.recv() == GO_ON:
            go_on()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os._exit(1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
