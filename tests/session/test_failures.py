from __future__ import annotations

import mmap
import platform
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fakes import SPACE, broken_train, crowded_train, failing_train, fake_train
from sweeps import make_space, session_in

from model.config.config import Config
from model.progress import Progress
from sweep.records import Ending, Outcome, Role, TrialEnding
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.failures import Failures, ending_of, shortened
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.session.trial_queue import SearchQueue
from sweep.space.space import Space
from sweep.view import TrialView

Open = Callable[[Space], Session]
WIDTHS = """
name: fake
search:
  gpt.width: {min: 16, max: 512, step: 16}
  train.epochs: [1, 2, 4]
fixed: {gpt.head_width: 16, train.evals: 2}
budget: {trials: 10}
sampler: {startup_trials: 4}
prune: {rule: none}
"""
ONE_SIZE = """
name: fake
search:
  optim.weight_decay_multiplier: {min: 1, max: 32, log: true}
fixed: {train.evals: 2}
budget: {trials: 6}
prune: {rule: none}
"""
# What the libraries of a trainer say when they get no memory, as a driver hears of it.
OUT = [
    "MemoryError",
    "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 1.50 GiB for an array with s",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total",
    "RuntimeError: CUDA error: out of memory\nCompile with `TORCH_USE_CUDA_DSA` to enable device",
    "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't "
    "allocate memory: you tried to allocate 268435456 bytes. Error code 12 (Cannot allocate)",
    "model.config.setting.ConfigError: out of memory: 1.5 GiB more were needed beside 3 GiB in "
    "use; lower gpt.scale or gpt.context",
    "OSError: [Errno 12] Cannot allocate memory",
    "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.",
]
OTHERS = [
    "RuntimeError: no Muon today",
    '  File "train.py", line 68, in train\n    with out_of_memory.explained(config):\n'
    "ValueError: nothing",
    # What Ray says of every worker that died.
    "The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker "
    "exit detail: Worker unexpectedly exits with a connection error code 2. End of file. Some "
    "common causes include: (1) the process was killed by the OOM killer due to high memory usage",
]


def run(session: Session, train: local.Train, folder: Path) -> dict[str, TrialView]:
    with Interrupt() as interrupt:
        local.run(session, train, folder, interrupt)
    return session.journal.view.trials


def endings(trials: dict[str, TrialView]) -> list[TrialEnding | None]:
    return [t.ending for t in trials.values() if t.role is Role.SEARCH]


@pytest.mark.parametrize("error", OUT)
def test_out_of_memory_is_recognised_whoever_says_so(error: str) -> None:
    traceback = f'Traceback (most recent call last):\n  File "a.py", line 3, in step\n{error}'

    assert ending_of(traceback) is TrialEnding.OUT_OF_MEMORY


@pytest.mark.parametrize("error", OTHERS)
def test_other_failures_are_not_taken_for_out_of_memory(error: str) -> None:
    assert ending_of(error) is TrialEnding.FAILED
    assert ending_of(error, lost=True) is TrialEnding.LOST


