"""The public nanochat runs as a bank: one unit, smoothed, and a noise that nobody measured here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import fake_curves

from sweep.replay.bank import make_bank
from sweep.replay.curves import read_about, read_curves

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
STEPS = list(range(0, 2000, 10))


def run(bits: float) -> dict[str, object]:
    return {
        "matrix_lr": 0.02,
        "weight_decay": 0.2,
        "warmdown_ratio": 0.5,
        "final_val_bpb": bits,
        "steps": STEPS,
        "train_loss": [3.0 + (step % 30) / 10 for step in STEPS],
    }


def test_public_runs_become_a_bank_in_nats(tmp_path: Path) -> None:
    runs, bank = tmp_path / "runs.parquet", tmp_path / "bank.parquet"
    pq.write_table(pa.Table.from_pylist([run(0.9), run(1.1)]), runs)
    script = [sys.executable, str(BENCHMARKS / "nanochat.py"), str(runs), str(bank)]
    subprocess.run(script, check=True, env={"PYTHONPATH": str(BENCHMARKS.parent)})
    curves = read_curves(bank)

    assert curves[0].settings["optim.weight_decay_multiplier"] == pytest.approx(2)
    assert curves[0].raw[:-1] == pytest.approx([4.0] * 19)  # each the mean of three in a row
    assert [curve.final for curve in curves] == pytest.approx([3.6, 4.4])  # 4 nats are 1 bit a byte
    assert read_about(bank)["noise"] == pytest.approx(0.006)


def test_a_bank_without_repetitions_says_how_noisy_it_is() -> None:
    assert make_bank(fake_curves(), seed_noise=0.01).noise() == 0.01
    assert make_bank(fake_curves(seeds=3), seed_noise=0.5).noise() < 0.1
