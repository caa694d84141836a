"""Where the baseline curve comes from: measured, remembered, given or built in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from fakes import fake_train
from sweeps import make_space

from model.config.config import Config
from model.data import slowrun_files as fineweb
from model.progress import Progress
from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import Journal
from sweep.records import BaselineRun, End, Ending, Role
from sweep.run import local
from sweep.run.interrupt import Interrupt
from sweep.session.baseline_cache import BaselineCache
from sweep.session.roles import Searching
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.baseline import SLOWRUN, table_runs, with_known_table
from sweep.space.settings import BaselineConfig
from sweep.space.space import Space

DIGEST = "data.digest=0123"


def sweep(
    folder: Path,
    space: Space,
    cache: BaselineCache | None = None,
    train: local.Train = fake_train,
) -> Session:
    folder.mkdir()
    journal, storage = Journal(folder / JOURNAL), open_storage(None)
    about = {"id": "1", "name": space.name, "trials": space.budget.trials, "fixed": {}, "data": "0"}
    journal.append("sweep", train_tokens=space.train_tokens, **about)
    session = Session(space, Searching.open(storage, space), journal, cache=cache)
    with Interrupt() as interrupt:
        local.run(session, train, folder / "trials", interrupt)
    session.close(End(Ending.TRIALS_SPENT))
    return session


def baselines(session: Session) -> list[str]:
    trials = session.journal.view.trials.values()
    return [t.name for t in trials if t.role is Role.BASELINE]


def test_sizes_and_seeds_are_measured_at_each_budget_and_the_best_size_counts(
    tmp_path: Path,
) -> None:
    def sized(config: Config, folder: Path) -> Iterator[Progress]:
        """Half the size is better by 0.3, seeds differ by 0.1."""
        off = 0.3 * (config.gpt.scale == 1) + 0.1 * config.train.seed
        for progress in fake_train(config, folder):
            yield Progress(**{**progress.to_dict(), "val_loss": progress.val_loss + off})

    text = fakes.SPACE.replace("{multiples: [1, 2]}", "{multiples: [1, 2], sizes: [1, 0.5]}")
    space = make_space(tmp_path, text, "baseline.seeds=2", "budget.trials=1")

    session = sweep(tmp_path / "run", space, train=sized)

    assert len(baselines(session)) == 8
    assert baselines(session)[0] == "baseline-2x-scale1-seed0"
    assert "baseline-1x-scale0.5-seed1" in baselines(session)
    assert session.journal.view.baseline == [
        (65_536, pytest.approx(3.25)),
        (131_072, pytest.approx(3.05)),
    ]
    assert len(session.journal.view.baseline_runs) == 8


def test_a_second_sweep_trains_no_baseline(tmp_path: Path) -> None:
    space = make_space(tmp_path, fakes.SPACE, DIGEST, "budget.trials=2")
    cache = BaselineCache(tmp_path / "cache", trainer="a")

    first = sweep(tmp_path / "first", space, cache)
    second = sweep(tmp_path / "second", space, cache)

    assert baselines(first) == ["baseline-2x", "baseline-1x"]
    assert baselines(second) == []
    assert second.journal.view.baseline == first.journal.view.baseline
    assert sorted(map(str, second.journal.view.baseline_runs)) == sorted(
        map(str, first.journal.view.baseline_runs)
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"trainer": "b"},
        {"override": "data.digest=4567"},
        {"override": "train.evals=5"},
        {"override": "baseline.lr=0.02"},
    ],
)
def test_a_baseline_of_another_trainer_data_or_recipe_is_measured_anew(
    tmp_path: Path, changed: dict[str, str]
) -> None:
    cache = BaselineCache(tmp_path / "cache", "a")
    sweep(tmp_path / "1", make_space(tmp_path, fakes.SPACE, DIGEST, "budget.trials=1"), cache)

    other = make_space(
        tmp_path, fakes.SPACE, DIGEST, "budget.trials=1", changed.get("override", DIGEST)
    )
    cache = replace(cache, trainer=changed.get("trainer", "a"))

    assert len(baselines(sweep(tmp_path / "2", other, cache))) == 2


def test_a_sweep_measures_only_the_points_that_are_new(tmp_path: Path) -> None:
    cache = BaselineCache(tmp_path / "cache", "a")
    sweep(tmp_path / "1", make_space(tmp_path, fakes.SPACE, DIGEST, "budget.trials=1"), cache)

    more = make_space(tmp_path, fakes.SPACE, DIGEST, "budget.trials=1", "baseline.multiples=1,2,4")
    session = sweep(tmp_path / "2", more, cache)

    assert baselines(session) == ["baseline-4x"]
    assert len(session.journal.view.baseline or []) == 3


def test_where_the_corpus_lies_is_no_part_of_what_was_measured(tmp_path: Path) -> None:
    cache = BaselineCache(tmp_path, "a")
    cache.remember({"data.digest": "1", "data.path": "a.txt"}, 3.0)

    assert cache.recall({"data.digest": "1", "data.path": "b.txt"}) == 3.0
    assert cache.recall({"data.digest": "2", "data.path": "a.txt"}) is None


def test_what_is_damaged_diverged_or_not_pinned_is_not_remembered(tmp_path: Path) -> None:
    cache = BaselineCache(tmp_path / "cache", "a")
    cache.remember({"data.digest": "1"}, float("inf"))
    cache.remember({}, 3.0)
    assert not (tmp_path / "cache").exists()

    cache.remember({"data.digest": "1"}, 3.0)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(file.read_text()[:20])
    assert cache.recall({"data.digest": "1"}) is None


@pytest.mark.parametrize(
    "table",
    [
        "{100M: 3.7, 200M: 3.5}",
        "{100M: [3.9, 3.7], 200M: 3.5}",
        "[100M:3.7, 200M:3.5]",
        "CSV",
    ],
)
def test_a_table_is_a_baseline_without_any_run(tmp_path: Path, table: str) -> None:
    (tmp_path / "curve.csv").write_text("tokens,small,large\n100M,3.9,3.7\n\n200M,3.6,3.5\n")
    table = table.replace("CSV", str(tmp_path / "curve.csv"))
    space = make_space(
        tmp_path,
        fakes.SPACE.replace("{multiples: [1, 2]}", f"{{table: {table}}}"),
        "budget.trials=1",
    )

    session = sweep(tmp_path / "run", space)

    assert not baselines(session)
    assert session.journal.view.baseline == [(100_000_000, 3.7), (200_000_000, 3.5)]
    assert session.journal.view.baseline_source == "table"


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        ("{table: {100M: 3.7}}", "needs at least two token counts"),
        ("{table: {100M: 3.7, lots: 3.5}}", "lots:3.5: expected tokens:loss such as 100M:3.7"),
        ("{table: {100M: 3.7, 200M: -1}}", "200M:-1: expected tokens:loss"),
        ("{table: [nowhere.csv]}", "nowhere.csv: No such file"),
        ("{table: [slowrun], multiples: [1, 2]}", "measure multiples, or give a table; not both"),
        ("{sizes: [1, 0]}", "expected different numbers above 0, got [1, 0]"),
        ("{sizes: []}", "expected different numbers above 0"),
        ("{multiples: [1, 1]}", "expected different whole numbers"),
        ("{multiple: [1]}", "did you mean baseline.multiples?"),
    ],
)
def test_a_reference_that_makes_no_sense_is_told(
    tmp_path: Path, baseline: str, expected: str
) -> None:
    text = f"search: {{train.epochs: [1, 2]}}\nbaseline: {baseline}"

    with pytest.raises(SweepError) as found:
        make_space(tmp_path, text)

    assert expected in str(found.value)


def about(**changed: object) -> dict[str, object]:
    """What a token table made of Slowrun's own files records."""
    files = {"fineweb_train.pt": fineweb.DIGESTS["train"], "fineweb_val.pt": fineweb.DIGESTS["val"]}
    return {"files": files, "tokens": {"val": 10_000_000}, "source": "x.pt", **changed}


