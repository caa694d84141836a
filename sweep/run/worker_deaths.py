"""Why a worker died, from what Ray says and from what the kernel counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

LEFT = "INTENDED_USER_EXIT"  # it ended itself, as ours do after an exception
FOR_MEMORY = re.compile(r"NODE_OUT_OF_MEMORY|running low on memory|OutOfMemoryError")
DETAIL = re.compile(r"Worker exit type: (\w+) Worker exit detail: (.+?\.)(?:\s|$)", re.DOTALL)
FAILURE = re.compile(r"^Failure # \d+ .*\n", re.MULTILINE)  # heads each in Tune's file of a trial
GROUPS = Path("/proc/self/cgroup")
# Where the kernel counts whom it killed for want of memory, of control groups 2 and 1.
COUNTS = (
    ("", "/sys/fs/cgroup{group}/memory.events"),
    ("", "/sys/fs/cgroup/memory.events"),
    ("memory", "/sys/fs/cgroup/memory{group}/memory.oom_control"),
    ("memory", "/sys/fs/cgroup/memory/memory.oom_control"),
)


def why(errors: str, killed_by_kernel: Callable[[], bool] = lambda: False) -> str:
    """What Ray says of a trial's last failure, and why in a last line; empty if its worker left.

    errors             what Tune kept of all its failures
    killed_by_kernel   asked where Ray does not know: whether the kernel killed for want of memory
    """
    error = FAILURE.split(errors)[-1].strip()
    if LEFT in error:
        return ""
    if FOR_MEMORY.search(error):
        return f"{error}\nout of memory: Ray killed its worker before the kernel would"
    if killed_by_kernel():
        return f"{error}\nout of memory: the kernel killed its worker"
    detail = DETAIL.search(error)
    said = f"{detail[1]}, {detail[2].rstrip('.')}" if detail else error.splitlines()[0]
    return f"{error}\nits worker died: {said}"


class KernelKills:
    """Whether the kernel killed one of us for want of memory since it was last asked.

    It knows of this machine alone. Its count is of our control group, so of our own workers too.
    """

    def __init__(self, count: Callable[[], int] = lambda: kills_for_memory()) -> None:
        self._count = count
        self._seen = count()

    def one_more(self) -> bool:
        """Whether there is one that nobody has asked about."""
        more = self._count() > self._seen
        self._seen += more
        return more


def kills_for_memory() -> int:
    """Processes of our control group that the kernel killed for want of memory; 0 if not known."""
    try:
        lines = GROUPS.read_text().splitlines()
    except OSError:
        return 0
    groups = {kind: group for _, kind, group in (line.split(":", 2) for line in lines)}
    for kind, pattern in COUNTS:
        path = Path(pattern.format(group=groups.get(kind, "/").rstrip("/")))
        try:
            counts = dict(line.split() for line in path.read_text().splitlines())
        except (OSError, ValueError):
            continue
        if "oom_kill" in counts:
            return int(counts["oom_kill"])
    return 0


def take_every_death_for_one() -> None:
    """Have Tune take a worker that Ray's own monitor killed for one that died.

    Ray then raises OutOfMemoryError, which is none of its errors of actors, and at anything else
    Tune ends altogether (`_actor_task_failed` in air/execution/_internal/actor_manager.py).
    """
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import RayActorError, RayError, RayTaskError

    taken = RayActorManager._actor_task_failed
    if getattr(taken, "takes_every_death", False):
        return

    def failed(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        known = isinstance(exception, RayActorError | RayTaskError)
        if isinstance(exception, RayError) and not known:
            kind = type(exception).__name__
            exception = RayActorError(error_msg=f"{kind}: {exception}")
        taken(self, tracked_actor_task=tracked_actor_task, exception=exception)

    failed.takes_every_death = True  # type: ignore[attr-defined]
    RayActorManager._actor_task_failed = failed
