"""Drive a session with Ray Tune: many trials at once, on this machine or a cluster.

Tune schedules and nothing more. What it keeps of an experiment is thrown away: the ledger knows
all that is needed to go on, and Tune would tell Optuna that a stopped trial was complete.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from model.config import PATHS, Config
from model.progress import Progress
from sweep.format import clock_text
from sweep.records import Trial
from sweep.results import silence
from sweep.run.interrupt import Interrupt
from sweep.run.local import Train
from sweep.run.nodes import Nodes, fit
from sweep.run.ray_cluster import Cluster, OurNode
from sweep.run.ray_health import SECONDS_UNANSWERED, ClusterLost, Health
from sweep.run.ray_nodes import alive, node_of, request
from sweep.run.resource_meter import Meter
from sweep.run.scratch import scratch
from sweep.run.silence import Listener
from sweep.run.worker_deaths import KernelKills, take_every_death_for_one, why
from sweep.session import Session, reason_of

WORKERS_LOST = 3  # times a trial outlives its worker before it counts as failed
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Ray paints its error texts
SECONDS_BETWEEN_SNAPSHOTS = 1e6  # Tune's own, which nothing reads


def run(
    session: Session, train: Train, folder: Path, interrupt: Interrupt, cluster: Cluster
) -> None:
    """Run every trial of `session` on `cluster`, each in its own folder under `folder`.

    A cluster of our own that dies is replaced; trials then go on from their checkpoints.
    Raises SweepError if the cluster cannot be reached, is lost or has no room for a trial,
    Interrupted on a signal.
    """
    take_every_death_for_one()
    bridge = _Bridge(session, folder.absolute())
    while True:
        cluster.wait(interrupt)
        health = Health(OurNode(), cluster.abandon)
        bridge.check_health = health.check
        with health.watched():
            try:
                _tune(bridge, train, interrupt)
                return
            except ClusterLost as error:
                lost = str(error)
            except RayError:
                lost = health.dies_within(SECONDS_UNANSWERED)
                if not lost:
                    raise
        cluster.replace(lost)
        session.note("cluster", lost=lost, restart=cluster.restarts)
        bridge.take_back()


def _tune(bridge: _Bridge, train: Train, interrupt: Interrupt) -> None:
    session = bridge.session
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", str(SECONDS_BETWEEN_SNAPSHOTS))
    with scratch(bridge.folder.parent) as unread:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        resources, at_once = fit(session.space.trial, nodes)
        session.queue.budget.resources = resources
        session.queue.budget.slots = at_once
        session.note("ready", slots=at_once, resources=resources)
        tuner = tune.Tuner(
            tune.with_resources(
                _worker(train), lambda config: request(resources, config["avoided"])
            ),
            tune_config=tune.TuneConfig(
                search_alg=_Asker(bridge),
                scheduler=_Judge(bridge),
                max_concurrent_trials=at_once,
                num_samples=-1,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(unread.absolute()),
                verbose=0,
                # The trainer keeps its own checkpoints; Tune's default would ask for one more.
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                failure_config=tune.FailureConfig(max_failures=WORKERS_LOST),
                stop=_Watch(bridge, interrupt),
            ),
        )
        tuner.fit()
        interrupt.check()


class _Bridge:
    """Shared by Asker, Judge and Watch: the session, and our trial for each of Tune's."""

    def __init__(self, session: Session, folder: Path) -> None:
        self.session, self.folder = session, folder
        self.trials: dict[str, Trial] = {}
        self.waiting: deque[Trial] = (
            deque()
        )  # begun on a cluster that died or a node under suspicion
        self.lost: dict[str, str] = {}  # why a Tune trial last lost its worker
        self.hung: dict[str, str] = {}  # by Tune trial, why its worker was killed by us
        self.spent_workers = 0  # workers that an exception has spent: they leave when next used
        self.check_health: Callable[[], None] = lambda: None  # raises ClusterLost
        self.controller: Any = None  # Tune's, once it has a trial
        self.listener = Listener(self._silence_limit, silence.LEAST)
        self.nodes = Nodes(session, alive, node_of)

    def __getstate__(self) -> dict[str, Any]:
        return {}  # Tune pickles its searcher and scheduler at the start; nothing reads it

    def take_back(self) -> None:
        """Tune is to begin anew: what it trained comes first."""
        self.waiting.extend(self.trials.values())
        self.trials.clear()
        self.lost.clear()
        self.hung.clear()
        self.spent_workers, self.controller = 0, None
        self.listener = Listener(self._silence_limit, silence.LEAST)
        self.nodes = Nodes(self.session, alive, node_of)

    def next_trial(self) -> Trial | None:
        """The trial to run next, or None."""
        if not self.waiting:
            return self.session.next_trial()
        trial = self.waiting.popleft()
        self.session.go_on(trial)
        return trial

    def look_after_workers(self) -> None:
        """Kill the workers that say nothing for too long; Tune then gives their trials to others.

        A process that is stopped does not listen either: Ray then sends it SIGKILL.
        """
        live = self.controller.get_live_trials() if self.controller else ()
        training = {
            self.trials[trial.trial_id].name: trial
            for trial in live
            if trial.status == tune.experiment.Trial.RUNNING and trial.trial_id in self.trials
        }
        self.nodes.begin(
            {
                name: (self.trials[its.trial_id], its.temporary_state.ray_actor)
                for name, its in training.items()
            }
        )
        for name, seconds in self.listener.beyond(training).items():
            its = training[name]
            worker = its.temporary_state.ray_actor
            if worker is None:
                continue
            reason = f"its worker said nothing for {clock_text(seconds)} and was killed"
            self.hung[its.trial_id] = reason
            self.listener.heard(name)
            ray.kill(worker)

    def _silence_limit(self, name: str) -> float:
        multiple = self.session.space.trial.silence
        return silence.silence_limit(self.session.journal.view, name, multiple)


