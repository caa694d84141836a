"""docs/json.md says what `--json` prints."""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweep.cli.main import cli
from sweep.cli.options import print_json
from sweep.results import confirmation_report, laws_report

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "json.md").read_text()
pytestmark = pytest.mark.xdist_group("trained runs")  # they take seconds to train


def documented(verb: str) -> set[str]:
    """The keys in the table of a command; those that may be left out keep their question mark."""
    section = re.search(rf"^## sweep {verb}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    return set(re.findall(r"^\| `([^`]+)` \|", section[1], re.MULTILINE))


def printed(value: Any, known: set[str], at: str = "") -> Iterator[str]:
    """The keys in `value`; of what is documented as a whole, none that are within it."""
    if at in known or f"{at}?" in known:
        yield at
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from printed(item, known, f"{at}.{key}" if at else key)
    elif isinstance(value, list):
        yield from (key for item in value for key in printed(item, known, f"{at}[]"))
        if not value:  # it may be anything that is documented of its items
            yield from (key for key in known if key.startswith(f"{at}[]"))
    else:
        yield at


def differences(verb: str, value: Any, also: set[str] = frozenset()) -> tuple[set[str], set[str]]:  # type: ignore[assignment]
    """Keys that are printed and not documented, and the reverse."""
    known = documented(verb) | also
    keys = {key.removesuffix("?") for key in printed(value, known)}
    all_, always = {k.removesuffix("?") for k in known}, {k for k in known if k[-1] != "?"}
    return keys - all_, always - keys


def output(*words: object) -> Any:
    done = CliRunner().invoke(cli, [*map(str, words), "--json"])
    assert done.exit_code in (0, 6), done.exception or done.output

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(done.stdout, parse_constant=refuse)


@pytest.mark.parametrize(
    "words",
    [
        ["status", "RUN"],
        ["list", "--runs", "RUNS"],
        ["doctor", "RUN"],
        ["reproduce", "RUN"],
        ["plan", "RUN/space.yaml"],
        ["efficiency", "RUN"],
        ["compare", "RUN/trials/0000", "RUN/trials/0001"],
        ["sample", "RUN", "--tokens", "2"],
        ["ensemble", "RUN"],
    ],
    ids=lambda words: words[0],
)
def test_the_page_has_the_keys_that_a_command_prints(words: list[str], trained_runs: Path) -> None:
    places = {"RUNS": str(trained_runs), "RUN": str(trained_runs / "quickstart")}
    for name, place in places.items():
        words = [re.sub(rf"\b{name}\b", place, word) for word in words]

    assert differences(words[0], output(*words)) == (set(), set())


def test_the_best_trial_is_printed_as_one_of_the_trials(trained_runs: Path) -> None:
    of_trial = {
        key.removeprefix("trials[].") for key in documented("status") if key.startswith("trials[].")
    }

    best = output("best", trained_runs / "quickstart")

    assert differences("best", best, of_trial) == (set(), set())


def test_what_is_asked_and_told_is_on_the_page(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("name: mine\nsearch: {train.epochs: [1, 2]}\nbudget: {trials: 1}\n")

    asked = output("ask", space, "--runs", tmp_path)
    told = output("tell", tmp_path / "mine", 0, "--loss", "3", "--at", "0.5")
    none = output("ask", space, "--runs", tmp_path)

    assert differences("ask", asked) == differences("ask", none) == (set(), set())
    assert differences("tell", told) == (set(), set())


def keys_in(function: Callable[..., Any]) -> set[str]:
    """The keys that a function writes down line by line."""
    return set(re.findall(r'^ +"(\w+)":', inspect.getsource(function), re.MULTILINE))


def test_keys_of_what_takes_long_are_on_the_page() -> None:
    """Read off the source: a confirmation takes longer than all of these tests."""
    each = {f"finalists[].{key}" for key in keys_in(confirmation_report._finalist_data)}

    whole = keys_in(confirmation_report.confirmation_data)

    assert (whole - {"finalists"}) | each == documented("confirm")
    assert documented("laws") <= keys_in(laws_report.laws_data)


def test_numbers_that_are_not_finite_are_printed_as_null(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_json({"a": math.nan, "b": [1.5, -math.inf], "c": {"d": (math.inf,)}})

    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1.5, None], "c": {"d": [None]}}
