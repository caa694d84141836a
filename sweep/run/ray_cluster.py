"""A Ray cluster: one of our own on this machine, or our part in a running one."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

# Read by Ray when it is imported or started, so they are set before; workers inherit them.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # no telemetry
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # without a GPU granted, see none
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # sweep.run.interrupt has it
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
os.environ.update(QUIET)

import ray  # noqa: E402
from ray.exceptions import AuthenticationError, RayError  # noqa: E402

from model.exit_codes import how_it_ended  # noqa: E402
from sweep.errors import UNREACHABLE, SweepError  # noqa: E402
from sweep.run.interrupt import Interrupt  # noqa: E402
from sweep.run.ray_health import NoAnswer  # noqa: E402
from sweep.run.ray_home import object_store, ray_home, token_of_our_own  # noqa: E402

OBJECT_STORE_BYTES = 100 * 2**20  # only settings and evaluations pass through it
LOOPBACK = "127.0.0.1"  # by which alone the processes of our own cluster can be reached
FORWARDED = ("SWEEP_CACHE", "TIKTOKEN_CACHE_DIR")  # to workers, who may be on other nodes
JOINING = {"RAY_gcs_server_port_wait_time_s": "1"}  # attempts to join, not 20
SECONDS_TO_CONNECT = 5
SECONDS_TO_LEAVE = 20
SECONDS_BETWEEN_CHECKS = 0.1
RESTARTS = 5  # of our own cluster by one driver
REPLACED = "SWEEP_RAY_REPLACED"  # how often, told to the process that takes this one's place
NEEDED = {"raylet": "raylet", "gcs_server": "GCS"}  # processes without which nothing goes on


class Cluster:
    """A cluster that we are part of while entered. It starts in a thread beside slow imports.

    address   of a running cluster, as `ray.init` takes it; None starts one on this machine
    command   that began this process and can begin it anew; empty: not

    The thread stays until the cluster is left: Ray's processes end with the thread they began in.
    """

    def __init__(self, address: str | None, command: Sequence[str] = ()) -> None:
        self._command = command
        self._address = None if address == "local" else address
        self._ready = Event()
        self._again: SimpleQueue[bool] = SimpleQueue()  # whether a fresh one is wanted, or none
        self._error: Exception | None = None
        self._interrupt: Interrupt | None = None
        self._thread = Thread(target=self._live, name="ray", daemon=True)
        self.restarts = int(os.environ.pop(REPLACED, 0))

    def __enter__(self) -> Cluster:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._again.put(False)
        self._thread.join(SECONDS_TO_LEAVE)

    def wait(self, interrupt: Interrupt) -> None:
        """Return once Ray is up. Raises SweepError if it cannot be, Interrupted on a signal."""
        self._interrupt = interrupt
        while not self._ready.wait(SECONDS_BETWEEN_CHECKS):
            interrupt.check()
        if self._error is not None:
            raise self._error
        interrupt.install()  # Ray may have taken SIGTERM

    def replace(self, lost: str) -> None:
        """Have a fresh cluster started for the one that is `lost`, for which `wait` waits.

        Raises SweepError if it was not ours, or if too many were replaced.
        """
        if error := self._end_of(lost):
            raise error
        self.restarts += 1
        self._ready.clear()
        self._again.put(True)

    def abandon(self, lost: str) -> None:
        """End this process, whose main thread waits in a Ray that is lost and never returns.

        Where that was ours, the same command takes its place. What the process was about to write
        is written again, as after any crash.
        """
        error = self._end_of(lost)
        goes = "is going on anew" if self._command else "continues"
        sys.stderr.write(
            f"Error: {error}\n" if error else f"Ray is lost: {lost}; the same command {goes}\n"
        )
        sys.stderr.flush()
        if self._interrupt and self._interrupt.signal is not None:
            os._exit(self._interrupt.exit_code)
        if error or not self._command:
            os._exit(UNREACHABLE)
        _kill_ours()
        os.environ[REPLACED] = str(self.restarts + 1)
        os.execv(sys.executable, [sys.executable, *self._command[1:]])

    def _end_of(self, lost: str) -> SweepError | None:
        """The error that ends this driver for a cluster that is lost; None: it gets a fresh one."""
        if self._address is None and self.restarts < RESTARTS:
            return None
        which = f"the Ray cluster at {self._address}" if self._address else "Ray"
        times = "" if self._address else f" for the {RESTARTS + 1}th time"
        return SweepError(
            f"{which} is lost{times}: {lost}",
            hint="Nothing else is: the same command continues, each trial from its checkpoint.",
            code=UNREACHABLE,
        )

    def _live(self) -> None:
        with ExitStack() as stack:
            try:
                home = None
                if self._address is None:
                    home = stack.enter_context(ray_home())
                    stack.enter_context(token_of_our_own())
                stack.callback(ray.shutdown)
                _connect(self._address, home)
                self._ready.set()
                while self._again.get():
                    _bury()
                    _connect(self._address, home)
                    self._ready.set()
            except Exception as error:
                self._error = error
                self._ready.set()
                self._again.get()


class OurNode:
    """The node that `ray.init` started or joined, in Ray's private parts as of 2.60.

    Nothing is known of it in a Ray that keeps these elsewhere.
    """

    def dead_process(self) -> str:
        """Which of the processes that we started has ended, and how; empty if none has."""
        node = ray._private.worker._global_node
        for kind, processes in node.all_processes.items() if node else ():
            for its in processes:
                code = its.process.poll()
                if kind in NEEDED and code is not None:
                    return f"its {NEEDED[kind]} ended with {how_it_ended(code)}"
        return ""

    def answer(self, seconds: float) -> str:
        """Empty if the cluster counts this node as alive, else what it says. Takes 0.3 ms.

        Raises NoAnswer if that takes more than so many seconds.
        """
        try:
            worker = ray._private.worker.global_worker
            ours = worker.core_worker.get_current_node_id()
            (alive,) = worker.gcs_client.check_alive([ours], timeout=seconds)
        except RayError as error:
            raise NoAnswer(str(error)) from None
        except AttributeError:
            return ""
        return "" if alive else "the node that this driver is on left it, or its raylet died"


def _bury() -> None:
    """Leave a cluster of ours that is dead in part; the rest of it is killed."""
    _kill_ours()
    ray.shutdown()


def _kill_ours() -> None:
    node = ray._private.worker._global_node
    if node is not None:
        node.kill_all_processes(check_alive=False, allow_graceful=False)


def _connect(address: str | None, home: Path | None) -> None:
    # In a home of our own it goes with that, even if we are killed meanwhile.
    with tempfile.TemporaryDirectory(prefix="sweep-", dir=home) as empty:
        _start_or_join(address, home, worker_environment(empty))


def worker_environment(empty: str) -> dict[str, Any]:
    """Ray's runtime_env: workers stand in a copy of the folder `empty`, on whichever node.

    Ray else puts the driver's folder first on their sys.path (`connect` in ray/_private/worker.py),
    and a model.py there would be imported instead of our package. Paths sent to workers are
    absolute: a relative one would mean another folder there.
    """
    caches = {name: os.path.abspath(os.environ[name]) for name in FORWARDED if os.environ.get(name)}
    path = f"{Path(__file__).parents[2]}{os.pathsep}${{PYTHONPATH}}"  # Ray puts in the node's own
    variables = {**QUIET, **caches, "PYTHONPATH": path}
    return {"working_dir": empty, "env_vars": variables}


def _start_or_join(address: str | None, home: Path | None, environment: dict[str, Any]) -> None:
    """Start a cluster whose files are in `home`, or join that at `address`."""
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what fails is in the journal
    ray._private.worker._worker_logs_enabled = False  # nor has a raylet that died twenty lines
    if address is None:
        assert home is not None
        with _without_helpers(), _on_loopback():
            ray.init(
                address="local",
                num_cpus=len(os.sched_getaffinity(0)),
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                _temp_dir=str(home),
                _plasma_directory=str(object_store(home, OBJECT_STORE_BYTES)),
                runtime_env=environment,
                **quiet,
            )
        return
    os.environ.update(JOINING)
    try:
        _knock(address)
        ray.init(address=address, runtime_env=environment, **quiet)
    except (OSError, ValueError, RuntimeError, AuthenticationError) as error:
        raise SweepError(
            f"cannot join the Ray cluster at {address}: {error}",
            hint="Is it up? `ray status` tells. If it asks for a token, RAY_AUTH_MODE=token shows "
            "it the one that is known here, as --address auto does. `sweep run` without --address "
            "starts a cluster here.",
            code=UNREACHABLE,
        ) from None


@contextmanager
def _without_helpers() -> Iterator[None]:
    """Inside, `ray.init` starts no autoscaler, log monitor or server of a dashboard.

    They are three Python processes that a sweep on one machine has no use for, and whose start its
    trials wait for. `ray start` has flags for two of them, `ray.init` has not, and it starts the
    third even without a dashboard (start_head_processes in ray/_private/node.py). A Ray that keeps
    these elsewhere starts them all, as before.
    """
    try:
        parameter, node = ray._private.parameter, ray._private.node.Node
        parameters, server = parameter.RayParams, node.start_api_server
        flags = {"include_log_monitor": False, "no_monitor": True}
        if not {*flags} <= {*inspect.signature(parameters).parameters}:
            raise AttributeError
    except AttributeError:
        yield
        return
    parameter.RayParams = partial(parameters, **flags)
    node.start_api_server = lambda *args, **kwargs: None
    try:
        yield
    finally:
        parameter.RayParams, node.start_api_server = parameters, server


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Inside, `ray.init` takes the address of this node as it is given: loopback stays loopback.

    Its processes then listen there alone, as they do on a Mac; on Linux Ray else puts the machine's
    address in its place (resolve_ip_for_localhost in ray/_private/services.py), and listens on
    every interface. A Ray that does this elsewhere does so as before; its token guards it.
    """
    services = ray._private.services
    resolve = getattr(services, "resolve_ip_for_localhost", None)
    if resolve is None:
        yield
        return
    services.resolve_ip_for_localhost = lambda host: host
    try:
        yield
    finally:
        services.resolve_ip_for_localhost = resolve


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at `address`: Ray takes a quarter of an hour to say so."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "//" not in address:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS_TO_CONNECT).close()
