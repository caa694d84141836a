"""What `sweep cluster check` says of nodes that differ from the one a sweep is started on."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from sweep.errors import SweepError
from sweep.run.cluster_check import check_cluster
from sweep.run.interrupt import Interrupt
from sweep.run.node_state import Node, NodeState, Wanted, problems, read_state

SOUND = NodeState(
    host="a",
    python="3.11.7",
    packages={"torch": "2.13.0", "ray": "2.60.0"},
    trainer="1234",
    cuda="12.8",
    gpus=("H200 150 GB",),
    room={"runs": 10**11, "cache": 10**11, "temporary": 10**11},
    sees_runs=True,
    writes_runs=True,
    has_data=None,
    files=65536,
    clock=0.0,
)
OTHERWISE = {
    "Python 3.12.1, here 3.11.7": {"python": "3.12.1"},
    "torch 2.12.0, here 2.13.0": {"packages": {"torch": "2.12.0", "ray": "2.60.0"}},
    "ray is missing, here 2.60.0": {"packages": {"torch": "2.13.0", "ray": ""}},
    "another version of the trainer": {"trainer": "5678"},
    "1 GPUs that its torch, a CPU build, cannot use": {"cuda": ""},
    "2 GPUs of which Ray knows 1": {"gpus": ("H200 150 GB",) * 2},
    "does not see the run folders": {"sees_runs": False, "writes_runs": False},
    "cannot write beside the run folders": {"writes_runs": False},
    "free for token tables": {"room": {**SOUND.room, "cache": 10**8}},
    "neither the token table nor its text": {"has_data": False},
    "may open 1024 files": {"files": 1024},
}


def node(state: NodeState | None, **fields: object) -> Node:
    return Node("10.0.0.2", {"CPU": 8.0, "GPU": 1.0}, state, **fields)  # type: ignore[arg-type]


def test_a_node_like_the_driver_has_no_problem() -> None:
    assert problems([node(SOUND, ahead=-0.2)], SOUND) == []


@pytest.mark.parametrize("expected", OTHERWISE)
def test_what_differs_on_a_node_is_one_line_that_names_it(expected: str) -> None:
    other = replace(SOUND, **OTHERWISE[expected])  # type: ignore[arg-type]

    (line,) = problems([node(SOUND), node(other)], SOUND)

    assert line.startswith("a (10.0.0.2): ")
    assert expected in line


def test_a_clock_that_is_off_and_a_node_that_is_silent_are_named() -> None:
    lines = problems([node(SOUND, ahead=61.0), node(None, error="gone")], SOUND)

    assert "its clock is 61 s ahead of the one here" in lines[0]
    assert lines[1] == "10.0.0.2: no worker answered: gone"


def test_a_node_sees_what_the_driver_wrote_and_which_data_are_there(tmp_path: Path) -> None:
    probe, text = tmp_path / "probe", tmp_path / "book.txt"
    wanted = Wanted(str(tmp_path), str(probe), str(tmp_path / "cache"), "/no/table", str(text))
    before = read_state(wanted, trainer="1234")
    probe.touch()
    text.touch()

    after = read_state(wanted, trainer="1234")

    assert (before.sees_runs, before.has_data) == (False, False)
    assert (after.sees_runs, after.writes_runs, after.has_data) == (True, True, True)
    assert after.packages["torch"].startswith("2.")
    assert after.room["cache"] > 0  # of a folder that is not there yet
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("probe")] == ["probe"]


def test_ctrl_c_ends_a_check_with_one_message(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Starting:
        """A cluster that is not there yet when the signal comes."""

        def __init__(self, address: str) -> None: ...

        def __enter__(self) -> Starting:
            return self

        def __exit__(self, *error: object) -> None: ...

        def wait(self, interrupt: Interrupt) -> None:
            signal.raise_signal(signal.SIGINT)
            interrupt.check()

    for where, name in (("ray_cluster", "Cluster"), ("", "")):
        module = ModuleType(where)
        setattr(module, name, Starting)
        monkeypatch.setitem(sys.modules, f"sweep.run.{where}" if where else "ray", module)

    with pytest.raises(SweepError, match="stopped before every node") as stopped:
        check_cluster("auto", tmp_path)

    assert stopped.value.code == 130
    assert list(tmp_path.iterdir()) == []
