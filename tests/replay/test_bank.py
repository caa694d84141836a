"""The shipped bank is whole, its grid is balanced from the start, and its figures are right."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from model.config.config import MULTIPLIER
from model.config.cost import trial_flops
from model.progress import WHOLE
from sweep.replay.curves import Curve, read_about, read_curves

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
BANK = BENCHMARKS / "bank.parquet"


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bank_grid

    return bank_grid


@pytest.fixture
def evidence(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bank_evidence

    return bank_evidence


@pytest.fixture
def ranking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bank_ranking

    return bank_ranking


def curve(raw: list[float], ema: list[float], seed: int = 0, **settings: object) -> Curve:
    """A run whose marks divide its schedule evenly."""
    marks = tuple(round(WHOLE * (n + 1) / len(raw)) for n in range(len(raw)))
    named = {"train.epochs": 2, "optim.name": "muon", **settings, "train.seed": seed}
    return Curve(named, marks, tuple(raw), tuple(ema), tuple(raw), 1.0, 1.0)  # type: ignore[arg-type]


# The grid.


def test_a_grid_has_every_cell_once(grid: ModuleType) -> None:
    small = grid.GRIDS["small"]
    cells = grid.cells(small)

    recipes = sum(map(len, small.rates.values())) * len(small.decays)
    assert len(cells) == len(small.epochs) * len(small.scales) * recipes
    assert len({grid.title(cell) for cell in cells}) == len(cells)


def test_any_beginning_of_a_grid_is_balanced(grid: ModuleType) -> None:
    """So that a bank that was never finished is still of use."""
    small = grid.GRIDS["small"]
    cells = grid.cells(small)
    shapes = list(product(small.epochs, small.scales))

    for start in range(0, len(cells), len(shapes)):
        a_round = cells[start : start + len(shapes)]
        recipes = {(c["optim.name"], c["optim.lr"], c[MULTIPLIER]) for c in a_round}
        assert [(c["train.epochs"], c["gpt.scale"]) for c in a_round] == shapes
        assert len(recipes) == len(shapes)


def test_repeated_are_cells_that_span_the_grid_and_the_best(grid: ModuleType) -> None:
    small = grid.GRIDS["small"]
    cells = grid.cells(small)
    finals = {grid.title(cell): -float(number) for number, cell in enumerate(cells)}

    repeated = grid.repeats(small, finals)

    titles = {grid.title({**cell, grid.SEED: 0}) for cell in repeated}
    first_round = cells[: len(small.epochs) * len(small.scales)]
    assert titles == {grid.title(c) for c in first_round + cells[-grid.BEST :]}
    assert Counter(cell[grid.SEED] for cell in repeated) == {1: len(titles), 2: len(titles)}


# What is computed.


@pytest.mark.parametrize(
    ("p", "freedom", "quantile"), [(0.975, 10, 20.483), (0.025, 10, 3.247), (0.975, 36, 54.437)]
)
def test_chi_square_quantiles_are_those_of_tables(
    evidence: ModuleType, p: float, freedom: int, quantile: float
) -> None:
    assert evidence.chi_square_quantile(p, freedom) == pytest.approx(quantile, rel=0.01)


def test_noise_is_pooled_over_cells_by_their_degrees_of_freedom(evidence: ModuleType) -> None:
    cells = [
        [curve([1.0], [1.0]), curve([3.0], [1.0])],  # variance 2, one degree
        [curve([1.0], [1.0]), curve([2.0], [1.0]), curve([3.0], [1.0])],  # variance 1, two
        [curve([9.0], [1.0])],  # tells nothing
        [curve([math.inf], [1.0]), curve([1.0], [1.0])],  # nor does what diverged
    ]

    found = evidence.seed_deviation(cells)

    assert found.sd == pytest.approx(math.sqrt(4 / 3))
    assert (found.freedom, found.cells) == (3, 2)
    assert found.interval[0] < found.sd < found.interval[1]
    assert evidence.seed_deviation(cells[2:]) is None


def test_rank_correlation_counts_ties_by_halves_and_knows_infinity(ranking: ModuleType) -> None:
    assert ranking.spearman([1, 2, math.inf], [5, 7, 9]) == pytest.approx(1)
    assert ranking.spearman([3, 2, 1], [5, 7, math.inf]) == pytest.approx(-1)
    assert ranking.spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(math.sqrt(3) / 2)
    assert math.isnan(ranking.spearman([1, 1], [1, 2]))


def test_a_signal_is_the_last_loss_known_by_then(ranking: ModuleType) -> None:
    run = curve([4.0, 3.0, 2.0, math.inf], [math.nan, 2.5, 2.0, math.nan])

    assert ranking.SIGNALS["raw"](run, 5_500) == 3.0
    assert ranking.SIGNALS["EMA"](run, 5_000) == 2.5
    assert ranking.SIGNALS["EMA"](run, 2_500) == math.inf  # none yet
    assert ranking.SIGNALS["raw"](run, 2_000) == math.inf


def test_a_better_ranking_signal_has_a_gain_above_none(ranking: ModuleType) -> None:
    """The last weights rank these backwards at the middle, their EMA rightly."""
    runs = [curve([5.0 - n, float(n)], [float(n), float(n)], **{"gpt.scale": n}) for n in range(6)]

    value, low, high = ranking.gain([runs], 5_000)

    assert value == pytest.approx(2)
    assert low > 0
    assert high <= 2 + 1e-9
    assert ranking.mean_spearman(ranking.strata(runs, ("train.epochs",)), "raw", 5_000) < 0
    assert ranking.strata(runs, ("gpt.scale",)) == []  # nothing to rank in one run


def test_pairs_that_differ_less_than_asked_do_not_count_as_wrongly_ranked(
    ranking: ModuleType,
) -> None:
    def run(decay: float, middle: float, final: float) -> Curve:
        same = {"optim.lr": 0.1, "gpt.scale": 1.0}
        return curve([middle, final], [final, final], **same, **{MULTIPLIER: decay})

    runs = [run(1.0, 3.0, 2.5), run(4.0, 3.5, 2.0), run(16.0, 4.0, 2.01)]

    rows = {tuple(row[:2]): row[2:] for row in ranking.inversion_rows(runs, least=0.1)[1:]}

    # Nothing is known at a quarter; the last weights mislead at the middle, their EMA does not.
    assert rows["the stronger decay ends better (2)", "raw"] == ["0%", "100%", "100%", "100%"]
    assert rows["the stronger decay ends better (2)", "EMA"] == ["0%", "0%", "0%", "0%"]
    assert rows["the weaker decay ends better (0)", "raw"] == ["-"] * 4


# What ships.


def test_the_bank_is_whole(grid: ModuleType) -> None:
    small, curves = grid.GRIDS["small"], read_curves(BANK)
    titles = [grid.title(c.settings) for c in curves]

    assert len(set(titles)) == len(titles)
    assert {grid.title(cell) for cell in grid.cells(small)} <= set(titles)
    assert {c.marks for c in curves if c.complete} == {tuple(range(500, WHOLE + 1, 500))}
    assert all(c.complete or c.diverged for c in curves)
    assert all(math.isfinite(v) for c in curves if c.complete for v in (*c.raw, *c.ema, *c.train))
    assert BANK.stat().st_size < 1_000_000


def test_the_bank_has_three_seeds_of_cells_that_span_the_grid_and_of_the_best(
    grid: ModuleType,
) -> None:
    curves = read_curves(BANK)
    seeds = Counter(grid.title({**c.settings, grid.SEED: 0}) for c in curves)
    first = {grid.title(c.settings): c.final for c in curves if c.settings[grid.SEED] == 0}

    repeated = {grid.title({**c, grid.SEED: 0}) for c in grid.repeats(grid.GRIDS["small"], first)}
    assert all(seeds[cell] == 3 for cell in repeated)
    assert min(first, key=first.__getitem__) in repeated


def test_the_bank_says_what_its_runs_share(grid: ModuleType) -> None:
    about, curves = read_about(BANK), read_curves(BANK)

    assert about["missing"] == 0
    assert about["corpus"]
    assert about["digest"] == about["settings"]["data.digest"]
    assert about["settings"].items() >= grid.GRIDS["small"].shared.items()
    assert "data.path" not in about["settings"]  # another machine's
    for known in curves[::40]:
        assert known.flops == trial_flops({**about["settings"], **known.settings})


def test_the_bank_shows_what_this_project_is_about() -> None:
    """At low decay more epochs end up worse, far above the train loss; strong decay needs them."""
    curves = [c for c in read_curves(BANK) if c.settings["train.seed"] == 0]
    epochs = sorted({int(c.settings["train.epochs"]) for c in curves})  # type: ignore[call-overload]
    decays = sorted({float(c.settings[MULTIPLIER]) for c in curves})  # type: ignore[arg-type]

    def best(decay: float, length: int) -> Curve:
        alike = [c for c in curves if c.settings[MULTIPLIER] == decay]
        return min(
            (c for c in alike if c.settings["train.epochs"] == length), key=lambda c: c.final
        )

    losses = [best(decays[0], length).final for length in epochs]
    assert min(losses) < min(losses[0], losses[-1]) - 0.05  # beyond the noise between seeds
    assert best(decays[0], epochs[-1]).final - best(decays[0], epochs[-1]).train[-1] > 1
    assert min(c.final for c in curves) < min(losses) - 0.02
    assert min(curves, key=lambda c: c.final).settings[MULTIPLIER] in decays[1:-1]


def test_reading_the_bank_needs_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path; from sweep.replay.curves import read_curves\n"
        f"assert len(read_curves(Path({str(BANK)!r}))) > 191\n"
        "assert not {'torch', 'ray', 'optuna', 'mlflow'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_bank_is_made_and_gone_on_with(corpus: Path, tmp_path: Path) -> None:
    """The second time trains only what the first left out; other settings are refused."""
    tiny = ["data.tokenizer=bytes", "data.train_tokens=1537", "data.val_tokens=257"]
    tiny += ["data.test_tokens=257", "train.evals=2", "gpt.width=16", "gpt.layers=1"]

    def make(limit: int, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(BENCHMARKS / "bank.py"), "make", "--data", str(corpus)]
        command += ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "bank.parquet")]
        command += ["--limit", str(limit), *(f"--set={s}" for s in (*tiny, *more))]
        environment = {**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    first, second = make(1), make(2)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert [len(done.stderr.splitlines()) for done in (first, second)] == [1, 1]
    assert [c.marks for c in read_curves(tmp_path / "bank.parquet")] == [(5_000, 10_000)] * 2
    about = read_about(tmp_path / "bank.parquet")
    assert about["settings"]["gpt.width"] == 16
    assert about["missing"] > 100
    assert "other settings" in make(2, "optim.warmup=0.1").stderr
