"""`sweep ui`: the MLflow server on the curves of all sweeps."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import click

from sweep.cli.options import runs_option
from sweep.errors import UNREACHABLE, SweepError

SERVER_LOG = "mlflow-server.log"
# Without the processes that run jobs for judges of language models, of which there would be six.
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "PYTHONWARNINGS": "ignore",
}
SECONDS_BETWEEN_KNOCKS, SECONDS_TO_STOP = 0.2, 5.0


@click.command()
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option(
    "--expose",
    is_flag=True,
    help="Let --host be one that others reach, without a password.",
)
@runs_option
def ui(port: int, host: str, expose: bool, runs: Path) -> None:
    """Open the MLflow server on the sweeps under --runs. Ctrl-C stops it.

    With $MLFLOW_TRACKING_URI set to a server, its address is printed instead.

    \b
      sweep ui --port 5001
    """
    from sweep.folder import latest
    from sweep.tracking.process import artifact_root, curves_path, store_uri

    if not (expose or _is_loopback(host)):
        raise SweepError(
            f"{host} is not this machine alone, and MLflow asks nobody who they are: whoever "
            "reaches it can read and delete all",
            hint=f"From elsewhere: ssh -L {port}:127.0.0.1:{port} THIS_MACHINE. --expose does it "
            "all the same.",
        )
    uri = store_uri(runs)
    path = curves_path(latest(runs), uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLflow: {uri.rstrip('/')}{path}")
        return
    with suppress(OSError), socket.create_connection((host, port), timeout=5):
        raise SweepError(f"{host}:{port} is taken", hint="--port names another.", code=UNREACHABLE)
    log = runs / SERVER_LOG
    command = [sys.executable, "-P", "-m", "mlflow", "server"]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    # What it says of every request, and of itself, is for the log.
    command += ["--uvicorn-opts", "--log-level warning --no-access-log"]
    if artifact_root(runs, uri):
        command += ["--default-artifact-root", artifact_root(runs, uri)]
    click.echo(f"starting MLflow on {host}:{port}", err=True)
    with log.open("wb") as said:
        # In a session of its own a terminal's Ctrl-C does not reach it: it would print tracebacks.
        server = subprocess.Popen(
            command,
            # Its address may have a password, and arguments can be read by everybody here.
            env={**os.environ, **QUIET, "MLFLOW_BACKEND_STORE_URI": uri},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        _wait(server, host, port, log)
        click.echo(f"Curves: http://{host}:{port}{path}\nCtrl-C stops the server.", err=True)
        server.wait()
        raise SweepError("the MLflow server ended", [_last_line(log)], code=1)
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
    finally:
        _stop(server)


def _is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens at `host`."""
    with suppress(ValueError):
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def _wait(server: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    """Return once the server answers. Raises SweepError if it ends before."""
    while True:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=5):
                pass
        except OSError:
            time.sleep(SECONDS_BETWEEN_KNOCKS)
        else:
            if server.poll() is None:
                return
        if server.poll() is not None:
            raise SweepError(
                f"the MLflow server on {host}:{port} did not start",
                [_last_line(log)],
                hint=f"All it said: {log}",
                code=UNREACHABLE,
            )


def _stop(server: subprocess.Popen[bytes]) -> None:
    """End the server and the processes that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(SECONDS_TO_STOP)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
