"""The report as a file: whole, self-contained, and sound whatever a search came to."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from run_folders import Ended, write_run

from sweep.cli.main import cli
from sweep.folder import ENVIRONMENT, EXTERNAL, JOURNAL
from sweep.journal import read_view
from sweep.report import markdown, page, reading_of
from sweep.report.reading import Reading
from sweep.search.surface import seen_in

SPACE = """
name: shown
search:
  optim.name: [adamw, muon]
  optim.lr:
    - {when: {optim.name: adamw}, min: 1e-3, max: 1e-2, log: true}
    - {when: {optim.name: muon}, min: 1e-2, max: 1e-1, log: true}
  train.epochs: [1, 2, 4]
  gpt.dropout: {min: 0, max: 0.3}
budget: {trials: 12}
baseline: {multiples: [1, 2]}
"""
NAMES = ("adamw", "muon")
VOID = {"meta"}


def trials(count: int) -> list[Ended]:
    """Better with more epochs and with Muon; every seventh pruned."""
    made = []
    every = itertools.cycle(itertools.product((1, 2, 4), NAMES, (0.2, 0.5, 0.8)))
    for number, (epochs, name, share) in zip(range(count), every, strict=False):
        low = 1e-2 if name == "muon" else 1e-3
        drop = 0.3 * (number * 0.618 % 1)
        loss = 3 - 0.3 * math.log2(epochs) - 0.1 * (name == "muon") + (share - 0.5) ** 2 + drop / 9
        searched = {
            "optim.name": name,
            "optim.lr": low * 10**share,
            "train.epochs": epochs,
            "gpt.dropout": drop,
        }
        ending = "behind its peers" if number % 7 == 6 else "finished"
        made.append(Ended(searched, loss, ending, "behind" * (number % 7 == 6)))
    return made


def read(folder: Path) -> Reading:
    return reading_of(folder, read_view(folder / "journal.jsonl"))


class Tags(HTMLParser):
    """Every tag that is opened is closed, in order; which addresses are named."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.marks: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [tag] if tag not in VOID else []
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        self.marks |= {value or "" for name, value in attrs if name == "data-t"}

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.marks |= {value or "" for name, value in attrs if name == "data-t"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> Tags:
    """The tags of a page in which everything is in its place."""
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert tags.addresses == []
    assert not re.search(r"\bd=\"[^\"]*(nan|inf)|(nan|inf)\)", text)
    return tags


def test_the_page_is_one_whole_file_that_names_no_other(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(20), {65_536: 3.1, 131_072: 2.6})

    text = page(read(folder))

    assert checked(text).marks == {f"{number:04d}" for number in range(20)}
    assert "http" not in text
    assert "sweep run shown.yaml --name shown-again" in text
    for title in ("Best loss so far", "Data efficiency so far", "Loss by compute", "The best"):
        assert title in text


def test_a_page_of_200_trials_is_small(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(200), {65_536: 3.1, 131_072: 2.6})

    text = page(read(folder))

    checked(text)
    assert len(text) < 1_000_000


def test_one_trial_is_enough_for_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(1))

    reading = read(folder)

    checked(page(reading))
    assert reading.slices == []
    assert "No other recipe has finished" in " ".join(s.text for s in reading.answer)


def test_what_diverged_failed_or_was_never_evaluated_is_shown_with_its_reason(
    tmp_path: Path,
) -> None:
    lost = [
        Ended({"train.epochs": 4}, math.nan, "diverged", "diverged at step 7"),
        Ended({"train.epochs": 1}, 3.0, "failed", "Traceback\nValueError: <b>bad</b> & worse"),
    ]
    text = "name: kinds\nsearch: {train.epochs: [1, 2, 4]}\n"
    folder = write_run(tmp_path / "kinds", text, [*lost, Ended({"train.epochs": 2}, 2.9)])

    shown = page(read(folder))

    checked(shown)
    assert "1 diverged, 1 failed" in shown
    assert "diverged at step 7" in shown
    assert "ValueError: &lt;b&gt;bad&lt;/b&gt; &amp; worse" in shown


def test_a_space_of_kinds_alone_has_its_panels(tmp_path: Path) -> None:
    text = "search: {optim.name: [adamw, muon, lion], gpt.mlp: [gelu, swiglu]}\nname: kinds\n"
    every = itertools.product(("adamw", "muon", "lion"), ("gelu", "swiglu"))
    made = [
        Ended({"optim.name": name, "gpt.mlp": mlp}, 3 - 0.1 * (name == "muon") - number / 100)
        for number, (name, mlp) in enumerate(every)
    ]

    reading = read(write_run(tmp_path / "kinds", text, made))

    checked(page(reading))
    assert [cut.hp.setting for cut in reading.slices] == ["optim.name", "gpt.mlp"]


def test_a_best_that_the_space_would_not_train_has_shares_and_no_panels_of_the_surface(
    tmp_path: Path,
) -> None:
    """Constraints may be tightened, and points asked for by hand need not keep to them."""
    text = "name: tight\nsearch: {train.epochs: [1, 2, 4]}\nconstraints: [train.tokens <= 200k]\n"
    made = [Ended({"train.epochs": n}, 3.0 - n / 10) for n in (1, 2, 1, 2, 4)]
    folder = write_run(tmp_path / "tight", text, made)

    reading = read(folder)

    checked(page(reading))
    assert reading.importances
    assert reading.slices == []


def test_a_folder_whose_space_is_lost_still_has_a_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(12))
    (folder / "resolved.yaml").unlink()

    shown = page(read(folder))

    checked(shown)
    assert "edges are not known" in shown


