"""`sweep ui`: the MLflow server on the curves of all sweeps."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sweep.cli.options import runs_option


@click.command()
@click.option("--port", default=5000, show_default=True)
@click.option("--host", default="127.0.0.1", show_default=True)
@runs_option
def ui(port: int, host: str, runs: Path) -> None:
    """Open the MLflow server on the sweeps under --runs. Ctrl-C stops it.

    With $MLFLOW_TRACKING_URI set to a server, its address is printed instead.

    \b
      sweep ui --port 5001
    """
    from sweep.folder import latest
    from sweep.tracking.process import artifact_root, curves_path, store_uri

    uri = store_uri(runs)
    path = curves_path(latest(runs), uri)
    if uri.startswith(("http://", "https://")):
        click.echo(f"MLflow: {uri.rstrip('/')}{path}")
        return
    click.echo(f"Curves: http://{host}:{port}{path}\nCtrl-C stops the server.", err=True)
    command = [sys.executable, "-P", "-m", "mlflow", "server", "--backend-store-uri", uri]
    command += ["--host", host, "--port", str(port), "--workers", "1"]
    if artifact_root(runs, uri):
        command += ["--default-artifact-root", artifact_root(runs, uri)]
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.execv(sys.executable, command)
