"""Whatever a file holds, it is a space or one message: never a traceback."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from model.config.config import SETTINGS
from sweep.errors import SweepError
from sweep.space.constraint import QUANTITIES
from sweep.space.language.domains import KEYS as LEAF_KEYS
from sweep.space.language.reader import KEYS as FILE_KEYS
from sweep.space.language.reader import read_space
from sweep.space.language.wandb import DISTRIBUTIONS, INSTEAD
from sweep.space.settings import SWEEP_SETTINGS
from sweep.space.space import Space

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 70_000),
    st.floats(),
    st.dates(),
    st.binary(max_size=3),
    st.text(max_size=5),
    st.sampled_from(
        ["1e-4", "100M", "2h", "5%", "adamw", "muon", "val_loss", "hyperband", "cpu-tiny"]
    ),
    st.sampled_from([*SETTINGS, *DISTRIBUTIONS, *INSTEAD, *(f"{q} <= 3M" for q in QUANTITIES)]),
)
KEYS = st.one_of(
    st.sampled_from([*FILE_KEYS, *LEAF_KEYS, *SETTINGS]),
    st.sampled_from([name.partition(".")[2] for name in SWEEP_SETTINGS]),
    SCALARS.filter(lambda key: not isinstance(key, bytes)),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)
LEAVES = st.one_of(
    st.lists(SCALARS, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from([*LEAF_KEYS, "parameters", "mu"]), VALUES, max_size=4),
    st.fixed_dictionaries(
        {"min": SCALARS, "max": SCALARS},
        optional={"distribution": st.sampled_from([*DISTRIBUTIONS]), "q": SCALARS, "step": SCALARS},
    ),
)
SPACES = st.fixed_dictionaries(
    {},
    optional={
        "search": st.dictionaries(st.sampled_from(sorted(SETTINGS)), LEAVES, max_size=4),
        "parameters": st.dictionaries(KEYS, LEAVES, max_size=2),
        "points": st.lists(st.dictionaries(st.sampled_from(sorted(SETTINGS)), SCALARS, max_size=2)),
        **{key: VALUES for key in FILE_KEYS if key not in ("search", "parameters", "points")},
    },
)
PIECES = [
    *(": ", "- ", "? ", ", ", "\n", " ", "\t", "{", "}", "[", "]", "|", ">", "'", '"', "#"),
    *("&a", "*a", "<<", "!!set", "!!int", "!!python/name:os.system", "---", "...", "\x00"),
    *("search", "parameters", "optim.lr", "train.epochs", "min", "max", "1", "1e-4", "é"),
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
OFTEN = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read(folder: Path, text: str) -> None:
    path = folder / "space.yaml"
    path.write_text(text, encoding="utf-8")
    with suppress(SweepError):
        assert isinstance(read_space(path), Space)


@OFTEN
@given(SPACES)
@example({"search": {"optim.lr": {"min": 1, "max": 2, "distribution": ["q_uniform"]}}})
def test_mappings_of_known_keys_with_anything_in_them(tmp_path: Path, space: Any) -> None:
    read(tmp_path, yaml.safe_dump(space, sort_keys=False))


@OFTEN
@given(st.dictionaries(KEYS, VALUES, max_size=5))
def test_mappings_of_anything(tmp_path: Path, space: Any) -> None:
    read(tmp_path, yaml.safe_dump(space, sort_keys=False))


@OFTEN
@given(TEXT)
@example("search: " + "[" * 2000)
@example("search: &a [*a]")
@example("search: !!set {optim.lr}")
@example("? [search]\n: 1")
@example("search: {optim.lr: !!timestamp x}")
def test_pieces_of_yaml_in_any_order(tmp_path: Path, text: str) -> None:
    read(tmp_path, text)