def test_a_sweep_whose_trials_all_fail_in_the_same_way_gives_up_after_three(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    session = open_session(space)

    trials = run(session, broken_train, tmp_path)

    assert len(trials) == 3  # two of them of the baseline
    assert session.gave_up
    assert session.end.ending is Ending.GAVE_UP
    assert "3 in a row with RuntimeError: no training of" in str(session.end)
    first = session.first_failure
    assert first is not None
    assert (first.trial, "broken_train" in first.error) == ("baseline-2x", True)


@pytest.mark.parametrize(
    ("sampler", "seed"),
    [
        ("surface", 0),
        ("surface", 1),
        ("tpe", 0),
        ("random", 0),
        ("coordinate", 0),
        ("coordinate", 1),
    ],
)
def test_settings_that_always_fail_stop_no_sweep_in_which_others_train(
    sampler: str, seed: int, tmp_path: Path
) -> None:
    """With seed 1 the first two proposals of some fail, and nothing has trained yet."""
    names = f"sampler.name={sampler}", f"sampler.seed={seed}"
    space = make_space(tmp_path, SPACE, *names, "baseline.multiples=")
    session = session_in(tmp_path, space, open_storage(None))

    trials = run(session, failing_train, tmp_path / "trials")
    session.journal.close()

    ended = endings(trials)
    assert session.end.ending in (Ending.TRIALS_SPENT, Ending.NOTHING_LEFT)
    assert 0 < ended.count(TrialEnding.FAILED) <= 16  # of Muon is half of what could be proposed
    if session.end.ending is Ending.TRIALS_SPENT:
        assert sum(t is not None and t is not TrialEnding.FAILED for t in ended) == 12


def test_failures_of_different_kinds_are_given_more_time_than_equal_ones() -> None:
    failures = Failures(3)
    for number, error in enumerate(("ValueError: a", "KeyError: b", "ValueError: c", "OSError: d")):
        failures.failed(f"{number:04}", error)
    unequal = failures.too_many
    failures.failed("0004", "ValueError: a")
    failures.failed("0005", "LookupError: e")

    assert (unequal, failures.too_many) == (False, True)
    assert failures.first is not None
    assert failures.first.trial == "0000"


def test_failures_are_equal_though_their_numbers_differ() -> None:
    failures = Failures(3)
    for number in range(3):
        failures.failed(f"{number:04}", f"RuntimeError: step {17 * number} at 0x7f{number}")

    assert failures.too_many


def test_a_trial_that_ends_well_ends_a_row_of_failures() -> None:
    failures = Failures(3)
    for number in range(0, 40, 2):
        failures.failed(f"{number:04}", "ValueError: a")
        failures.ended_well(f"{number + 1:04}")

    assert not failures.too_many


def test_failures_that_their_node_is_to_blame_for_are_no_reason_to_give_up() -> None:
    failures = Failures(3)
    for number in range(3):
        failures.failed(f"{number:04d}", "RuntimeError: CUDA error")
    assert failures.too_many

    failures.excuse({"0001": "of what"})

    assert not failures.too_many
    assert failures.in_a_row == 2


def test_a_long_traceback_is_shown_by_its_last_frames() -> None:
    frames = [f'  File "a{n}.py", line {n}, in f{n}\n    f{n + 1}()\n    ~~~~' for n in range(9)]
    whole = "\n".join(["Traceback (most recent call last):", *frames, "ValueError: a", "and b"])

    assert shortened(whole).splitlines() == [
        "Traceback (most recent call last):",
        "  ... 6 frames more",
        *"\n".join(frames[6:]).splitlines(),
        "ValueError: a",
        "and b",
    ]


@pytest.mark.parametrize("sampler", ["surface", "tpe", "random", "coordinate", "grid", "qmc"])
def test_nothing_as_large_as_what_ran_out_of_memory_is_begun_again(
    sampler: str, tmp_path: Path
) -> None:
    text = WIDTHS.replace("step: 16", "step: 16" if sampler != "grid" else "step: 124")
    space = make_space(tmp_path, text, f"sampler.name={sampler}", "baseline.multiples=")
    session = session_in(tmp_path, space, open_storage(None))

    trials = [*run(session, crowded_train, tmp_path / "trials").values()]
    session.journal.close()

    assert session.end.ending in (Ending.TRIALS_SPENT, Ending.NOTHING_LEFT)
    ran_out = [t for t in trials if t.ending is TrialEnding.OUT_OF_MEMORY]
    widths = [int(str(t.searched["gpt.width"])) for t in ran_out]
    assert widths == sorted(set(widths), reverse=True)
    assert {t.outcome for t in trials if t not in ran_out} == {Outcome.COMPLETE}
    assert all(int(str(t.searched["gpt.width"])) <= 64 for t in trials if t not in ran_out)


def test_a_continued_sweep_knows_what_ran_out_of_memory(tmp_path: Path) -> None:
    space = make_space(tmp_path, WIDTHS, "sampler.name=random", "baseline.multiples=")
    storage = open_storage(None)
    session = session_in(tmp_path, replace(space, budget=replace(space.budget, trials=1)), storage)
    before = {*run(session, crowded_train, tmp_path / "trials")}
    session.journal.close()

    session = session_in(tmp_path, space, storage)
    trials = run(session, crowded_train, tmp_path / "trials")
    session.journal.close()

    ran_out = [t for t in trials.values() if t.ending is TrialEnding.OUT_OF_MEMORY]
    smallest = min(int(str(t.searched["gpt.width"])) for t in ran_out if t.name in before)
    after = [int(str(t.searched["gpt.width"])) for t in trials.values() if t.name not in before]
    assert max(after) < smallest


def test_a_sweep_in_which_nothing_fits_says_so_once(tmp_path: Path) -> None:
    """All trials are of one size, so that the first says it of all."""

    def full(config: Config, folder: Path) -> Iterator[Progress]:
        raise MemoryError
        yield

    session = session_in(
        tmp_path, make_space(tmp_path, ONE_SIZE, "baseline.multiples="), open_storage(None)
    )
    trials = run(session, full, tmp_path / "trials")
    session.journal.close()

    assert endings(trials) == [TrialEnding.OUT_OF_MEMORY]
    assert not session.gave_up
    assert session.end.ending is Ending.NO_MEMORY
    assert "the smallest trial that ran out, 0000, needs about" in str(session.end)


def test_a_size_that_has_trained_before_ran_out_for_another_reason(tmp_path: Path) -> None:
    """It then counts as failed, and others of its size go on."""
    calls = iter(range(99))

    def now_and_then(config: Config, folder: Path) -> Iterator[Progress]:
        if next(calls) == 3:
            raise MemoryError
        yield from fake_train(config, folder)

    space = make_space(tmp_path, ONE_SIZE, "baseline.multiples=")
    session = session_in(tmp_path, space, open_storage(None))
    trials = run(session, now_and_then, tmp_path / "trials")
    session.journal.close()

    assert endings(trials).count(TrialEnding.OUT_OF_MEMORY) == 1
    assert endings(trials).count(TrialEnding.FINISHED) == 6
    assert session.end.ending is Ending.TRIALS_SPENT


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others keep nothing")
def test_what_a_trial_held_that_ran_out_of_memory_is_free_for_the_next_one(tmp_path: Path) -> None:
    """The C library keeps small pieces for itself as long as one of the last is in use."""
    kept: list[bytes] = []
    levels: list[int] = []

    def hoarding(config: Config, folder: Path) -> Iterator[Progress]:
        levels.append(resident())
        if len(levels) == 2:  # as large as one that trained: it ends no sweep
            hoard = [b"." * 60_000 for _ in range(2000)]
            kept.extend(b"." * 60_000 for _ in range(20))
            levels.append(resident())
            raise MemoryError(f"{len(hoard)} pieces")
        yield from fake_train(config, folder)

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

    space = make_space(
        tmp_path, ONE_SIZE, "sampler.name=random", "budget.trials=2", "baseline.multiples="
    )
    session = session_in(tmp_path, space, open_storage(None))
    run(session, hoarding, tmp_path / "trials")
    session.journal.close()

    _, before, during, after = levels
    assert after - before < 0.5 * (during - before)


def test_what_was_proposed_ahead_is_not_begun_once_its_size_ran_out_of_memory(
    tmp_path: Path,
) -> None:
    space = make_space(tmp_path, ONE_SIZE, "baseline.multiples=")
    session = session_in(tmp_path, space, open_storage(None))
    first = session.next_trial()
    assert first is not None
    session.queue.budget.slots = 2
    assert isinstance(session.queue, SearchQueue)
    session.queue.ask_ahead([first.name])

    session.fail(first, "MemoryError")

    begun = session.next_trial()
    session.journal.close()
    assert (begun, session.journal.view.rejected) == (None, 1)


def test_a_worker_that_ran_out_of_memory_ends_its_trial_and_any_other_does_not(
    space: Space, open_session: Open
) -> None:
    session = open_session(replace(space, baseline=replace(space.baseline, multiples=())))
    trial = session.next_trial()
    assert trial is not None

    goes_on = session.lose_worker(trial, "its worker died: SYSTEM_ERROR")
    ended = not session.lose_worker(trial, "out of memory: the kernel killed its worker")

    its = session.journal.view.trials[trial.name]
    assert (goes_on, ended, its.workers_lost) == (True, True, 2)
    assert (its.ending, its.reason) == (
        TrialEnding.OUT_OF_MEMORY,
        "out of memory: the kernel killed its worker",
    )
