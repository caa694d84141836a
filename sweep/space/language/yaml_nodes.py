"""YAML as nodes, which know their lines, and the problems found in them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from model.config import ConfigError, Setting, Value, suggestion
from sweep.space.constraint import OTHER_TIMES, SECONDS

LONGEST = 1 << 20  # characters of a file
MOST_NODES = 100_000  # of a document, each alias counted as what it stands for
NAME = re.compile(r"[a-z]+\.[a-z_\d]+")  # of a setting, in a sentence


class Problems:
    """Everything wrong with one file, collected instead of raised, so that all is told at once."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, str]] = []
        # The line at which each setting first got a value; 0 where the command line gave it.
        self.place: dict[str, int] = {}

    def add(self, line: int, where: str, what: str) -> None:
        """Note a problem in `line`; 0 where none is to blame."""
        place = f"line {line}: " if line else ""
        self._lines.append((line, f"{place}{where}: {what}"))

    def add_of_settings(self, text: str) -> None:
        """Note `setting: what`, in the line of the setting, else of the first that is named."""
        named = (name for name in NAME.findall(text) if name in self.place)
        self.add(self.place.get(next(named, ""), 0), *text.split(": ", 1))

    def __len__(self) -> int:
        return len(self._lines)

    def lines(self) -> list[str]:
        """Them all, by line, each once."""
        return list(
            dict.fromkeys(text for _, text in sorted(self._lines, key=lambda line: line[0]))
        )


def compose(text: str, problems: Problems) -> yaml.Node | None:
    """The root of the document `text`; None, with a problem noted, if it is no YAML."""
    try:
        root = compose_bounded(text)
        if root is None:
            problems.add(0, "the file", "expected `key: value` lines")
        else:
            plain(root)  # what cannot be constructed is told here; merge keys are resolved
        return root
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        problems.add(line, "YAML", str(error.problem or error.context))
    except (yaml.YAMLError, ValueError, LookupError, TypeError, AttributeError) as error:
        problems.add(0, "YAML", (str(error).splitlines() or ["cannot be read"])[0])
    except RecursionError:
        problems.add(0, "YAML", "is nested too deeply")
    return None


def compose_bounded(text: str) -> yaml.Node | None:
    """The root of the document `text`. Raises yaml.YAMLError for what is none, or too large.

    Aliases of aliases stand for more than any memory has (a billion laughs), and one may stand for
    itself: what they come to is counted first.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"is longer than {LONGEST:,} characters")
    root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    if root is not None and _nodes(root, {}) > MOST_NODES:
        raise yaml.YAMLError(
            f"has more than {MOST_NODES:,} values, those that aliases stand for counted"
        )
    return root


def _nodes(node: yaml.Node, counted: dict[int, float]) -> float:
    """How many nodes there are once each alias is what it stands for."""
    if id(node) not in counted:
        counted[id(node)] = math.inf  # while it is being counted: who meets it again is inside it
        inside = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inside for part in (item if isinstance(item, tuple) else (item,))]
        counted[id(node)] = 1 + sum(_nodes(part, counted) for part in parts)
    return counted[id(node)]


def read_plain(text: str) -> Any:
    """What the document `text` says, as Python's own types. Raises yaml.YAMLError or ValueError."""
    try:
        root = compose_bounded(text)
        return None if root is None else plain(root)
    except RecursionError:
        raise yaml.YAMLError("is nested too deeply") from None


def plain(node: yaml.Node) -> Any:
    """What `node` stands for, as Python's own types."""
    return yaml.constructor.SafeConstructor().construct_object(node, deep=True)


def line_of(node: yaml.Node) -> int:
    """Where `node` begins, from 1."""
    return int(node.start_mark.line) + 1


def entries(node: yaml.Node, where: str, problems: Problems) -> Iterator[tuple[str, int, Any]]:
    """(key, line, value node) of a mapping; anything else is a problem and yields nothing."""
    if not isinstance(node, yaml.MappingNode):
        problems.add(line_of(node), where, "expected `key: value` lines")
        return
    seen = set()
    for key_node, value_node in node.value:
        line, key = line_of(key_node), str(plain(key_node))
        if key in seen:
            problems.add(line, key, "is given twice; keep one")
        else:
            seen.add(key)
            yield key, line, value_node


def no_such(name: str, settings: Mapping[str, Setting]) -> str:
    """That there is no setting of this name, and what was probably meant."""
    if name.rpartition(".")[2] in (*OTHER_TIMES, "seconds"):
        return f"no such setting; time is limited by `constraints: [{SECONDS} <= 2h]`"
    return f"no such setting{suggestion(name, settings)}"


def checked(
    settings: Mapping[str, Setting], name: str, line: int, value: object, problems: Problems
) -> Value | None:
    """`value` as setting `name` takes it; None, with a problem noted, if it does not."""
    if name not in settings:
        problems.add(line, name, no_such(name, settings))
        return None
    problems.place.setdefault(name, line)
    try:
        return settings[name].check(value)
    except ConfigError as error:
        problems.add(line, name, str(error))
        return None


def as_text(value: Value) -> Value:
    """A list as `--set` takes it: the study, the journal and the command line all keep text."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else value
