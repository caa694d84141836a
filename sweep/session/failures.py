"""What a trial failed of, by its traceback, and when so many fail that more would be wasted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from sweep.records import End, Ending, TrialEnding

# How those say it that a trial may run: torch (on a CPU, on a GPU, in cuBLAS), Python, numpy, the C
# library, C++, our trainer, and Ray, whose monitor kills workers before the kernel does. What Ray
# says of any worker that died names the kernel as a possible cause: "OOM killer" is no sign.
OUT_OF_MEMORY = re.compile(
    r"\bout of memory\b|^(?:\w+\.)*(?:OutOfMemoryError|MemoryError)\b|can't allocate memory"
    r"|Cannot allocate memory|CUBLAS_STATUS_ALLOC_FAILED|std::bad_alloc|Unable to allocate .*array"
    r"|running low on memory|NODE_OUT_OF_MEMORY",
    re.MULTILINE,
)
FRAME = re.compile(r'^ +File ".+", line \d+, in ')
VARYING = re.compile(r"0x[0-9a-f]+|\d+(?:\.\d+)?(?:e[+-]?\d+)?")  # what differs of equal messages
FRAMES_SHOWN = 3  # of a traceback for people: those next to the exception
# How many times as many may fail in a row as equal ones while none has trained.
UNEQUAL, ONCE_SOME_TRAIN = 2, 4


def ending_of(error: str, lost: bool = False) -> TrialEnding:
    """Why a trial ended that failed with this traceback; `lost`: its worker died, no exception."""
    if OUT_OF_MEMORY.search(error):
        return TrialEnding.OUT_OF_MEMORY
    return TrialEnding.LOST if lost else TrialEnding.FAILED


def reason_of(error: str) -> str:
    """The traceback in a line: its exception."""
    return error.strip().splitlines()[-1].strip() if error.strip() else "no reason given"


def kind_of(error: str) -> str:
    """Equal for equal failures: the exception's type and its words, without numbers."""
    return VARYING.sub("#", reason_of(error))


def shortened(error: str) -> str:
    """A traceback for people: without the frames that lead to the last few."""
    lines = error.strip().splitlines()
    frames = [at for at, line in enumerate(lines) if FRAME.match(line)]
    left_out = len(frames) - FRAMES_SHOWN
    if left_out <= 0:
        return "\n".join(lines)
    kept = lines[frames[left_out] :]
    return "\n".join([lines[0], f"  ... {left_out} frames more", *kept])


@dataclass(frozen=True)
class Failure:
    """A trial that failed since the driver began."""

    trial: str
    error: str


class Failures:
    """Trials that failed one after another, and whether so many did that a driver gives up.

    It gives up once `most` trials failed in the same way and none trained: then the cause is not in
    their settings. It is more patient if they failed in different ways, and most so if another
    trial has trained since the driver began: then the cause may well be in theirs.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._row: list[Failure] = []  # since a trial last ended well
        self._trained: set[str] = set()  # trials that were evaluated and have not failed

    @property
    def in_a_row(self) -> int:
        """Trials that failed since one ended well."""
        return len(self._row)

    @property
    def first(self) -> Failure | None:
        """The first of those in a row that failed as most of them did."""
        kinds = Counter(kind_of(failure.error) for failure in self._row)
        if not kinds:
            return None
        commonest = kinds.most_common(1)[0][0]
        return next(failure for failure in self._row if kind_of(failure.error) == commonest)

    @property
    def too_many(self) -> bool:
        """Whether more trials would be wasted."""
        if self._trained:
            return len(self._row) >= self._most * ONCE_SOME_TRAIN
        return self._equal >= self._most or len(self._row) >= self._most * UNEQUAL

    @property
    def end(self) -> End:
        """Why the driver gives up."""
        if self.first is None:
            return End(Ending.GAVE_UP)
        equally = f", {self._equal} of them" if self._equal < len(self._row) else ""
        return End(
            Ending.GAVE_UP,
            f"{Ending.GAVE_UP}: {len(self._row)} in a row{equally} with "
            f"{reason_of(self.first.error)}",
        )

    @property
    def _equal(self) -> int:
        kinds = Counter(kind_of(failure.error) for failure in self._row)
        return max(kinds.values(), default=0)

    def evaluated(self, trial: str) -> None:
        """Take in that a trial trains."""
        self._trained.add(trial)

    def ended_well(self, trial: str) -> None:
        """Take in that a trial came to its end, or was stopped for what it measured."""
        self._trained.add(trial)
        self._row.clear()

    def excuse(self, trials: Collection[str]) -> None:
        """Forget that these failed."""
        self._row = [failure for failure in self._row if failure.trial not in trials]

    def failed(self, trial: str, error: str) -> None:
        """Take in that a trial failed."""
        self._trained.discard(trial)
        self._row.append(Failure(trial, error))
