"""The Parquet file of a bank, written for `sweep.replay.curves` to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from model.files import replaced
from sweep.replay.curves import ABOUT, COSTS, Curve


def write_curves(path: Path, curves: Sequence[Curve], shared: Mapping[str, object]) -> None:
    """Write a bank at once, or leave what was there: a row a curve, losses as 32-bit floats.

    shared   what all runs share, such as the corpus and its digest
    """
    names = list(dict.fromkeys(name for curve in curves for name in curve.settings))
    columns: dict[str, Any] = {n: [curve.settings.get(n) for curve in curves] for n in names}
    kinds = {"marks": pa.int32(), "raw": pa.float32(), "ema": pa.float32(), "train": pa.float32()}
    for name, kind in kinds.items():
        values = [list(getattr(curve, name)) for curve in curves]
        columns[name] = pa.array(values, pa.list_(kind))
    for name in COSTS:
        columns[name] = pa.array([getattr(curve, name) for curve in curves], pa.float64())
    table = pa.table(columns).replace_schema_metadata({ABOUT: json.dumps(shared).encode()})
    with replaced(path) as beside:
        pq.write_table(table, beside, compression="zstd", compression_level=19)
