"""A Ray that died is noticed, with nothing but a clock and a node that are fakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Event

import pytest

from sweep.run.ray_health import (
    SECONDS_TO_ANSWER,
    SECONDS_UNANSWERED,
    ClusterLost,
    Health,
    NoAnswer,
)


@dataclass
class FakeNode:
    """What it answers, in turn, and then for ever; None stands for no answer in time."""

    answers: list[str | None] = field(default_factory=lambda: [""])
    dead: str = ""
    now: float = 0.0

    def dead_process(self) -> str:
        return self.dead

    def answer(self, seconds: float) -> str:
        said = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if said is None:
            self.now += seconds
            raise NoAnswer
        return said


@dataclass
class Watched:
    """A node watched for so many checks, which take no time."""

    node: FakeNode
    checks: int = 100
    notices: bool = True
    abandoned: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.health = Health(
            self.node, self.abandoned.append, lambda: self.node.now, self.waits_for
        )

    def waits_for(self, event: Event, seconds: float) -> bool:
        self.node.now += seconds
        self.checks -= 1
        if seconds > 1:  # for the main thread
            return self.notices
        return self.checks < 0


def test_a_process_of_ray_that_died_ends_the_next_step_and_not_the_driver():
    watched = Watched(FakeNode(dead="its raylet ended with SIGKILL"))

    with pytest.raises(ClusterLost, match="its raylet ended with SIGKILL"):
        watched.health.check()
    watched.health.watch()

    assert not watched.abandoned


def test_a_gcs_that_gives_no_answer_is_lost_before_ray_ends_the_process_itself():
    watched = Watched(FakeNode([None]))

    watched.health.watch()

    with pytest.raises(ClusterLost, match=r"its GCS gives no answer for 1\d s"):
        watched.health.check()
    assert watched.node.now < 60


def test_answers_that_are_late_for_a_while_lose_nothing():
    late = int(SECONDS_UNANSWERED / SECONDS_TO_ANSWER) - 1
    watched = Watched(FakeNode([*[None] * late, ""] * 5 + [""]))

    watched.health.watch()

    watched.health.check()


def test_a_driver_that_was_stopped_for_an_hour_blames_no_gcs():
    class Stopped(Watched):
        def waits_for(self, event: Event, seconds: float) -> bool:
            self.node.now += 3600 * (self.checks == 99)
            return super().waits_for(event, seconds)

    watched = Stopped(FakeNode(["", None, ""]))

    watched.health.watch()

    watched.health.check()


def test_a_node_that_its_cluster_gave_up_is_lost():
    watched = Watched(FakeNode(["", "", "it was drained"]))

    watched.health.watch()

    with pytest.raises(ClusterLost, match="it was drained"):
        watched.health.check()


def test_a_driver_that_waits_in_a_dead_ray_is_ended_with_the_reason():
    watched = Watched(FakeNode(dead="its GCS ended with SIGKILL"), notices=False)

    watched.health.watch()

    assert watched.abandoned == ["its GCS ended with SIGKILL"]


def test_an_error_of_ray_is_laid_to_its_death_only_if_it_died():
    alive, dead = Watched(FakeNode()), Watched(FakeNode(dead="its raylet ended with SIGKILL"))
    for watched in (alive, dead):
        watched.health.watch()

    assert alive.health.dies_within(0) == ""
    assert dead.health.dies_within(0) == "its raylet ended with SIGKILL"