def test_the_command_writes_the_file_and_says_where(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(3))

    done = CliRunner().invoke(cli, ["report", str(folder)])
    other = CliRunner().invoke(cli, ["report", str(folder), "--output", str(tmp_path / "a.html")])
    wrong = CliRunner().invoke(cli, ["report", str(folder), "--output", str(tmp_path / "b" / "a")])

    assert done.exit_code == other.exit_code == 0, done.output
    assert done.stderr == f"wrote {folder / 'report.html'}\n"
    assert (tmp_path / "a.html").read_text() == (folder / "report.html").read_text()
    assert str(wrong.exception).startswith(f"cannot write {tmp_path / 'b' / 'a'}: ")


def test_data_for_programs_says_the_same_as_the_page(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(12))

    done = CliRunner().invoke(cli, ["report", str(folder), "--json"])

    told = json.loads(done.stdout)
    assert told["best"] == read_view(folder / "journal.jsonl").ranked()[0].name
    assert told["answer"].keys() >= {"Winner", "How sure", "Edges", "Settled", "Next"}
    assert told["importance"].keys() == told["known_to"].keys()
    assert told["next"]["command"].startswith("sweep run shown-next.yaml")


def test_markdown_is_a_table_with_the_answer_above_it(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "shown", SPACE, trials(20))

    done = CliRunner().invoke(cli, ["report", str(folder), "--markdown"])

    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("### Sweep shown\n\n- **Winner.** Trial ")
    assert "widen train.epochs above 4 (to 8)" in done.stdout
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {12, 6}
    assert done.stdout == markdown(read(folder))


def test_a_run_without_a_finished_trial_is_refused_in_one_message(tmp_path: Path) -> None:
    begun = [Ended({"train.epochs": 1}, 3.0, "diverged", "diverged at step 1")]
    text = "name: none\nsearch: {train.epochs: [1, 2]}\n"
    folder = write_run(tmp_path / "none", text, begun)

    done = CliRunner().invoke(cli, ["report", str(folder)])

    assert str(done.exception) == (
        "none has no complete trial yet, so there is nothing to report\n"
        f"How it stands: sweep status {folder}"
    )
    assert done.exception.code == 2  # type: ignore[union-attr]
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize("words", [["nowhere"], ["--runs", "nowhere"]])
def test_no_such_run_is_refused_in_one_message(words: list[str]) -> None:
    done = CliRunner().invoke(cli, ["report", *words])

    assert "nowhere" in str(done.exception)
    assert done.exception.code == 2  # type: ignore[union-attr]


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(1)>![x](http://evil) ```\n<b>"


def test_nothing_that_a_run_says_is_html_or_markdown_of_the_report(tmp_path: Path) -> None:
    """Names, settings, errors, imported runs and provenance come from files of others too."""
    made = [replace(its, searched={**its.searched, "data.path": HOSTILE}) for its in trials(20)]
    made += [replace(made[0], ending="failed", reason=f"Traceback\n{HOSTILE}", loss=math.nan)]
    folder = write_run(tmp_path / "run", SPACE, made, {1000: 4.0, 2000: 3.5})
    lines = (folder / JOURNAL).read_text().splitlines()
    text = {"source": HOSTILE, "smallest": 1000, "largest": 1000, "there": 2000}
    header = json.loads(lines[0]) | {"name": HOSTILE, "data": HOSTILE, "text": text}
    (folder / JOURNAL).write_text("\n".join([json.dumps(header), *lines[1:]]) + "\n")
    run = {
        "name": HOSTILE,
        "val_loss": 3,
        "params": {HOSTILE: HOSTILE},
        "curve": [],
        "source": HOSTILE,
    }
    (folder / EXTERNAL).write_text(json.dumps(run) + "\n")
    (folder / ENVIRONMENT).write_text(json.dumps({"commit": HOSTILE, "packages": {"p": HOSTILE}}))
    reading = read(folder)

    shown = page(reading)
    assert HOSTILE.partition("\n")[0] in unescape(shown)
    for raw in ("<script>alert", "<img"):
        assert raw not in shown
    said = re.sub(r"^(`{3,}).*?^\1$", "", markdown(reading), flags=re.MULTILINE | re.DOTALL)
    for raw in ("<script", "<img", "<b>", "!["):
        assert raw not in said


def test_a_page_of_many_trials_shows_some_of_them_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = read(write_run(tmp_path / "many", SPACE, trials(80)))
    every = page(reading)
    assert "Charts and tables show" not in every
    monkeypatch.setattr("sweep.report.facts.SHOWN", 20)
    reading = Reading(**{**vars(reading), "facts": replace(reading.facts)})  # nothing worked out
    facts, shown = reading.facts, page(reading)
    tags = Tags()
    tags.feed(shown)
    assert len(tags.marks - {""}) == len(facts.shown) == 20
    assert {trial.name for trial in facts.complete[:10]} <= tags.marks
    assert "Charts and tables show 20 of 80 trials" in shown
    assert f"80 trials, {len(facts.complete)} complete" in shown
    assert len(shown) < 0.6 * len(every)


def test_a_surface_forecasts_some_of_many_trials_that_were_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = read(write_run(tmp_path / "stopped", SPACE, trials(80))).facts
    assert facts.space is not None
    forecasts = [its for its in seen_in(facts.space, facts.view) if its.error]
    assert len(forecasts) == 11  # every stopped one
    monkeypatch.setattr("sweep.search.forecast.FORESEEN", 5)
    some = [its for its in seen_in(facts.space, facts.view) if its.error]
    assert len(some) == 5
    assert all(its in forecasts for its in some)
