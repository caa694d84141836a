"""Whether every node of a cluster is ready for a sweep: asked of a worker on each of them."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.config import Config
from model.files import cache_folder
from sweep.errors import SweepError
from sweep.run.interrupt import Interrupt, Interrupted
from sweep.run.node_state import Node, NodeState, Wanted, problems, read_state
from sweep.space import Space, TrialConfig

SECONDS_TO_ANSWER = 120.0  # a worker has to start first, with what it imports


@dataclass(frozen=True)
class ClusterCheck:
    """What was found: the nodes, how many trials they take at once, and what is wrong."""

    driver: NodeState
    nodes: tuple[Node, ...]
    at_once: int
    problems: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """The check as plain data."""
        return {
            "ready": not self.problems,
            "trials_at_once": self.at_once,
            "problems": list(self.problems),
            "driver": self.driver.to_dict(),
            "nodes": [
                {
                    "address": node.address,
                    "resources": dict(node.resources),
                    "clock_ahead": node.ahead,
                    "error": node.error,
                    "state": node.state.to_dict() if node.state else None,
                }
                for node in self.nodes
            ],
        }


def check_cluster(
    address: str, runs: Path, space: Space | None = None, seconds: float = SECONDS_TO_ANSWER
) -> ClusterCheck:
    """Ask every node of the cluster at `address` what trials would meet there.

    runs      where run folders are to be; it is made, and a file in it for as long as this takes
    space     whose data the nodes should have and whose trials should fit; None: anyone's
    seconds   after which a node that has not answered is a problem
    Raises SweepError if the cluster cannot be joined, or on a signal.
    """
    import ray

    from sweep.run.nodes import fit
    from sweep.run.ray_cluster import Cluster

    with _probe(runs) as probe, Interrupt() as interrupt, Cluster(address) as cluster:
        wanted = _wanted(runs, probe, space)
        try:
            cluster.wait(interrupt)
            alive = [node for node in ray.nodes() if node["Alive"]]
            nodes = _ask(alive, wanted, seconds, interrupt)
        except Interrupted:
            raise SweepError(
                "stopped before every node had answered", code=interrupt.exit_code
            ) from None
        driver = read_state(wanted)
    wrong = problems(nodes, driver)
    try:
        trial = space.trial if space else TrialConfig()
        _, at_once = fit(trial, [dict(node.resources) for node in nodes])
    except SweepError as error:
        at_once, wrong = 0, [*wrong, str(error).splitlines()[0]]
    return ClusterCheck(driver, tuple(nodes), at_once, tuple(wrong))


@contextmanager
def _probe(runs: Path) -> Iterator[Path]:
    """A file beside the run folders that nodes can only see if they share that folder."""
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=runs, prefix=".cluster-check-") as file:
            yield Path(file.name).absolute()
    except OSError as error:
        raise SweepError(f"cannot write in {runs}: {error.strerror}") from None


def _wanted(runs: Path, probe: Path, space: Space | None) -> Wanted:
    table = text = ""
    if space is not None:
        from model.data.prepare import table_path

        data = Config.from_settings(space.fixed).data
        table, text = str(table_path(data).absolute()), data.path
        text = os.path.abspath(text) if text and "://" not in text else text
    return Wanted(str(runs.absolute()), str(probe), str(cache_folder().absolute()), table, text)


def _ask(
    alive: list[dict[str, Any]], wanted: Wanted, seconds: float, interrupt: Interrupt
) -> list[Node]:
    """Every node with the state that a worker on it found, in the order of their addresses."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    read = ray.remote(num_cpus=0, max_retries=0)(read_state)
    asked, sent = {}, time.time()
    for node in sorted(alive, key=lambda node: str(node["NodeManagerAddress"])):
        only_there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked[read.options(scheduling_strategy=only_there).remote(wanted)] = node
    waiting = list(asked)
    while waiting and time.time() - sent < seconds:
        interrupt.check()
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=1)
    heard = time.time()
    return [_answer(node, ref, ref not in waiting, sent, heard) for ref, node in asked.items()]


def _answer(node: dict[str, Any], ref: Any, came: bool, sent: float, heard: float) -> Node:
    import ray

    address, resources = str(node["NodeManagerAddress"]), dict(node["Resources"])
    if not came:
        return Node(address, resources, error=f"nothing was heard for {heard - sent:.0f} s")
    try:
        state: NodeState = ray.get(ref)
    except Exception as error:
        return Node(address, resources, error=_last_line(error))
    # It was read between these two moments; what lies outside them is the least it can be off.
    ahead = max(state.clock - heard, 0.0) + min(state.clock - sent, 0.0)
    return Node(address, resources, state, ahead=ahead)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
