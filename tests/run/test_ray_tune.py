"""Real Ray, real kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import optuna
import pytest
from fakes import SPACE, dying_train, failing_train, fake_train
from sweeps import make_space, session_in, sharing_space, wait_for_observations

from sweep.errors import SweepError
from sweep.folder import JOURNAL
from sweep.journal import read_events
from sweep.records import End, Ending, Trial
from sweep.run import local, trunk_files
from sweep.run.interrupt import Interrupt
from sweep.session.failures import reason_of
from sweep.session.session import Session
from sweep.session.storage import open_storage
from sweep.space.settings import TrialConfig
from sweep.view import TrialView

if TYPE_CHECKING:
    from sweep.run.ray_cluster import Cluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    # Ray leaves sockets and subprocess handles to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TINY = """
name: tiny
search:
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
  train.epochs: [10, 20]
fixed:
  data.train_tokens: 4097
  data.val_tokens: 1025
  data.test_tokens: 1025
  gpt.layers: 1
  gpt.width: 16
  train.batch_tokens: 256
  train.evals: 8
budget: {trials: 6}
prune: {startup_trials: 2}
baseline: {multiples: [1, 2]}
"""


def summary(session: Session) -> list[tuple[object, ...]]:
    trials: dict[str, TrialView] = session.journal.view.trials
    return [(t.name, t.outcome, t.reason, t.val_loss, t.searched) for t in trials.values()]


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Cluster]:
    """A Ray of our own, started once, whose workers import the fakes."""
    from sweep.run.ray_cluster import Cluster

    support = Path(__file__).parents[1] / "support"
    with pytest.MonkeyPatch.context() as environment, Cluster(None) as cluster:
        environment.setenv("PYTHONPATH", str(support), prepend=os.pathsep)
        with Interrupt() as interrupt:
            cluster.wait(interrupt)
        yield cluster


@pytest.fixture
def run_on_ray(tmp_path: Path, ray_cluster: Cluster) -> Callable[..., Session]:
    def run(train: local.Train, *overrides: str) -> Session:
        from sweep.run import ray_tune

        space = make_space(tmp_path, SPACE, *overrides)
        (tmp_path / "ray").mkdir()
        session = session_in(tmp_path / "ray", space, open_storage(None))
        with Interrupt() as interrupt:
            ray_tune.run(session, train, tmp_path / "ray" / "trials", interrupt, ray_cluster)
        session.close(End(Ending.TRIALS_SPENT))
        return session

    return run


def test_a_ray_of_our_own_starts_no_process_that_a_sweep_has_no_use_for(
    ray_cluster: Cluster,
) -> None:
    threads = Path("/proc/self/task").glob("*/children")
    children = [pid for thread in threads for pid in thread.read_text().split()]
    commands = [Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in children]
    programs = {Path(word).name for words in commands for word in words}

    assert {"raylet", "gcs_server"} <= programs
    assert not {"monitor.py", "log_monitor.py", "dashboard.py"} & programs
    addresses = [address for pid in children for address in listening(pid)]
    assert addresses
    assert {*addresses} <= LOOPBACK


LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}  # 127.0.0.1, as the system writes it


def listening(pid: str) -> list[str]:
    """The addresses at which a process takes connections."""
    sockets = set()
    for opened in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            sockets.add(os.readlink(opened))
    rows = [
        row.split()
        for name in ("tcp", "tcp6")
        for row in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
    ]
    return [
        row[1].partition(":")[0]
        for row in rows
        if row[3] == "0A" and f"socket:[{row[9]}]" in sockets
    ]


def test_ray_and_a_plain_loop_find_the_same_trials_and_outcomes(
    run_on_ray: Callable[..., Session], tmp_path: Path
) -> None:
    (tmp_path / "loop").mkdir()
    space = make_space(tmp_path, SPACE)
    loop = session_in(tmp_path / "loop", space, open_storage(None))
    with Interrupt() as interrupt:
        local.run(loop, fake_train, tmp_path / "loop" / "trials", interrupt)
    loop.close(End(Ending.TRIALS_SPENT))

    ray = run_on_ray(fake_train, "trial.max_concurrent=1")

    assert summary(ray) == summary(loop)
    assert {"complete", "pruned"} <= {str(outcome) for _, outcome, *_ in summary(ray)}


def test_workers_begin_from_trunks_that_others_left_in_the_run_folder(
    small: dict[str, object], ray_cluster: Cluster, tmp_path: Path
) -> None:
    from sweep.run import ray_tune

    space = sharing_space(tmp_path, small, "trial.max_concurrent=1", "budget.trials=3")
    (tmp_path / "loop").mkdir()
    loop = session_in(tmp_path / "loop", space, open_storage(None))
    ray = session_in(tmp_path, space, open_storage(None))
    with Interrupt() as interrupt:
        local.run(loop, local.shared_trainer, tmp_path / "loop" / "trials", interrupt)
        train = trunk_files.trainer(space, tmp_path)
        ray_tune.run(ray, train, tmp_path / "trials", interrupt, ray_cluster)
    for session in (loop, ray):
        session.close(End(Ending.TRIALS_SPENT))

    assert summary(ray) == summary(loop)
    begun = [trial.trunk for trial in ray.journal.view.searches()]
    assert any(trunk.startswith("from the trunk of trial 000") for trunk in begun)


def test_the_next_trial_is_proposed_while_another_trains_towards_its_last_evaluation(
    tmp_path: Path, ray_cluster: Cluster
) -> None:
    from sweep.run import ray_tune

    space = make_space(
        tmp_path,
        SPACE,
        *("trial.max_concurrent=2", "budget.trials=4", "prune.rule=none", "baseline.multiples="),
    )
    session = session_in(tmp_path, space, storage := open_storage(None))
    with Interrupt() as interrupt:
        ray_tune.run(session, fake_train, tmp_path / "trials", interrupt, ray_cluster)
    session.close(End(Ending.TRIALS_SPENT))

    trials = optuna.load_study(study_name="search", storage=storage).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    assert 8750 in trials[2].user_attrs["open"].values()


def test_exceptions_a_hung_worker_and_a_dead_raylet_end_no_trial_but_their_own(
    ray_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweep.results import silence
    from sweep.run import ray_tune

    monkeypatch.setattr(silence, "LEAST", 1.0)
    monkeypatch.setattr("sweep.run.silence.SECONDS_BETWEEN_CHECKS", 0.1)
    space = make_space(
        tmp_path,
        SPACE,
        *("trial.max_concurrent=1", "trial.silence=1e-3", "budget.trials=3"),
        *("budget.failures=99", "baseline.multiples="),
    )
    sessions = []
    for name in ("loop", "ray"):
        (tmp_path / name).mkdir()
        sessions.append(session_in(tmp_path / name, space, open_storage(None)))
    loop, ray = sessions
    restarts = ray_cluster.restarts
    with Interrupt() as interrupt:
        local.run(loop, failing_train, tmp_path / "loop" / "trials", interrupt)
        ray_tune.run(ray, dying_train, tmp_path / "ray" / "trials", interrupt, ray_cluster)
    for session in sessions:
        session.close(End(Ending.TRIALS_SPENT))

    assert summary(ray) == summary(loop)
    assert {"complete", "failed"} <= {str(outcome) for _, outcome, *_ in summary(ray)}
    events = [event for event, _ in read_events(tmp_path / "ray" / JOURNAL)]
    assert [e["lost"] for e in events if e["event"] == "cluster"] == [
        "its raylet ended with SIGKILL"
    ]
    (hung,) = [e["trial"] for e in events if "said nothing" in e.get("reason", "")]
    assert hung == (tmp_path / "ray" / "trials" / "stopped").read_text()
    assert ray_cluster.restarts == restarts + 1
    seen = [(e["trial"], e["basis_points"]) for e in events if e["event"] == "observation"]
    assert len(seen) == len(set(seen))


def test_a_cluster_that_was_joined_is_not_replaced_and_one_of_ours_a_few_times() -> None:
    from sweep.run.ray_cluster import RESTARTS, Cluster

    with pytest.raises(SweepError, match=r"the Ray cluster at head:6379 is lost: it was drained"):
        Cluster("head:6379").replace("it was drained")
    ours = Cluster(None)
    for _ in range(RESTARTS):
        ours.replace("its raylet ended with SIGKILL")
    with pytest.raises(SweepError, match=r"6th time.*\n.*the same command continues") as error:
        ours.replace("its raylet ended with SIGKILL")
    assert error.value.code == 5


def test_a_process_whose_main_thread_hangs_in_a_dead_ray_of_its_own_gives_way_to_another(
    tmp_path: Path,
) -> None:
    """The same command begins anew, and remembers how often it did."""
    from sweep.run.ray_cluster import REPLACED, RESTARTS

    script = tmp_path / "driver.py"
    script.write_text("""
