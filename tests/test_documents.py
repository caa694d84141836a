"""What the documents say of the house and of its commands is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweep.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "AGENTS.md", "benchmarks/README.md", *PAGES)


def test_the_map_names_every_room() -> None:
    rooms = re.findall(r"^\| `([a-z/]+)/` \|", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)

    packages = [path.parent for name in ("model", "sweep") for path in (ROOT / name).rglob("*.py")]
    assert set(rooms) == {str(package.relative_to(ROOT)) for package in packages}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_and_folders_that_a_document_names_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"\b((?:sweep|model|tests|benchmarks|search_spaces)/[\w./-]*[\w/])", text)

    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_within_the_project_lead_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)", path.read_text())

    for file, heading in links:
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), file
        if heading:
            titles = re.findall(r"^#+ (.*)$", target.read_text().lower(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title).replace(" ", "-") for title in titles}


def test_the_readme_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text()

    assert [page for page in PAGES if f"({page})" not in readme] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_and_options_that_a_document_names_exist(document: str) -> None:
    text = (ROOT / document).read_text()

    for command in re.finditer(r"(?:^    |^|`|bin/)sweep ([a-z]+)([^`#\n]*)", text, re.MULTILINE):
        verb, arguments = command.groups()
        assert verb in cli.commands, command[0]
        help_text = CliRunner().invoke(cli, [verb, *_subcommand(verb, arguments), "--help"]).output
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in help_text, command[0]


def _subcommand(verb: str, arguments: str) -> list[str]:
    words = arguments.split()
    return words[:1] if words and words[0] in getattr(cli.commands[verb], "commands", {}) else []