@pytest.mark.parametrize(
    "same",
    [
        {},
        {"files": {}, "slowrun": fineweb.DIGESTS},
        {"files": {"fineweb_val.pt": fineweb.OLD_DIGESTS["val"]}},
    ],
)
def test_slowruns_table_is_used_on_slowruns_tokens(same: dict[str, object]) -> None:
    assert with_known_table(BaselineConfig(), about(**same)).table == (SLOWRUN,)
    assert with_known_table(BaselineConfig(multiples=(1, 2)), about(**same)).table == ()


@pytest.mark.parametrize(
    "other",
    [
        {"files": {"fineweb_val.pt": "0" * 64}},
        {"files": {}},
        {"tokens": {"val": 1_000_000}},
        {"files": {}, "slowrun": {"val": "0" * 64}},
    ],
)
def test_slowruns_table_is_refused_on_other_tokens(other: dict[str, object]) -> None:
    assert with_known_table(BaselineConfig(), about(**other)).table == ()
    with pytest.raises(SweepError, match="measured on other validation tokens than these"):
        with_known_table(BaselineConfig(table=(SLOWRUN,)), about(**other))


def test_slowruns_table_has_three_sizes_at_six_budgets() -> None:
    runs = table_runs([SLOWRUN])

    assert len(runs) == 18
    assert BaselineRun(2_000_000_000, 2.892, 3.0) in runs


def test_the_journal_keeps_the_runs_behind_the_curve(
    space: Space, tmp_path: Path, open_session: Callable[..., Session]
) -> None:
    sweep(tmp_path / "run", space)

    lines = (tmp_path / "run" / JOURNAL).read_text().splitlines()
    (event,) = [e for e in map(json.loads, lines) if e["event"] == "baseline"]
    assert event["source"] == "measured"
    assert event["runs"] == [[131_072, 3.0, 1.0], [65_536, 3.2, 1.0]]
