"""When a node is used no further, and when its trials are to blame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fakes import SPACE
from sweeps import make_space, session_in

from sweep.errors import SweepError
from sweep.records import End, Ending, Trial
from sweep.run.console import describe
from sweep.run.nodes import Nodes
from sweep.run.quarantine import Quarantine
from sweep.session import Session, open_storage

BAD, GOOD = "bad", "good"


def fail(quarantine: Quarantine, trial: str, node: str = BAD, at: int = 0) -> bool:
    quarantine.begins(trial, node)
    return quarantine.failed(trial, "CUDA error", at)


def train(quarantine: Quarantine, trial: str, to: int, node: str = GOOD) -> None:
    quarantine.begins(trial, node)
    quarantine.reached(trial, to)


def suspect() -> Quarantine:
    """Three trials have failed on a node, and one of them has trained elsewhere."""
    quarantine = Quarantine()
    for trial in "abc":
        fail(quarantine, trial)
    train(quarantine, "b", 1000)
    return quarantine


def test_a_node_that_failed_three_trials_is_quarantined_once_two_trained_elsewhere():
    quarantine = suspect()
    assert quarantine.nodes() == []

    train(quarantine, "c", 1000)

    assert quarantine.nodes() == [BAD]
    assert quarantine.failures(BAD) == dict.fromkeys("abc", "CUDA error")
    assert quarantine.trained_elsewhere(BAD) == ["b", "c"]


def test_trials_that_fail_on_every_node_quarantine_none():
    quarantine = Quarantine()
    for trial in "abcdefgh":
        fail(quarantine, trial, BAD)
        fail(quarantine, trial, GOOD)

    assert quarantine.nodes() == []


def test_a_trial_that_gets_no_further_elsewhere_tells_nothing_of_the_node():
    quarantine = suspect()
    fail(quarantine, "d", at=5000)

    train(quarantine, "d", 5000)

    assert quarantine.nodes() == []


def test_a_trial_that_ends_well_on_a_node_clears_it():
    quarantine = suspect()
    quarantine.begins("d", BAD)
    quarantine.ended_well("d")
    train(quarantine, "c", 1000)

    assert quarantine.nodes() == []
    assert not fail(quarantine, "e")


def test_workers_that_die_together_count_once():
    """As when one process after another is killed by a person, or for want of memory."""
    quarantine = Quarantine()
    for trial in "abcd":
        quarantine.begins(trial, BAD)
    for trial in "abcd":
        quarantine.failed(trial, "its worker died", 0)
    for trial in "abcd":
        train(quarantine, trial, 1000)

    assert quarantine.nodes() == []
    assert list(quarantine.failures(BAD)) == ["a"]


def test_a_trial_that_fails_again_and_again_counts_once():
    quarantine = Quarantine()
    for _ in range(5):
        assert not fail(quarantine, "a")
    train(quarantine, "a", 1000)

    assert quarantine.nodes() == []


def test_a_node_is_suspected_from_the_second_trial_that_fails_there():
    quarantine = Quarantine()

    assert not fail(quarantine, "a")
    assert fail(quarantine, "b")
    assert not fail(quarantine, "c", GOOD)


def test_a_trial_that_goes_on_where_it_failed_takes_the_blame_from_the_node():
    quarantine = suspect()
    train(quarantine, "c", 1000, BAD)

    assert quarantine.nodes() == []
    assert list(quarantine.failures(BAD)) == ["a", "b"]


def test_a_trial_whose_node_nobody_knows_counts_nowhere():
    quarantine = Quarantine()

    assert not any(quarantine.failed(trial, "its worker died", 0) for trial in "abc")
    assert quarantine.nodes() == []


ERROR = "Traceback\nRuntimeError: CUDA error"
NODES = {
    name: {
        "NodeID": name,
        "NodeName": name,
        "NodeManagerAddress": "10.0.0.1",
        "Alive": True,
        "Resources": {"CPU": 2.0},
    }
    for name in (BAD, GOOD)
}


@pytest.fixture
def session(tmp_path) -> Iterator[Session]:
    """Of a sweep whose trials run four at a time."""
    space = make_space(tmp_path, SPACE, "baseline.multiples=", "prune.rule=none")
    session = session_in(tmp_path, space, open_storage(None))
    session.queue.budget.resources, session.queue.budget.slots = {"cpu": 1.0}, 4
    yield session
    session.close(End(Ending.TRIALS_SPENT))


def begin(session: Session) -> Trial:
    trial = session.next_trial()
    assert trial is not None
    return trial


def watch(session: Session, cluster: dict[str, Any]) -> Nodes:
    return Nodes(session, lambda: cluster, str)


def on_two_nodes(session: Session, cluster: dict[str, Any]) -> tuple[Nodes, list[Trial]]:
    """What watches the nodes, after three trials have failed on the same; and the trials."""
    nodes, trials = watch(session, cluster), [begin(session) for _ in range(3)]
    retried = []
    for trial in trials:
        nodes.begins(trial, BAD)
        retried.append(nodes.failed(trial, ERROR))
    assert retried == [False, True, True]
    return nodes, trials


def test_a_node_in_quarantine_gets_no_trial_and_its_slots_are_gone(session):
    nodes, trials = on_two_nodes(session, NODES)
    events: list[dict[str, Any]] = []
    session._watch = events.append
    assert [nodes.avoided(trial) for trial in trials] == [[], [BAD], [BAD]]

    for trial in trials[1:]:
        nodes.begins(trial, GOOD)
        nodes.evaluated(trial, 1250, over=False)

    assert nodes.avoided(begin(session)) == [BAD]
    assert session.queue.budget.slots == 2
    (told,) = [describe(session.journal.view, e) for e in events if e["event"] == "quarantine"]
    assert told == (
        "node bad (10.0.0.1) is used no further: 3 trials failed there in a row, the last of "
        "RuntimeError: CUDA error; 2 of them train on other nodes. 2 at a time now; the next "
        "driver begins without quarantine."
    )


def test_a_trial_is_tried_elsewhere_once(session):
    nodes, trials = on_two_nodes(session, NODES)
    nodes.begins(trials[1], GOOD)

    assert not nodes.failed(trials[1], ERROR)


def test_the_last_node_is_not_suspected(session):
    nodes = watch(session, {BAD: NODES[BAD]})
    for trial in [begin(session) for _ in range(4)]:
        nodes.begins(trial, BAD)
        assert not nodes.failed(trial, ERROR)
        assert nodes.avoided(trial) == []


def test_a_trial_that_ran_out_of_memory_is_not_tried_elsewhere(session):
    nodes, _ = on_two_nodes(session, NODES)
    nodes.begins(trial := begin(session), BAD)

    assert not nodes.failed(trial, "torch.OutOfMemoryError: CUDA out of memory.")


def test_a_driver_left_with_nodes_in_quarantine_alone_says_so(session, monkeypatch):
    nodes, trials = on_two_nodes(session, cluster := dict(NODES))
    for trial in trials[1:]:
        nodes.begins(trial, GOOD)
        nodes.evaluated(trial, 1250, over=False)
    del cluster[GOOD]
    monkeypatch.setattr("sweep.run.nodes.SECONDS_BETWEEN_LOOKS", -1.0)

    with pytest.raises(SweepError, match=r"but those in quarantine: bad \(10.0.0.1\)\n.*continues"):
        nodes.begin({})
