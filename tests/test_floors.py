"""The floors of the house: each imports only downward, and each heavy library has one door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = [
    {"model.number", "model.progress", "model.files"},
    {"model.setting"},
    {"model.foreign"},
    {"model.data_config", "model.gpt_config", "model.optim_config", "model.train_config"},
    {"model.size"},
    {"model.config"},
    {"model.remote", "model.tokenizer", "model.bpe", "model.fineweb"},
    {"model.corpus", "model.overlap", "model.imports", "model.split"},
    {"model.spool"},
    {"model.encode", "model.table"},
    {"model.ingest", "model.order"},
    {"model.adopt"},
    {"model.prepare"},
    {"model.schedule", "model.memory"},
    {"model.footprint"},
    {"model.slowrun", "model.nanogpt", "model.kim"},
    {"model.presets"},
    {"model.norm", "model.device", "model.optim_state"},
    {"model.data", "model.attention", "model.muon", "model.loss"},
    {"model.block"},
    {"model.gpt"},
    {"model.optim", "model.checkpoint", "model.evaluate", "model.predictions"},
    {"model.average", "model.outline", "model.reference", "model.calibrate"},
    {"model.train", "model.saved"},
    {"model.sample", "model.sealed"},
    {"sweep.errors", "sweep.interrupt", "sweep.publisher", "sweep.usage"},
    {"sweep.text_model", "sweep.tracking_cursor"},
    {"sweep.external_rows", "sweep.driver_lock", "sweep.storage"},
    {"sweep.external_reader"},
    {"sweep.ray_cluster"},
    {"sweep.features", "sweep.surface", "sweep.forecast"},
    {
        "sweep.axis",
        "sweep.sections",
        "sweep.cost",
        "sweep.efficiency",
        "sweep.reference_cache",
        "sweep.format",
        "sweep.confirm",
    },
    {"sweep.constraint", "sweep.draw", "sweep.cube"},
    {"sweep.space", "sweep.training", "sweep.reference_table", "sweep.laws"},
    {"sweep.records", "sweep.intervals"},
    {"sweep.grid", "sweep.prior"},
    {"sweep.proposals"},
    {"sweep.coordinate"},
    {"sweep.baseline_points", "sweep.parameters"},
    {"sweep.nodes", "sweep.budget", "sweep.continued", "sweep.rounds", "sweep.starter"},
    {"sweep.distribution", "sweep.points", "sweep.wandb_keys", "sweep.cross_checks"},
    {"sweep.leaves", "sweep.section_lists"},
    {"sweep.space_reader"},
    {"sweep.schema", "sweep.speed"},
    {"sweep.plan"},
    {"sweep.journal", "sweep.prune", "sweep.enqueue", "sweep.allowance", "sweep.ranking"},
    {"sweep.identity", "sweep.widen", "sweep.confirm_report", "sweep.samplers"},
    {"sweep.study", "sweep.curves", "sweep.report", "sweep.data_report", "sweep.data_bar"},
    {"sweep.efficiency_report", "sweep.external"},
    {"sweep.efficiency_plot", "sweep.tracking_external"},
    {"sweep.agenda", "sweep.baseline"},
    {"sweep.tracking_metrics", "sweep.tracking_runs", "sweep.tracking_artifacts"},
    {"sweep.tracking_view"},
    {"sweep.tracking_sweep"},
    {"sweep.run_folder", "sweep.session", "sweep.console", "sweep.tracking", "sweep.bank"},
    {"sweep.local_runner", "sweep.replay"},
    {"sweep.replay_summary"},
    {"sweep.ray_runner"},
    {"sweep.run"},
    {"sweep.confirm_run"},
    {"sweep.plan_report"},
    {"sweep.options"},
    {
        "sweep.replay_cli",
        "sweep.data_cli",
        "sweep.efficiency_cli",
        "sweep.import_cli",
        "sweep.language_cli",
        "sweep.train_cli",
    },
    {"sweep.confirm_cli"},
    {"sweep.publish_cli"},
    {"sweep.cli"},
    {"sweep.__main__"},
]
FLOOR = {name: height for height, names in enumerate(FLOORS) for name in names}
DOORS = {
    "ray": {"sweep.ray_cluster", "sweep.ray_runner"},
    "optuna": {
        "sweep.enqueue",
        "sweep.parameters",
        "sweep.prune",
        "sweep.samplers",
        "sweep.storage",
        "sweep.study",
        "sweep.widen",
    },
    "mlflow": {
        "sweep.text_model",
        "sweep.tracking",
        "sweep.tracking_artifacts",
        "sweep.tracking_external",
        "sweep.tracking_metrics",
        "sweep.tracking_runs",
        "sweep.tracking_sweep",
    },
    "click": {
        "sweep.cli",
        "sweep.confirm_cli",
        "sweep.data_cli",
        "sweep.data_bar",
        "sweep.efficiency_cli",
        "sweep.import_cli",
        "sweep.language_cli",
        "sweep.options",
        "sweep.publish_cli",
        "sweep.replay_cli",
        "sweep.train_cli",
    },
    "matplotlib": {"sweep.efficiency_plot"},
    "rich": {"sweep.console"},
    "yaml": {
        "sweep.nodes",
        "sweep.leaves",
        "sweep.points",
        "sweep.wandb_keys",
        "sweep.space_reader",
        "sweep.identity",
        "sweep.data_report",
    },
}


def imports(path: Path) -> set[str]:
    """Every module that `path` imports, at the top or inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


MODULES = {
    f"{package}.{path.stem}": path
    for package in ("model", "sweep")
    for path in (ROOT / package).glob("*.py")
    if path.stem != "__init__"
}


def test_every_module_has_a_floor() -> None:
    assert set(FLOOR) == set(MODULES)


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_downward(name: str) -> None:
    above = {other for other in imports(MODULES[name]) & set(FLOOR) if FLOOR[other] >= FLOOR[name]}

    assert not above


@pytest.mark.parametrize("name", sorted(MODULES))
def test_heavy_libraries_are_imported_where_they_belong(name: str) -> None:
    used = {module.partition(".")[0] for module in imports(MODULES[name])}

    assert not {library for library in used & set(DOORS) if name not in DOORS[library]}
    assert "torch" not in used or name.startswith("model.")
    assert not (name.startswith("model.") and "sweep" in used)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["check", "search_spaces/quickstart.yaml"],
        ["plan", "search_spaces/quickstart.yaml", "--rate", "1T"],
        ["schema"],
    ],
)
def test_help_and_check_import_nothing_slow(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from sweep.cli import cli\n"
        f"cli({arguments}, standalone_mode=False)\n"
        "slow = {'torch', 'ray', 'mlflow', 'optuna', 'pyarrow', 'numpy', 'rich', 'tiktoken',\n"
        "        'matplotlib'}\n"
        "sys.exit(repr(slow & set(sys.modules)) if slow & set(sys.modules) else 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
