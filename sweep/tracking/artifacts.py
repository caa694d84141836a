"""The files beside a sweep's curves: what defines it, its report, and its best network."""

from __future__ import annotations

import hashlib
import math
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, Metric

import model
from model.training.release import CHECKPOINT
from sweep.errors import SweepError
from sweep.folder import ENVIRONMENT, RESOLVED, SPACE, TRIALS
from sweep.format import markdown_block, markdown_text
from sweep.records import Outcome
from sweep.report import page, reading_of
from sweep.results import report
from sweep.tracking.cursor import PARENT, Cursor
from sweep.tracking.metrics import FINAL_EFFICIENCY
from sweep.tracking.runs import LONGEST_TAG, PARENT_NOTE
from sweep.view import TrialView, View

DEFINITION = (SPACE, RESOLVED, ENVIRONMENT)
REPORT = "report"  # a folder among the artifacts; what lies in the run folder's own joins them
# What a machine needs to run the model; our own code travels with it.
NEEDED = ("mlflow", "torch", "numpy", "pandas", "pyarrow", "safetensors", "tiktoken", "requests")
OPTIMIZERS = "pytorch-optimizer"  # model.training.export imports it


class Artifacts:
    """Sends each file once, and again when it has changed."""

    def __init__(self, client: MlflowClient, cursor: Cursor, folder: Path) -> None:
        self._client, self._cursor, self._folder = client, cursor, folder

    def bring_up_to_date(self, view: View) -> None:
        """Send the files that the store lacks. Raises whatever the artifact store raises."""
        if PARENT not in self._cursor.runs:
            return
        for name, path in self._files():
            self._send(name, path.read_bytes())
        if view.end is None or view.running():
            if any(trial.outcome is Outcome.COMPLETE for trial in view.trials.values()):
                _import_for_the_end()
            return
        with tempfile.TemporaryDirectory() as scratch:
            for path in write_report(view, self._folder, Path(scratch)):
                self._send(f"{REPORT}/{path.name}", path.read_bytes())
            self._describe(view)
        best = report.winner(view)
        if best is not None:
            self._send_model(view, best)

    def _files(self) -> Iterator[tuple[str, Path]]:
        """Where each file goes, and where it is."""
        for name in DEFINITION:
            if (self._folder / name).exists():
                yield name, self._folder / name
        for path in sorted((self._folder / REPORT).glob("*")):
            if path.is_file():
                yield f"{REPORT}/{path.name}", path

    def _send(self, name: str, content: bytes) -> None:
        digest = hashlib.sha256(content).hexdigest()
        if self._cursor.files.get(name) == digest:
            return
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / Path(name).name
            path.write_bytes(content)
            into = str(Path(name).parent) if "/" in name else None
            self._client.log_artifact(self._cursor.runs[PARENT], str(path), into)
        self._cursor.files[name] = digest
        self._cursor.save(self._folder)

    def _describe(self, view: View) -> None:
        """The report for people as a file, and its answer in the description of the run."""
        with suppress(SweepError):  # no trial has finished
            reading = reading_of(self._folder, view)
            name = f"{REPORT}/report.html"
            before = self._cursor.files.get(name)
            self._send(name, page(reading).encode())
            if self._cursor.files[name] == before:
                return
            parent = self._cursor.runs[PARENT]
            said = "\n".join(
                f"- **{its.about}.** {markdown_text(its.text)}" for its in reading.answer
            )
            note = f"{said}\n\n{PARENT_NOTE}"[:LONGEST_TAG]
            self._client.set_tag(parent, "mlflow.note.content", note)
            edges = " ".join(s.text for s in reading.answer if s.about == "Edges")
            self._client.set_tag(parent, "sweep.edges", edges[:LONGEST_TAG])

    def _send_model(self, view: View, trial: TrialView) -> None:
        """The network of the best trial, once; the one that was best before stays."""
        run = self._folder / TRIALS / trial.name
        logged = self._cursor.model
        if logged.get("trial") == trial.name and logged.get("state") == "READY":
            return
        if not (run / CHECKPOINT).exists():  # of a trainer that keeps none
            return
        if logged.get("trial") != trial.name:
            made = self._client.create_logged_model(
                self._cursor.experiment,
                name=model_name(view.header["name"], trial.name),
                source_run_id=self._cursor.runs[trial.name],
                params={name: str(value) for name, value in trial.searched.items()},
                tags={"sweep.trial": trial.name, "sweep.val_loss": f"{trial.val_loss:.4f}"},
            )
            logged = {"trial": trial.name, "id": made.model_id, "state": "PENDING"}
            self._cursor.model = logged
            self._cursor.save(self._folder)
        with tempfile.TemporaryDirectory() as scratch:
            packed = Path(scratch) / "model"
            pack(run, packed, Path(scratch) / "trained")
            self._client.log_model_artifacts(logged["id"], str(packed))
        self._client.finalize_logged_model(logged["id"], "READY")
        self._client.set_logged_model_tags(logged["id"], {"sweep.usage": usage(logged["id"])})
        for metric in _model_metrics(view, trial, logged["id"]):
            self._client.log_batch(self._cursor.runs[trial.name], metrics=[metric])
        made_by, step = self._cursor.runs[trial.name], int(trial.last["step"]) if trial.last else 0
        self._client.log_outputs(made_by, [LoggedModelOutput(logged["id"], step)])
        self._client.set_tag(self._cursor.runs[PARENT], "sweep.model", f"models:/{logged['id']}")
        self._cursor.model = {**logged, "state": "READY"}
        self._cursor.save(self._folder)


