"""A run folder and what drives its sweep: Ray or a plain loop, and the live view."""

from sweep.run import contents, removal, reproduction
from sweep.run.cluster_check import ClusterCheck, check_cluster
from sweep.run.confirmation import Request, confirm, has_test_split
from sweep.run.driver import Options, run
from sweep.run.manifest import trial_and_keep
from sweep.run.members import train_members
from sweep.run.outside import Report, ask, tell
from sweep.run.single import SingleRun
from sweep.run.students import distill
from sweep.run.teachers import Lesson

__all__ = [
    "ClusterCheck",
    "Lesson",
    "Options",
    "Report",
    "Request",
    "SingleRun",
    "ask",
    "check_cluster",
    "confirm",
    "contents",
    "distill",
    "has_test_split",
    "removal",
    "reproduction",
    "run",
    "tell",
    "train_members",
    "trial_and_keep",
]
