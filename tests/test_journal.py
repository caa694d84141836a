"""One JSON object a line, and on the disk before anything is built on it."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import diverging_train, fake_train
from optuna.storages import BaseStorage
from sweeps import finished

from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import Journal, read_events, read_view
from sweep.session.ledger import Ledger
from sweep.session.session import Session
from sweep.space.space import Space

Open = Callable[[Space], Session]


def strict(line: str) -> dict[str, object]:
    """Read as JSON is defined: NaN and Infinity are no part of it (RFC 8259, section 6)."""

    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is no JSON")

    event: dict[str, object] = json.loads(line, parse_constant=refuse)
    return event


def test_the_journal_of_a_diverged_trial_is_json_and_reads_as_nan(
    space: Space, open_session: Open, tmp_path: Path
) -> None:
    live = finished(open_session(space), diverging_train, tmp_path)
    diverged = [t.name for t in live.trials.values() if math.isnan(t.val_loss)]
    assert diverged

    events = [strict(line) for line in (tmp_path / JOURNAL).read_text().splitlines()]
    read = read_view(tmp_path / JOURNAL)

    assert any(e["event"] == "observation" and e["val_loss"] is None for e in events)
    assert [t.name for t in read.trials.values() if math.isnan(t.val_loss)] == diverged
    assert {n: t.ending for n, t in read.trials.items()} == {
        n: t.ending for n, t in live.trials.items()
    }


def test_a_train_loss_of_steps_that_exploded_reads_as_nan(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)

    journal.append("steps", trial="0000", step=7, train_loss=math.nan, tokens_per_second=9.0)
    journal.close()

    ((event, _),) = read_events(tmp_path / JOURNAL)
    assert math.isnan(event["train_loss"])
    assert event["tokens_per_second"] == 9.0


def test_infinities_of_any_depth_become_null(tmp_path: Path) -> None:
    journal = Journal(tmp_path / JOURNAL)

    journal.append("sealed", losses=[math.inf, 3.0], usage={"gpu": -math.inf})
    journal.close()

    event = strict((tmp_path / JOURNAL).read_text())
    assert (event["losses"], event["usage"]) == ([None, 3.0], {"gpu": None})


def test_what_an_observation_always_has_is_nan_again_and_what_it_may_lack_stays_none(
    tmp_path: Path,
) -> None:
    """An EMA that there is not is no EMA that diverged."""
    always = ("train_loss", "val_loss", "val_loss_error", "bits_per_byte", "raw_loss", "gap", "lr")
    journal = Journal(tmp_path / JOURNAL)
    journal.append("trial", trial="0000", role="search", searched={}, settings={})
    seen = {"trial": "0000", "basis_points": 2500, "step": 1, "seconds": 1.0, "ema_loss": None}
    journal.append("observation", **seen, **dict.fromkeys(always, math.inf))
    journal.append("confirmed", mean=math.inf)
    journal.close()

    _, (seen, _), (confirmed, _) = read_events(tmp_path / JOURNAL)

    assert [name for name in always if not math.isnan(seen[name])] == []
    assert (seen["ema_loss"], confirmed["mean"]) == (None, None)


def test_the_journal_is_on_the_disk_when_the_ledger_is_told(
    space: Space,
    open_session: Open,
    storage: BaseStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a power cut the ledger must not know more than the journal."""
    path, synced, told = tmp_path / JOURNAL, [0], []
    sync, tell = os.fsync, Ledger.tell

    def note_size(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    def compare(ledger: Ledger, *about: object, **more: object) -> None:
        told.append((synced[-1], path.stat().st_size))
        tell(ledger, *about, **more)  # type: ignore[arg-type]

    monkeypatch.setattr("sweep.journal.os.fsync", note_size)
    monkeypatch.setattr(Ledger, "tell", compare)

    finished(open_session(space), fake_train, tmp_path)

    assert len(told) == 14
    assert all(on_disk == written for on_disk, written in told)


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ('"basis_points"', '"basis_poinus"', "its observation has no basis_points"),
        ('"seconds": 0.5', '"seconds": "a"', "seconds is 'a'"),
        ('"trial": "0001", "outcome"', '"trial": "0901", "outcome"', "does not fit .*'0901'"),
        ('"ending": "finished"', '"ending": "finishee"', "'finishee' is not a valid"),
        ('"event": "outcome"', '"evenu": "outcome"', "no event stands there"),
    ],
)
def test_a_line_with_a_damaged_key_or_value_is_one_message(
    before: str, after: str, why: str, space: Space, open_session: Open, tmp_path: Path
) -> None:
    """Each of these was a traceback."""
    finished(open_session(space), fake_train, tmp_path)
    path = tmp_path / JOURNAL
    path.write_text(path.read_text().replace(before, after, 1))

    with pytest.raises(SweepError, match=rf"damaged at byte \d+: .*{why}[^\n]*\nsweep doctor"):
        read_view(path)
    with pytest.raises(SweepError, match=why):
        Journal(path)