import sys
from sweep.run.ray_cluster import Cluster
cluster = Cluster(None, sys.orig_argv)
print(cluster.restarts, *sys.argv[1:], flush=True)
cluster.abandon("its GCS ended with SIGKILL")
""")
    done = subprocess.run(
        [sys.executable, script, "run", "a space.yaml"],
        env=os.environ | {REPLACED: str(RESTARTS - 1)},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 5
    assert done.stdout.splitlines() == ["4 run a space.yaml", "5 run a space.yaml"]
    assert "going on anew" in done.stderr


def test_a_trial_is_not_blamed_for_the_workers_that_others_spent() -> None:
    """Handed one spent worker after another, a trial once failed that had done nothing wrong."""
    from sweep.run.ray_tune import _Bridge, _Judge

    session = SimpleNamespace(fail=lambda trial, error: None)
    bridge = _Bridge(cast(Session, session), Path())
    judge = _Judge(bridge)
    live = [SimpleNamespace(trial_id=str(n), max_failures=3) for n in range(3)]
    controller = SimpleNamespace(get_live_trials=lambda: live)
    for trial in live[:2]:
        bridge.trials[trial.trial_id] = cast(Trial, SimpleNamespace(name=trial.trial_id))
        failure = {"error": "RuntimeError: no Muon today", "node": ""}
        judge.on_trial_result(controller, trial, failure)
    late = SimpleNamespace(trial_id="late", max_failures=3)
    judge.on_trial_add(controller, late)

    assert live[2].max_failures == late.max_failures == 3 + 2


def test_a_worker_that_ray_killed_for_memory_is_one_that_died() -> None:
    """Tune ended altogether, with a traceback of Ray's own."""
    from ray.air.execution._internal.actor_manager import RayActorManager
    from ray.exceptions import OutOfMemoryError, RayActorError

    from sweep.run.worker_deaths import take_every_death_for_one

    take_every_death_for_one()
    take_every_death_for_one()
    heard: list[Exception] = []
    tracked = SimpleNamespace(actor_id="a", _on_error=lambda actor, error: heard.append(error))
    task = SimpleNamespace(_tracked_actor=tracked, _on_error=None)
    manager = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)

    error = OutOfMemoryError("1 worker(s) were killed due to the node running low on memory.")
    RayActorManager._actor_task_failed(manager, task, error)

    assert [isinstance(its, RayActorError) for its in heard] == [True]
    assert str(heard[0]).startswith("OutOfMemoryError: 1 worker(s) were killed")