class _Asker(Searcher):  # type: ignore[misc]
    """Asks the session for trials. Evaluations and endings go through the Judge."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge = bridge

    def set_search_properties(self, *args: Any, **kwargs: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> Any:
        if len(self._bridge.trials) >= self._bridge.session.queue.budget.slots:
            return None  # fewer than in the beginning, after a node was left
        trial = self._bridge.next_trial()
        if trial is None:
            # While trials run, one of them may fail and be replaced: not now is not never. With
            # none running, not now would make Tune wait for ten minutes.
            return None if self._bridge.trials else Searcher.FINISHED
        self._bridge.trials[trial_id] = trial
        settings = dict(trial.settings)
        for name in PATHS:
            if settings.get(name):  # workers stand in another folder
                settings[name] = os.path.abspath(str(settings[name]))
        return {
            "settings": settings,
            "folder": str(self._bridge.folder / trial.name),
            "avoided": self._bridge.nodes.avoided(trial),
        }

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._bridge.trials.pop(trial_id, None)
        if error and trial is not None:
            cause = self._bridge.lost.get(trial_id, "").strip() or "no cause given"
            last = cause.splitlines()[-1]
            self._bridge.session.fail(
                trial, f"{cause}\nlost its worker too often, the last time: {last}", lost=True
            )

    def save(self, checkpoint_path: str) -> None:
        raise NotImplementedError  # Tune then goes on without

    def restore(self, checkpoint_path: str) -> None:
        raise NotImplementedError


class _Judge(FIFOScheduler):  # type: ignore[misc]
    """Hands evaluations to the session and its verdicts to Tune."""

    def __init__(self, bridge: _Bridge) -> None:
        super().__init__()
        self._bridge, self._kills = bridge, KernelKills()
        self._over: dict[str, Any] = {}  # controllers of Tune trials that must not go on

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        ours, nodes = self._bridge.trials[trial.trial_id], self._bridge.nodes
        nodes.begins(ours, result["node"])
        if "error" in result:
            if nodes.failed(ours, result["error"]):
                self._bridge.session.note(
                    "tried elsewhere", trial=ours.name, reason=reason_of(result["error"])
                )
                self._bridge.waiting.append(ours)
            else:
                self._bridge.session.fail(ours, result["error"])
            self._allow_for_spent_worker(controller)
            stop = True
        else:
            self._bridge.listener.heard(ours.name)
            progress, usage = result["progress"], dict(result["usage"])
            stop = self._bridge.session.observe(ours, progress, usage).stop
            nodes.evaluated(ours, progress.basis_points, over=stop)
        if stop:
            # The ledger has the ending; what Tune says of it is not used.
            del self._bridge.trials[trial.trial_id]
        return str(self.STOP if stop else self.CONTINUE)

    def on_trial_add(self, controller: Any, trial: Any) -> None:
        self._bridge.controller = controller
        trial.max_failures += self._bridge.spent_workers
        if trial.trial_id in self._over:  # Tune has put it back among those to run
            with redirect_stdout(StringIO()):  # Tune says that it completed
                self._over.pop(trial.trial_id).stop_trial(trial)

    def _allow_for_spent_worker(self, controller: Any) -> None:
        """The next trial on that worker loses it once, which must not count against the trial."""
        self._bridge.spent_workers += 1
        for trial in controller.get_live_trials():
            trial.max_failures += 1

    def on_trial_error(self, controller: Any, trial: Any) -> None:
        """A worker died: Tune starts the trial again, which goes on from its own checkpoint."""
        ours, path = self._bridge.trials.get(trial.trial_id), Path(trial.error_file or "")
        if ours is None or not path.is_file():
            return
        self._bridge.check_health()  # with Ray itself dead, no worker is to blame
        self._bridge.listener.heard(ours.name)
        text = COLOURS.sub("", path.read_text())
        hung = self._bridge.hung.pop(trial.trial_id, "")
        error = f"{text}\n{hung}" if hung else why(text, self._kills.one_more)
        self._bridge.lost[trial.trial_id] = error
        if not error:
            self._bridge.nodes.leaves(ours)
        else:
            self._bridge.nodes.lost(ours, error)
            if avoided := self._bridge.nodes.avoided(ours):
                resources = self._bridge.session.queue.budget.resources
                trial.update_resources(request(resources, avoided))
        if error and not self._bridge.session.lose_worker(ours, error):
            del self._bridge.trials[trial.trial_id]
            self._over[trial.trial_id] = controller


class _Watch(tune.Stopper):  # type: ignore[misc]
    """What is looked after between steps: signals, Ray itself, silent workers, the next proposal.

    Tune asks it once a step. By then whoever was heard has gone on to train, so that nobody waits
    for the proposal. Not a callback: as soon as there is one, Tune imports mlflow to count its
    users.
    """

    def __init__(self, bridge: _Bridge, interrupt: Interrupt) -> None:
        self._bridge, self._interrupt = bridge, interrupt

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        self._interrupt.check()
        self._bridge.check_health()
        self._bridge.look_after_workers()
        self._bridge.session.ask_ahead()
        return False

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _die_with_parent() -> None:
    """Have the system kill this worker when its raylet dies, however that dies.

    It would go on training in a folder that another worker is to have (PR_SET_PDEATHSIG in
    prctl(2)). Where the system has no such thing, the lock on that folder keeps others out.
    """
    with suppress(OSError, AttributeError):
        parent = os.getppid()
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:  # it died meanwhile
            os._exit(1)


def _worker(train: Train) -> type:
    """The actor that trains one trial after another, keeping torch and the token table warm."""

    class Worker(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            _die_with_parent()
            self._failed = self._leaving = False
            self._start(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self._leaving = self._failed
            self._start(new_config)
            return True

        def _start(self, config: dict[str, Any]) -> None:
            self._evaluations: Iterator[Progress] | None = None
            self._settings, self._folder = config["settings"], Path(config["folder"])
            self._meter = Meter()
            self._node = ray.get_runtime_context().get_node_id()

        def step(self) -> dict[str, Any]:
            if self._leaving:
                # An exception in the trial before may have left the GPU unusable, so that a fresh
                # worker must take this one. Tune gives it one here, but not from reset_config.
                ray.actor.exit_actor()
            try:
                if self._evaluations is None:
                    self._evaluations = train(Config.from_settings(self._settings), self._folder)
                progress = next(self._evaluations)
                # As pairs: Tune flattens dicts.
                usage = tuple(self._meter.read().items())
                return {"progress": progress, "usage": usage, "node": self._node}
            except Exception:
                self._failed = True
                return {"error": traceback.format_exc(), "node": self._node}

    return Worker
