"""A real `mlflow server` on loopback that can be killed and started again."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS_TO_START = 600.0  # a guard against hanging: a busy machine is slow, which is no failure


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(true: Callable[[], bool], what: str, seconds: float = SECONDS_TO_START) -> None:
    """Ask until it is so: of another process there is no event to wait for."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        select.select([], [], [], 0.05)


class MLflowServer:
    """Keeps its runs in `folder`, or in the database that $SWEEP_TEST_STORE names."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.uri = f"http://127.0.0.1:{self._port}"
        self.store = os.environ.get("SWEEP_TEST_STORE") or f"sqlite:///{folder / 'mlflow.db'}"

    def start(self) -> None:
        about = ["--backend-store-uri", self.store, "--artifacts-destination", str(self._folder)]
        about += ["--host", "127.0.0.1", "--port", str(self._port), "--workers", "1"]
        with (self._folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *about],
                stdout=log,
                stderr=log,
                env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
                start_new_session=True,
            )
        wait_until(self._answers, "the server to start")

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=10):
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def kill(self) -> None:
        """As `kill -9` of the server and its workers: whatever they were at is cut off."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def post(self, path: str, **about: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/{path}",
            json.dumps(about).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS_TO_START) as response:
            return dict(json.load(response))

    def get(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(
            f"{self.uri}/api/2.0/mlflow/{path}", timeout=SECONDS_TO_START
        ) as response:
            return dict(json.load(response))

    def experiment(self, name: str) -> str:
        """Its id; empty as long as there is none."""
        try:
            found = self.get(f"experiments/get-by-name?experiment_name={name}")
        except urllib.error.HTTPError:
            return ""
        return str(found["experiment"]["experiment_id"])

    def runs(self, name: str) -> list[dict[str, Any]]:
        """All runs of an experiment."""
        experiment = self.experiment(name)
        if not experiment:
            return []
        found = self.post("runs/search", experiment_ids=[experiment], max_results=2000)
        return list(found.get("runs", []))

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """Every point of a metric, (step, value), however often it is there."""
        found = self.get(f"metrics/get-history?run_id={run}&metric_key={metric}")
        return [(int(m["step"]), float(m["value"])) for m in found.get("metrics", [])]