def test_a_trial_whose_worker_ran_out_of_memory_gets_no_other_worker(tmp_path: Path) -> None:
    """Tune has put it back among those to run before it asks anyone."""
    from sweep.run.ray_tune import _Bridge, _Judge

    lost: list[str] = []

    def lose_worker(trial: Trial, error: str) -> bool:
        lost.append(reason_of(error))
        return "out of memory" not in error

    stopped: list[Any] = []
    controller = SimpleNamespace(stop_trial=stopped.append)
    judge = _Judge(
        bridge := _Bridge(cast(Session, SimpleNamespace(lose_worker=lose_worker)), Path())
    )
    theirs = [SimpleNamespace(trial_id=n, max_failures=3, error_file=tmp_path / n) for n in "ab"]
    for trial, error in zip(
        theirs, ("killed", "Task was killed due to the node running low on memory."), strict=True
    ):
        trial.error_file.write_text(error)
        bridge.trials[trial.trial_id] = cast(Trial, SimpleNamespace(name=trial.trial_id))
        judge.on_trial_error(controller, trial)
        judge.on_trial_add(SimpleNamespace(), trial)

    assert lost[1] == "out of memory: Ray killed its worker before the kernel would"
    assert (stopped, list(bridge.trials)) == (theirs[1:], ["a"])


def test_a_worker_finds_the_losses_of_a_curriculum_that_lie_beside_the_driver() -> None:
    from sweep.run.ray_tune import _Asker, _Bridge

    trial = SimpleNamespace(settings={"data.reference": "losses.npy"}, name="0000")
    queue = SimpleNamespace(budget=SimpleNamespace(slots=1))
    session = SimpleNamespace(next_trial=lambda: trial, queue=queue)

    given = _Asker(_Bridge(cast(Session, session), Path("runs"))).suggest("a")

    assert given["settings"]["data.reference"] == str(Path("losses.npy").absolute())


