"""Every file of a run folder, in the order in which they depend on each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sweep.doctor import beside, journal, ledger, trials
from sweep.doctor.damage import Aside, Damage
from sweep.folder import REPAIRS

Check = Callable[[Path], list[Damage]]
# The journal first: what follows is held against it.
CHECKS: tuple[Check, ...] = (
    journal.check,
    beside.check_definition,
    ledger.check,
    trials.check,
    beside.check,
)


def examine(folder: Path) -> list[Damage]:
    """All that is wrong in the run folder. What depends on a broken journal is left for later."""
    damages: list[Damage] = []
    for check in CHECKS:
        damages += check(folder)
        if check is journal.check and damages:
            break
    return damages


def repair(folder: Path) -> tuple[list[Damage], Path]:
    """Repair what can be; what was repaired, and the folder that keeps what was replaced.

    The caller keeps the folder to itself. Raises SweepError where a repair turns out impossible.
    """
    number = 1
    while (folder / REPAIRS / f"{number:04}").exists():
        number += 1
    aside = Aside(folder, folder / REPAIRS / f"{number:04}")
    repaired = []
    for check in CHECKS:
        for damage in check(folder):
            if damage.repair is not None:
                damage.repair(aside)
                repaired.append(damage)
    return repaired, aside.folder
