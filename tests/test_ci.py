"""What CI answers, asked with tools that only give an exit code."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci/run"
TOOL = """#!/bin/sh
echo $(basename $0) ran ${{PYTHONDONTWRITEBYTECODE:+and compiles in each process}}
exit {code}
"""


def repository(folder: Path, exits: dict[str, int]) -> Path:
    """A checkout whose README installs one-line tools, each with its exit code."""
    tools = folder / "tools"
    tools.mkdir(parents=True)
    for name in ("python", "pip", "pytest", "ruff", "mypy"):
        (tools / name).write_text(TOOL.format(code=exits.get(name, 0)))
        (tools / name).chmod(0o755)
    install = "mkdir .venv && cp -r tools .venv/bin"
    (folder / "README.md").write_text(f"```sh\ntrue\n{install} && .venv/bin/pytest\n```\n")
    (folder / ".ci").mkdir()
    shutil.copy(SCRIPT, folder / ".ci/run")
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize(
    ("exits", "passes"),
    [({}, True), ({"pytest": 1}, False), ({"ruff": 1}, False), ({"mypy": 1}, False)],
    ids=["everything passes", "a test fails", "ruff objects", "mypy objects"],
)
def test_ci_fails_when_tests_or_lint_fail_and_only_then(tmp_path, monkeypatch, exits, passes):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    script = repository(tmp_path / "checkout", exits) / ".ci/run"
    ended = subprocess.run(["bash", script], capture_output=True, text=True, check=False)
    assert (ended.returncode == 0) == passes, ended.stdout + ended.stderr
    assert "pytest ran" in ended.stdout
    assert "compiles in each process" not in ended.stdout
    assert not list(scratch.iterdir()), "the copy CI made was left behind"