def test_workers_import_from_ours_and_from_what_their_node_has_in_pythonpath(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sweep.run.ray_cluster import worker_environment

    monkeypatch.setenv("PYTHONPATH", "/theirs")
    path = worker_environment("empty")["env_vars"]["PYTHONPATH"]

    ours = str(Path(__file__).parents[2])
    assert os.path.expandvars(path).split(os.pathsep) == [ours, "/theirs"]  # as Ray does


def test_a_trial_asks_for_any_node_but_those_it_avoids() -> None:
    from sweep.run.ray_nodes import request

    (others,) = request({"cpu": 1.0}, {"b", "a"})._bound.arguments["bundle_label_selector"]

    assert others == {"ray.io/node-id": "!in(a,b)"}
    assert request({"cpu": 1.0}, ()).bundles == [{"CPU": 1.0}]


def test_a_trial_has_to_fit_on_one_node() -> None:
    from sweep.run.nodes import fit

    nodes = [{"CPU": 1.0}, {"CPU": 1.0}]

    assert fit(TrialConfig(), nodes) == ({"CPU".lower(): 1.0}, 2)
    with pytest.raises(SweepError, match="no trial fits on any node: each asks 2 CPU"):
        fit(TrialConfig(cpus=2), nodes)
    assert fit(TrialConfig(cpus=0.5, gpus=0.5), [{"CPU": 4, "GPU": 1}])[1] == 2
    assert fit(TrialConfig(gpus=1, max_concurrent=4), nodes)[1] == 4


def test_a_worker_that_is_given_no_gpu_sees_none() -> None:
    """Else a sweep with trial.gpus=0 would put every trial on the first GPU of the machine."""
    code = """
import os
from sweep.run import ray_cluster
import ray
ray.init(address="local", num_cpus=1, num_gpus=2, include_dashboard=False, log_to_driver=False)
Seen = ray.remote(type("Seen", (), {"gpus": lambda self: os.environ["CUDA_VISIBLE_DEVICES"]}))
print(repr(ray.get(Seen.remote().gpus.remote())))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "0,1"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == "''"


def start(folder: Path, corpus: Path) -> subprocess.Popen[str]:
    """A driver in the user's own folder, where a model.py and a sweep.py lie, as in nanoGPT's.

    All that it reads and writes is there, by relative paths, the corpus too.
    """
    for name in ("model.py", "sweep.py"):
        (folder / name).write_text("raise RuntimeError('the user has this, not our package')")
    (folder / "tiny.yaml").write_text(TINY)
    command = [Path(sys.executable).with_name("sweep"), "run", "tiny.yaml", "--plain"]
    return subprocess.Popen(
        [*command, "--set", f"data.path={corpus.relative_to(folder)}", "--set", "trial.cpus=1"],
        cwd=folder,
        # A cache of its own: baseline runs of another test would be taken over.
        env=os.environ | {"OMP_NUM_THREADS": "1", "SWEEP_CACHE": "cache"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    )


@pytest.mark.usefixtures("store_at_hand")
def test_a_sweep_survives_sigkill_ctrl_c_and_a_dead_gcs_without_repeating_anything(
    corpus: Path, tmp_path: Path
) -> None:
    """One sweep, three drivers: two are ended in the middle, one of them after its GCS."""
    journal = tmp_path / "runs" / "tiny" / JOURNAL
    outputs: list[str] = []
    for number, code, after in [(signal.SIGKILL, -9, 6), (signal.SIGINT, 130, 18)]:
        driver = start(tmp_path, corpus)
        if number == signal.SIGINT:
            wait_for_observations(journal, 12, driver)
            os.kill(child(driver, "gcs_server"), signal.SIGKILL)
        wait_for_observations(journal, after, driver)
        driver.send_signal(number)
        outputs.append(output := driver.communicate()[0])
        assert driver.returncode == code, output
        assert ("state saved. Continue: sweep run" in output) == (number != signal.SIGKILL)

    last = start(tmp_path, corpus)
    output = last.communicate()[0]

    assert last.returncode == 0, output
    events = [event for event, _ in read_events(journal)]
    seen = [(e["trial"], e["basis_points"]) for e in events if e["event"] == "observation"]
    ended = [e["trial"] for e in events if e["event"] == "outcome"]
    assert len(seen) == len(set(seen))
    assert len(ended) == len(set(ended)) == 6 + 2
    assert "goes on from" in output
    assert "its GCS ended with SIGKILL" in "".join(outputs)
    assert len(list((tmp_path / "cache").glob("*.arrow"))) == 1
    assert_mlflow_agrees(tmp_path / "runs", events)


def child(driver: subprocess.Popen[str], program: str) -> int:
    """The process that runs `program` for the driver."""
    threads = Path(f"/proc/{driver.pid}/task").glob("*/children")
    pids = [int(pid) for thread in threads for pid in thread.read_text().split()]
    (its,) = [pid for pid in pids if program in Path(f"/proc/{pid}/cmdline").read_text()]
    return its


def assert_mlflow_agrees(runs: Path, events: list[dict[str, object]]) -> None:
    """One run per trial, one point per observation, every status an end."""
    with sqlite3.connect(runs / "mlflow.db") as store:
        names = [name for (name,) in store.execute("select name from runs")]
        statuses = {status for (status,) in store.execute("select status from runs")}
        (points,) = store.execute(
            "select count(*) from metrics where key = 'curves/val_loss'"
        ).fetchone()
    store.close()
    assert len(names) == len(set(names)) == 6 + 2 + 1
    assert points == sum(event["event"] == "observation" for event in events)
    assert statuses <= {"FINISHED", "KILLED"}
