"""The rooms of the house: which may look into which, and the one room of each heavy library."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Each room and those it imports from. "model" and "sweep" are the nouns that have no room.
ROOMS = {
    "model": "",
    "model.config": "",
    "model.config.presets": "model.config",
    "model.data": "model model.config",
    "model.network": "model.config",
    "model.optim": "model.config model.network",
    "model.pretrained": "model model.config model.data model.network",
    "model.training": "model model.config model.data model.network model.optim model.pretrained",
    "model.trained": "model model.config model.data model.network model.optim model.training",
    "sweep": "model model.config",
    "sweep.space": "model model.config model.config.presets model.data model.training sweep",
    "sweep.space.language": "model model.config model.config.presets model.pretrained sweep "
    "sweep.space",
    "sweep.search": "model.config model.config.presets sweep sweep.space",
    "sweep.results": "model model.config sweep sweep.space sweep.space.language",
    "sweep.models": "model model.config model.pretrained model.training sweep sweep.results",
    "sweep.predictions": "model model.config model.data model.training sweep sweep.models "
    "sweep.results",
    "sweep.page": "model model.config model.trained model.training sweep sweep.models "
    "sweep.results",
    "sweep.session": "model model.config model.config.presets sweep sweep.results sweep.search "
    "sweep.space",
    "sweep.shrinking": "model model.config model.data model.trained model.training sweep",
    "sweep.report": "model.config sweep sweep.results sweep.search sweep.space "
    "sweep.space.language",
    "sweep.tracking": "model model.config model.trained model.training sweep sweep.report "
    "sweep.results",
    "sweep.run": "model model.config model.data model.pretrained model.training sweep "
    "sweep.results sweep.session sweep.space sweep.space.language sweep.tracking",
    "sweep.doctor": "model model.config model.training sweep sweep.session sweep.space.language",
    "sweep.replay": "model model.config sweep sweep.session sweep.space",
    "sweep.notebook": "model model.config model.trained model.training sweep sweep.results "
    "sweep.search sweep.space sweep.space.language",
    "sweep.cli": "model model.config model.config.presets model.data model.optim model.pretrained "
    "model.trained model.training sweep sweep.doctor sweep.models sweep.page sweep.predictions "
    "sweep.replay sweep.report "
    "sweep.results sweep.run sweep.shrinking sweep.space sweep.space.language sweep.tracking",
}
DOORS = {
    "ray": "sweep.run",
    "optuna": "sweep.session",
    "mlflow": "sweep.tracking",
    "click": "sweep.cli",
    "matplotlib": "sweep.notebook sweep.results sweep.shrinking",
    "pandas": "sweep.notebook sweep.tracking",
    "rich": "sweep.run",
    "yaml": "sweep.space.language sweep.run sweep.cli",
    "torch": "model.data model.network model.optim model.pretrained model.trained model.training",
    "tiktoken": "model.data",
    "gradio": "sweep.page",
    "safetensors": "model model.pretrained model.training",
    "filelock": "model",
}


def room_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).parent.parts)


@cache
def imports(path: Path) -> set[str]:
    """The dotted names that a file imports, at its top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def owner(name: str) -> str:
    """The room that a dotted name is in; of a library, the library."""
    parts = name.split(".")
    above = [".".join(parts[:depth]) for depth in range(len(parts), 0, -1)]
    return next((room for room in above if room in ROOMS), parts[0])


def imported_rooms(path: Path) -> set[str]:
    return {owner(name) for name in imports(path)}


def face(room: str) -> set[str]:
    """What a room's `__init__` exports: names, and modules where importing them all is slow."""
    tree = ast.parse((ROOT / room.replace(".", "/") / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


FILES = [path for package in ("model", "sweep") for path in (ROOT / package).rglob("*.py")]
IMPORTED = {room: set[str]() for room in ROOMS}
AT_THE_TOP = {ROOT / "sweep" / "__init__.py"}  # what `import sweep` gives, of rooms above its own
for file in FILES:
    # A program is no noun: it may stand at the top of its room.
    if file.name != "__main__.py" and file not in AT_THE_TOP:
        IMPORTED[room_of(file)] |= imported_rooms(file) - {room_of(file)}


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_from_the_rooms_it_may_and_from_each_of_them(room: str) -> None:
    assert IMPORTED[room] & set(ROOMS) == set(ROOMS[room].split())


def test_no_circle_of_rooms() -> None:
    tuple(
        TopologicalSorter({room: others.split() for room, others in ROOMS.items()}).static_order()
    )


@pytest.mark.parametrize("room", [room for room in ROOMS if "." in room and face(room)])
def test_a_room_exports_what_other_rooms_use_and_nothing_else(room: str) -> None:
    used = {
        name.removeprefix(f"{room}.").partition(".")[0]
        for file in FILES
        if room_of(file) != room
        for name in imports(file)
        if owner(name) == room
    }

    assert used == face(room)


@pytest.mark.parametrize("library", DOORS)
def test_heavy_libraries_are_imported_where_they_belong(library: str) -> None:
    users = {room_of(file) for file in FILES if library in imported_rooms(file)}

    assert users == set(DOORS[library].split())


# What looks at the text opens its table, if there is one.
TABLES = {"numpy", "pyarrow", "tiktoken"}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["check", "search_spaces/quickstart.yaml"], TABLES),
        (["plan", "search_spaces/quickstart.yaml", "--rate", "1T"], TABLES),
        (["schema"], set()),
    ],
)
def test_help_and_check_import_nothing_slow(arguments: list[str], allowed: set[str]) -> None:
    code = (
        "import sys\n"
        "from sweep.cli.main import cli\n"
        f"cli({arguments}, standalone_mode=False)\n"
        "slow = {'torch', 'ray', 'mlflow', 'optuna', 'pyarrow', 'numpy', 'rich', 'tiktoken',\n"
        f"        'matplotlib'}} - {allowed or 'set()'}\n"
        "sys.exit(repr(slow & set(sys.modules)) if slow & set(sys.modules) else 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.name)
def test_benchmarks_import_names_that_are_there(path: Path) -> None:
    missing = set()
    for name in imports(path):
        module, _, attribute = name.rpartition(".")
        if owner(name) in ROOMS and module:
            beside = ROOT / module.replace(".", "/")
            files = [beside.with_suffix(".py"), beside / "__init__.py"]
            defined = [_defined(file) for file in files if file.exists()]
            is_module = (beside / f"{attribute}.py").exists() or (beside / attribute).is_dir()
            if not is_module and not any(attribute in names for names in defined):
                missing.add(name)

    assert not missing


def _defined(path: Path) -> set[str]:
    """Names that a module binds at its top."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names |= {alias.asname or alias.name for alias in node.names}
        else:
            names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return names
