from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.config import Config
from model.progress import Progress
from model.training.ranks_failed import RanksFailed
from sweep.records import TrialEnding
from sweep.run import local, worker_deaths
from sweep.run.worker_deaths import KernelKills, kills_for_memory, why
from sweep.session.failures import ending_of, reason_of

HEAD = "Failure # 1 (occurred at 2026-11-22_03-21-25)\n"
DIED = (
    "The actor died unexpectedly before finishing this task.\n\tpid: 22443\nThe actor is dead "
    "because its worker process has died. Worker exit type: "
)
KILLED = (
    f"{DIED}SYSTEM_ERROR Worker exit detail: Worker unexpectedly exits with a connection error "
    "code 2. End of file. Some common causes include: (1) the process was killed by the OOM killer "
    "due to high memory usage, (2) ray stop --force was called.\n"
)
LEFT = (
    f"{DIED}INTENDED_USER_EXIT Worker exit detail: Worker exits by an user request. Worker exits "
    "with an exit code 0. exit_actor() is called.\n"
)
MONITOR = (
    "Task was killed due to the node running low on memory.\nMemory on the node (IP: 10.0.0.1) was "
    "15.0GB / 15.2GB (0.98), which exceeds the memory usage threshold of 0.95.\n"
)


def test_a_killed_worker_is_told_from_an_exception_and_from_one_out_of_memory() -> None:
    killed, monitored = why(HEAD + KILLED), why(HEAD + MONITOR)
    by_kernel = why(HEAD + KILLED, lambda: True)

    assert reason_of(killed) == (
        "its worker died: SYSTEM_ERROR, Worker unexpectedly exits with a connection error code 2"
    )
    endings = [ending_of(error, lost=True).value for error in (killed, monitored, by_kernel)]
    assert endings == ["lost its workers", "out of memory", "out of memory"]


def test_a_worker_that_left_by_itself_is_none_that_was_lost() -> None:
    assert why(HEAD + LEFT) == ""
    assert why(HEAD + KILLED + HEAD + LEFT) == ""
    assert why(HEAD + LEFT + HEAD + KILLED).endswith("connection error code 2")


def test_each_kill_of_the_kernel_explains_one_worker() -> None:
    counts = iter([4, 4, 6, 6, 6])
    kills = KernelKills(lambda: next(counts))

    assert [kills.one_more() for _ in range(4)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("kills", "ending"), [(1, TrialEnding.OUT_OF_MEMORY), (0, TrialEnding.FAILED)]
)
def test_a_rank_that_the_kernel_killed_ran_out_of_memory(
    kills: int,
    ending: TrialEnding,
    small: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that nothing as large is begun again, as where the worker itself was killed."""
    counts = iter([0, kills])
    monkeypatch.setattr(worker_deaths, "kills_for_memory", lambda: next(counts))

    def together(*arguments: object) -> Iterator[Progress]:
        raise RanksFailed("rank 1 of 2 (process 7) ended by SIGKILL")
        yield

    monkeypatch.setattr(local, "_evaluations", together)

    with pytest.raises(RanksFailed, match="rank 1 of 2") as caught:
        list(local.shared_trainer(Config.from_settings(small), tmp_path, gpus=2))

    assert ending_of("".join(traceback.format_exception(caught.value))) is ending


@pytest.mark.parametrize(
    ("groups", "file", "text"),
    [
        ("0::/user.slice\n", "user.slice/memory.events", "low 0\noom 3\noom_kill 2\n"),
        ("5:cpu:/\n4:memory:/a/b\n0::/\n", "memory/a/b/memory.oom_control", "oom_kill 2\n"),
    ],
)
def test_the_kernel_counts_by_control_groups_of_either_kind(
    groups: str, file: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "groups").write_text(groups)
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text)
    here = [
        (kind, its.replace("/sys/fs/cgroup", str(tmp_path))) for kind, its in worker_deaths.COUNTS
    ]
    monkeypatch.setattr(worker_deaths, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(worker_deaths, "COUNTS", here)

    assert kills_for_memory() == 2
