"""The nodes of a cluster: how many trials they take, and which are used no further."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from sweep.errors import UNREACHABLE, SweepError
from sweep.records import Trial
from sweep.run.quarantine import Quarantine
from sweep.session import Session, reason_of
from sweep.space import TrialConfig

Node = dict[str, Any]  # what Ray tells of one
SECONDS_BETWEEN_LOOKS = 10.0  # at whether a node is left that may be used


def fit(trial: TrialConfig, nodes: Collection[Mapping[str, float]]) -> tuple[dict[str, float], int]:
    """The resources of one trial, and how many trials run at once: each stays on one of `nodes`.

    Raises SweepError if none fits on any node.
    """
    has_gpus = any(node.get("GPU", 0) >= 1 for node in nodes)
    wanted = {"CPU": trial.cpus, "GPU": trial.gpus if trial.gpus >= 0 else float(has_gpus)}
    wanted = {kind: amount for kind, amount in wanted.items() if amount > 0}
    fits = sum(slots(wanted, node) for node in nodes)
    if trial.max_concurrent:
        # More than fit now is fine: an autoscaling cluster grows to what is asked of it.
        fits = trial.max_concurrent
    if fits < 1:
        asked = ", ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())
        there = "; ".join(
            f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes
        )
        raise SweepError(
            f"no trial fits on any node: each asks {asked}; the nodes have {there}",
            hint="Lower trial.cpus or trial.gpus, or set trial.max_concurrent if the cluster will "
            "grow.",
        )
    return {kind.lower(): amount for kind, amount in wanted.items()}, fits


def slots(wanted: Mapping[str, float], node: Mapping[str, float]) -> int:
    """How many trials that ask for so much of "CPU" and "GPU" fit on a node."""
    return min(int(node.get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items())


class Nodes:
    """Sees to it that a node which fails one trial after another is used no further.

    Where Ray has no other node for a trial, nothing is suspected and nothing avoided.
    """

    def __init__(
        self,
        session: Session,
        alive: Callable[[], dict[str, Node]],
        node_of: Callable[[Any], str],
    ) -> None:
        """alive: the cluster's nodes, by id; node_of: the id of the node that has a worker."""
        self._session, self._alive, self._node_of = session, alive, node_of
        self._quarantine = Quarantine()
        self._out: set[str] = set()  # in quarantine
        self._avoided: dict[str, str] = {}  # by trial, a node that it is not to go on on
        self._retried: set[str] = set()  # trials that were begun again after an exception
        self._looked = time.monotonic()

    def avoided(self, trial: Trial) -> list[str]:
        """Nodes that are not to train `trial`."""
        its = self._avoided.get(trial.name)
        return sorted(self._out | ({its} if its and self._beside({its}) else set()))

    def begins(self, trial: Trial, node: str) -> None:
        """Take in that a worker on that node has the trial."""
        self._quarantine.begins(trial.name, node)

    def leaves(self, trial: Trial) -> None:
        """Take in that the worker which had the trial has left, and not for its sake."""
        self._quarantine.leaves(trial.name)

    def begin(self, training: Mapping[str, tuple[Trial, Any]]) -> None:
        """Look up where those are whose node is not known, by name: the trial and its worker."""
        for name, (trial, worker) in training.items():
            if not self._quarantine.where(name) and worker is not None:
                self.begins(trial, self._node_of(worker))
        now = time.monotonic()
        if self._out and now - self._looked > SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._require_another()

    def evaluated(self, trial: Trial, basis_points: int, over: bool) -> None:
        """Take in an evaluation of `trial`; `over`: its last."""
        self._quarantine.reached(trial.name, basis_points)
        if over:
            self._quarantine.ended_well(trial.name)
        self._isolate()

    def failed(self, trial: Trial, error: str) -> bool:
        """Take in that `trial` failed by an exception; whether it is to be tried elsewhere.

        It is, once, if another trial has failed on its node before: one of the two is to blame, and
        only another node can tell which.
        """
        if not self._failed(trial, error) or trial.name in self._retried:
            return False
        self._retried.add(trial.name)
        return True

    def lost(self, trial: Trial, error: str) -> None:
        """Take in that the worker of `trial` died or was killed."""
        self._failed(trial, error)

    def _failed(self, trial: Trial, error: str) -> bool:
        """Take in a failure; whether the trial is to avoid its node from now on."""
        node = self._quarantine.where(trial.name)
        if not node or not self._session.may_go_on_elsewhere(error):
            self._quarantine.leaves(trial.name)
            return False
        last = self._session.journal.view.trials[trial.name].last
        reached = int(last["basis_points"]) if last else 0
        suspected = self._quarantine.failed(trial.name, reason_of(error), reached)
        self._isolate()
        if not suspected or not self._beside({node}):
            return False
        self._avoided[trial.name] = node
        return True

    def _isolate(self) -> None:
        """Use those no further that have failed too often, unless no other node is left."""
        for node in self._quarantine.nodes():
            others = self._beside({node}) if node not in self._out else []
            if not others or node not in self._alive():
                continue
            self._out.add(node)
            budget = self._session.queue.budget
            _, budget.slots = fit(self._session.space.trial, [its["Resources"] for its in others])
            failures = self._quarantine.failures(node)
            self._session.excuse(failures)
            self._session.note(
                "quarantine",
                node=_name(self._alive()[node]),
                id=node,
                failures=failures,
                trained_elsewhere=self._quarantine.trained_elsewhere(node),
                slots=budget.slots,
            )

    def _beside(self, nodes: set[str]) -> list[Node]:
        """The nodes beside these and those in quarantine on which a trial fits."""
        wanted = {k.upper(): amount for k, amount in self._session.queue.budget.resources.items()}
        return [
            node
            for id_, node in self._alive().items()
            if id_ not in self._out | nodes and slots(wanted, node["Resources"])
        ]

    def _require_another(self) -> None:
        """Raise SweepError once all that may be used have left: trials would wait for ever."""
        if self._session.space.trial.max_concurrent or self._beside(set()):
            return
        names = ", ".join(_name(self._alive()[node]) for node in self._out if node in self._alive())
        raise SweepError(
            f"every node has left the cluster but those in quarantine: {names or 'gone too'}",
            hint="The same command continues, and begins without quarantine.",
            code=UNREACHABLE,
        )


def _name(node: Node) -> str:
    name, address = node["NodeName"], node["NodeManagerAddress"]
    return f"{name} ({address})" if name != address else f"{address}"
