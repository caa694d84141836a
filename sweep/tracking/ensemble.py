"""An ensemble as an MLflow model of the sweep's experiment."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from sweep.tracking.process import MLFLOW_ENVIRONMENT

os.environ.update({**MLFLOW_ENVIRONMENT, **os.environ})  # read when mlflow is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from model.config import ConfigError
from model.secrets import without_password
from sweep.errors import UNREACHABLE, SweepError
from sweep.tracking.artifacts import pack_saved
from sweep.tracking.cursor import PARENT, load_cursor
from sweep.tracking.process import store_uri

MODEL = "ensemble"
TAG = "sweep.ensemble"  # of the sweep's own run: the address of the latest


def log_ensemble(
    folder: Path, members: Sequence[tuple[str, Path, float]], metrics: Mapping[str, float]
) -> str:
    """Log the networks in `members` (name, run, weight) as one model; its address.

    Each network is written out in full: the model is as large as all of them. Raises SweepError if
    MLflow has not the sweep yet or does not take the model, or if a network is not there.
    """
    uri = store_uri(folder.parent)
    cursor = load_cursor(folder, uri)
    if PARENT not in cursor.runs:
        raise SweepError(
            f"MLflow at {without_password(uri)} has nothing of {folder} yet",
            hint=f"Send it first: sweep publish {folder}",
        )
    from model.training import export

    with tempfile.TemporaryDirectory() as scratch:
        saved, packed = Path(scratch) / "trained", Path(scratch) / "model"
        try:
            export.save_mixture([(run, weight) for _, run, weight in members], saved)
        except ConfigError as error:
            raise SweepError("the ensemble cannot be written", error.problems) from None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow, about hints that its own base class lacks
            pack_saved(saved, packed)
        try:
            client = MlflowClient(tracking_uri=uri)
            made = client.create_logged_model(
                cursor.experiment,
                name=MODEL,
                source_run_id=cursor.runs[PARENT],
                tags={f"sweep.member.{name}": f"{weight:.6g}" for name, _, weight in members}
                | {f"sweep.{name}": f"{value:.4f}" for name, value in metrics.items()},
            )
            client.log_model_artifacts(made.model_id, str(packed))
            client.finalize_logged_model(made.model_id, "READY")
            address = f"models:/{made.model_id}"
            client.set_tag(cursor.runs[PARENT], TAG, address)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise SweepError(
                f"MLflow at {without_password(uri)} did not take the ensemble",
                [str(error).splitlines()[0]],
                code=UNREACHABLE,
            ) from None
    return address