def _import_for_the_end() -> None:
    """Import torch and matplotlib while others train: at the end a driver waits for us.

    Not at our start, when drivers and workers import what they cannot begin without.
    """
    from model.training import export  # noqa: F401
    from sweep.results import efficiency_plot  # noqa: F401


def model_name(sweep: str, trial: str) -> str:
    """What a trial's network is called among all models, without letters that MLflow refuses."""
    return re.sub(r"[/:.%\"']", "-", f"{sweep}-{trial}")


def usage(model_id: str) -> str:
    """A line of Python that continues a text with the model."""
    return (
        f'mlflow.pyfunc.load_model("models:/{model_id}")'
        '.predict(pandas.DataFrame({"prompt": ["def "]}))'
    )


def _model_metrics(view: View, trial: TrialView, model_id: str) -> Iterator[Metric]:
    """What the page of models compares them by."""
    values = {f"final/{key}": (trial.last or {}).get(key) for key in ("val_loss", "bits_per_byte")}
    worth = report.efficiency_of(view, trial)
    if worth is not None and not worth.side:
        values[FINAL_EFFICIENCY] = worth.value
    for name, value in values.items():
        if value is not None and math.isfinite(value):
            yield Metric(name, value, trial.ended or trial.latest, 0, model_id=model_id)


def pack(run: Path, folder: Path, scratch: Path) -> None:
    """Write the network that the run in `run` trained into `folder`, as an MLflow model."""
    from model.training import export

    export.save(run, scratch)
    pack_saved(scratch, folder)


def pack_saved(saved: Path, folder: Path) -> None:
    """Write what `model.training.export` wrote into `saved` into `folder`, as an MLflow model."""
    from mlflow import pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    from sweep.tracking import pyfunc_model

    columns = [ColSpec("string", name, required=False) for name in ("prompt", "text")]
    params = [ParamSpec(name, kind, value) for name, (kind, value) in pyfunc_model.PARAMS.items()]
    pyfunc.save_model(
        folder,
        python_model=pyfunc_model.__file__,
        artifacts={pyfunc_model.TRAINED: str(saved)},
        code_paths=[next(iter(model.__path__))],
        signature=ModelSignature(Schema(columns), None, ParamSchema(params)),
        pip_requirements=[_pinned(name) for name in (*NEEDED, OPTIMIZERS)],
    )


def _pinned(package: str) -> str:
    # torch's own index adds what it was built for: 2.13.0+cpu
    return f"{package}=={metadata.version(package).partition('+')[0]}"


def write_report(view: View, folder: Path, into: Path) -> list[Path]:
    """Write the report of `sweep run` and data efficiencies, as text and as a plot; the files."""
    from sweep.results.efficiency_plot import draw_figures
    from sweep.results.efficiency_report import efficiency_text, figures_of

    parts, written = [report.result(view, folder)], [into / "report.md"]
    with suppress(SweepError):  # it has no baseline to measure against
        figures = figures_of(view)
        parts.append(efficiency_text(figures))
        draw_figures(figures, into / "data_efficiency.svg")
        written.append(into / "data_efficiency.svg")
    blocks = "\n\n".join(map(markdown_block, parts))
    written[0].write_text(f"# Sweep {markdown_text(view.header['name'])}\n\n{blocks}\n")
    return written
