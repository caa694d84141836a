"""Which files of a package some of its modules import, at any depth; nothing is imported for it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path


def imported_files(home: Path, modules: Iterable[Sequence[str]]) -> list[Path]:
    """The modules, those of their package that they import, and the packages that these are in.

    home     the folder of the package, whose name is that of the package
    modules  the names of each below it, as ("training", "train")
    """
    files: set[Path] = set()
    left = {file for parts in modules for file in _files(home, parts)}
    while left:
        path = left.pop()
        files.add(path)
        left |= _imported(path, home) - files
    return sorted(files)


def _imported(path: Path, home: Path) -> set[Path]:
    """The files below `home` that the module at `path` may import."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files: set[Path] = set()
    for name in names:
        package, *parts = name.split(".")
        if package == home.name:
            files |= _files(home, parts)
    return files


def _files(home: Path, parts: Sequence[str]) -> set[Path]:
    """The module `parts` below `home`, if it is one, and packages that Python imports before it."""
    module = home.joinpath(*parts).with_suffix(".py")
    folders = [home.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    packages = {init for folder in folders if (init := folder / "__init__.py").exists()}
    return packages | ({module} if parts and module.exists() else set())
