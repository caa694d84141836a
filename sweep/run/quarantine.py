"""Which node of a cluster is used no further: it fails one trial after another, others do not."""

from __future__ import annotations

from dataclasses import dataclass, field

FAILURES = 3  # different trials, one after another on a node
CLEARED = 2  # of them, that have trained on elsewhere: then it was not their settings


@dataclass
class _Record:
    """What happened on a node since a trial last ended well there."""

    failed: dict[str, str] = field(default_factory=dict)  # by trial, of what
    # Trials that were there when another failed: whatever befell that may have befallen them too.
    beside: set[str] = field(default_factory=set)


class Quarantine:
    """Counts failures by node. A failure is an exception, a dead worker or one that said nothing.

    A node is quarantined once FAILURES different trials in a row failed on it, each begun after the
    failure before, and CLEARED of them then trained on another node. Trials that fail elsewhere too
    do not count: they failed of themselves.
    """

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self._on: dict[str, str] = {}  # by trial, the node that trains it
        self._failed_at: dict[str, tuple[str, int]] = {}  # by trial, the node, and how far it was
        self._elsewhere: set[str] = set()  # trials that failed and then trained on another node

    def begins(self, trial: str, node: str) -> None:
        """Take in that a node has begun or goes on to train a trial."""
        self._on[trial] = node
        self._record(node).beside.discard(trial)

    def leaves(self, trial: str) -> None:
        """Take in that no node trains a trial any more, which tells nothing of any."""
        self._on.pop(trial, None)

    def where(self, trial: str) -> str:
        """The node that trains a trial; empty if that is not known."""
        return self._on.get(trial, "")

    def reached(self, trial: str, basis_points: int) -> None:
        """Take in an evaluation: beyond where the trial failed, it clears the trial."""
        node, before = self._failed_at.get(trial, ("", 0))
        if not node or basis_points <= before or trial not in self._on:
            return
        if self._on[trial] == node:
            self._drop(trial)  # a second attempt there went further: neither is to blame
        else:
            self._elsewhere.add(trial)

    def ended_well(self, trial: str) -> None:
        """Take in that a trial came to its end, or was stopped for what it measured."""
        node = self._on.pop(trial, "")
        for other in [*self._record(node).failed]:
            self._drop(other)

    def failed(self, trial: str, reason: str, basis_points: int) -> bool:
        """Take in that a trial failed, this far; whether its node is suspected.

        It is if another trial has failed there before and since then none has ended well.
        """
        node = self._on.pop(trial, "")
        if not node:
            return False
        if self._failed_at.get(trial, (node, 0))[0] != node:
            self._drop(trial)
            return False
        record = self._record(node)
        suspected = bool(record.failed.keys() - {trial})
        if trial not in record.beside | record.failed.keys():
            record.failed[trial] = reason
            self._failed_at[trial] = node, basis_points
            record.beside = {other for other, its in self._on.items() if its == node}
        return suspected

    def nodes(self) -> list[str]:
        """Nodes that are to be used no further."""
        return [
            node
            for node, its in self._records.items()
            if len(its.failed) >= FAILURES and len(its.failed.keys() & self._elsewhere) >= CLEARED
        ]

    def failures(self, node: str) -> dict[str, str]:
        """The trials that failed there in a row, and of what."""
        return dict(self._record(node).failed)

    def trained_elsewhere(self, node: str) -> list[str]:
        """Those of them that another node has trained on."""
        return [trial for trial in self._record(node).failed if trial in self._elsewhere]

    def _record(self, node: str) -> _Record:
        return self._records.setdefault(node, _Record())

    def _drop(self, trial: str) -> None:
        node, _ = self._failed_at.pop(trial, ("", 0))
        self._record(node).failed.pop(trial, None)
        self._elsewhere.discard(trial)
