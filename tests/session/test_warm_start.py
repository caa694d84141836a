"""Earlier sweeps that inform a search: named in a space, kept in its run folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fakes import fake_train
from sweeps import finished, make_space, problems, session_in

from sweep.errors import SweepError
from sweep.folder import EARLIER
from sweep.results.external import keep as keep_imported
from sweep.results.external_reader import read_external
from sweep.search.earlier import UNNAMED
from sweep.session import warm_start
from sweep.session.storage import open_storage
from sweep.space.space import Space

TEXT = """
name: next
search:
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
  train.epochs: [1, 2, 4]
budget: {trials: 3}
fixed: {train.evals: 2}
"""
CSV = """name,optim.lr,train.epochs,seed,val_loss
a,0.002,2,1,3.4
b,0.004,4,1,3.1
c,0.004,,1,3.2
"""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The run folder of an earlier sweep of three trials."""
    folder = tmp_path / "old"
    folder.mkdir()
    space = make_space(tmp_path, TEXT)
    finished(session_in(folder, space, open_storage(None)), fake_train, folder / "trials")
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    return folder


def warm(folder: Path, *names: Path) -> Space:
    return make_space(folder, TEXT, f"sampler.warm_start={','.join(map(str, names))}")


def counts(space: Space, folder: Path) -> list[tuple[str, int]]:
    told = warm_start.described(space, warm_start.informing(space, folder))
    return [(one["from"], one["trials"]) for one in told]


def test_an_earlier_sweep_informs_after_its_folder_is_gone(old: Path, new: Path) -> None:
    space = warm(new, old)
    warm_start.keep(new, warm_start.take_over(space, new))
    shutil.rmtree(old)

    assert counts(space, new) == [(str(old), 3)]


def test_what_was_kept_stays_as_it_was_when_the_earlier_sweep_goes_on(old: Path, new: Path) -> None:
    space = warm(new, old)
    warm_start.keep(new, warm_start.take_over(space, new))
    kept = (new / EARLIER).read_text()
    journal = old / "journal.jsonl"
    journal.write_text("\n".join(journal.read_text().splitlines()[:-2]) + "\n")

    warm_start.keep(new, warm_start.take_over(space, new))

    assert (new / EARLIER).read_text() == kept


def test_everything_that_cannot_inform_is_told_at_once(tmp_path: Path, new: Path) -> None:
    begun, chart = tmp_path / "begun", tmp_path / "chart.csv"
    begun.mkdir()
    session = session_in(begun, make_space(tmp_path, TEXT), open_storage(None))
    session.journal.close()
    chart.write_text("Step,a - val_loss\n1,3.0\n")

    with pytest.raises(SweepError, match="cannot inform this sweep") as caught:
        warm_start.take_over(warm(new, tmp_path / "gone", tmp_path, begun, chart), new)

    text = str(caught.value)
    assert caught.value.code == 2
    assert "gone: no such run folder, and no such file" in text
    assert f"{tmp_path}: no run folder: it has no journal.jsonl" in text
    assert "begun: no trial of it has finished" in text
    assert "chart.csv: none of its 1 runs names all of optim.lr, train.epochs" in text


def test_runs_of_others_inform_where_all_that_is_searched_is_named(
    tmp_path: Path, new: Path
) -> None:
    (tmp_path / "wandb.csv").write_text(CSV)
    space = warm(new, tmp_path / "wandb.csv")

    told = warm_start.described(space, warm_start.informing(space, new))

    assert [one["trials"] for one in told] == [2]
    assert told[0]["left_out"] == {UNNAMED: 1}


def test_runs_imported_into_the_sweep_inform_it_without_being_named(
    tmp_path: Path, new: Path
) -> None:
    (tmp_path / "wandb.csv").write_text(CSV)
    keep_imported(new, read_external(tmp_path / "wandb.csv").runs)

    assert counts(make_space(new, TEXT), new) == [("imported runs of wandb.csv", 2)]
    assert counts(make_space(new, TEXT, "sampler.name=random"), new) == []


def test_earlier_trials_count_nowhere(old: Path, new: Path) -> None:
    """The journal, and so ranking, budget and report, has this sweep's three trials alone."""
    space = warm(new, old)
    sweeps = warm_start.informing(space, new)

    view = finished(
        session_in(new, space, open_storage(None), earlier=sweeps), fake_train, new / "trials"
    )

    assert len(view.ranked()) == len(view.trials) == 3


def test_damage_to_what_was_kept_is_told_with_its_line(old: Path, new: Path) -> None:
    space = warm(new, old)
    warm_start.keep(new, warm_start.take_over(space, new))
    (new / EARLIER).write_text(json.dumps({"from": "x"}) + "\n")

    with pytest.raises(SweepError, match=r"earlier.jsonl is damaged at line 1"):
        warm_start.informing(space, new)


def test_only_the_surface_takes_a_warm_start(tmp_path: Path) -> None:
    assert problems(tmp_path, TEXT, "sampler.name=tpe", "sampler.warm_start=runs/old") == [
        "sampler.warm_start: sampler.name tpe has no use for it; write surface there"
    ]
