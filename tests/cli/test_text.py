"""Which text is read and how much of it, said before, while and after it is read."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from fakes import SPACE, fake_train
from sweeps import finished, make_space, session_in

from sweep.cli.main import cli
from sweep.results import report
from sweep.session.storage import open_storage
from sweep.space.corpus import Corpus, corpus

SMALL = """
name: book
search: {train.epochs: [1, 2]}
fixed: {data.val_tokens: 1025, data.test_tokens: 0, gpt.context: 32, train.batch_tokens: 256}
budget: {trials: 1}
"""


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture
def space_file(tmp_path: Path, corpus: Path) -> Path:
    make_space(tmp_path, SMALL, f"data.path={corpus}", "data.train_tokens=2049")
    path = tmp_path / "space.yaml"
    fixed = yaml.safe_load(SMALL)["fixed"] | {"data.path": str(corpus), "data.train_tokens": 4096}
    path.write_text(SMALL.replace("budget", f"# {fixed}\nbudget"))
    path.write_text(yaml.safe_dump({**yaml.safe_load(SMALL), "fixed": fixed}))
    return path


def prepared(corpus: Path) -> int:
    """Prepare it; the training tokens there are."""
    words = ["--val-tokens", 1025, "--test-tokens", 0, "--json"]
    done = invoke("data", "prepare", corpus, *words)
    tokens: int = json.loads(done.stdout)["tokens"]["train"]
    return tokens


def test_check_and_plan_say_which_text_and_how_much_of_it(space_file: Path, corpus: Path) -> None:
    before = invoke("check", space_file).stdout
    there = prepared(corpus)
    after, plan = invoke("check", space_file).stdout, invoke("plan", space_file).stdout

    share = f"{100 * 4096 / there:.1f}"
    assert f"text: {corpus}, 4,096 training tokens\n" in before
    line = f"text: {corpus}, 4,096 of {there:,} training tokens ({share} %)\n"
    assert line in after
    assert plan.startswith(line)


def test_the_whole_text_and_a_small_part_are_told_apart() -> None:
    assert str(Corpus("a.txt", 10, 10, 10)) == "text: a.txt, 10 of 10 training tokens (all)"
    assert str(Corpus("Python's standard library", 65_536, 65_536, 8_229_640)) == (
        "text: Python's standard library, 65,536 of 8,229,640 training tokens (0.8 %)"
    )
    assert "16 to 32 of 64 training tokens (50.0 %)" in str(Corpus("a.txt", 16, 32, 64))


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.path=nowhere.txt", "data.path: no such file or folder: nowhere.txt"),
        ("data.train_tokens=100M", "data.train_tokens: 100,000,000 asked, but .* has at most"),
        ("baseline.multiples=1,99", r"baseline.multiples: 99x are 405,504 tokens, but .* at most"),
    ],
)
@pytest.mark.parametrize("is_prepared", [False, True])
def test_check_refuses_a_text_that_is_not_there_or_too_short(
    override: str, expected: str, is_prepared: bool, space_file: Path, corpus: Path
) -> None:
    if is_prepared:
        there = f"{prepared(corpus):,} left beside val and test"
        expected = expected.replace("at most", there).replace("has at", "has")

    result = invoke("check", space_file, "--set", override)

    with pytest.raises(type(result.exception), match=expected):  # type: ignore[arg-type]
        raise result.exception  # type: ignore[misc]


def test_a_text_that_is_elsewhere_is_not_fetched_to_be_checked(space_file: Path) -> None:
    result = invoke("check", space_file, "--set", "data.path=https://nowhere.invalid/a.parquet")

    assert result.exit_code == 0
    assert "text: https://nowhere.invalid/a.parquet, 4,096 training tokens" in result.stdout


def test_a_plan_needs_no_text_but_says_what_is_wrong_with_it(space_file: Path) -> None:
    result = invoke("plan", space_file, "--rate", "1T", "--set", "data.path=nowhere.txt")

    assert result.exit_code == 0
    assert "no such file or folder: nowhere.txt" in result.stderr


def test_all_of_a_text_is_asked_for_without_counting_it(space_file: Path, corpus: Path) -> None:
    every = ["--set", "data.train_tokens=all"]
    size = sum(path.stat().st_size + 1 for path in corpus.iterdir())

    before = invoke("check", space_file, *every)
    there = prepared(corpus)
    after = invoke("check", space_file, *every)

    assert f"all is taken for {size - 1025:,}, the most that the files can hold" in before.stderr
    assert f"{there:,} of {there:,} training tokens (all)" in after.stdout
    assert after.stderr == ""


def test_training_and_a_sweep_count_all_tokens_before_they_begin(
    small: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr("sweep.cli.train._train", lambda config, *where: trained.append(config))
    small |= {"data.train_tokens": "all", "data.test_tokens": 0}

    words = [word for item in small.items() for word in ("--set", "=".join(map(str, item)))]
    result = invoke("train", *words, "--out", tmp_path / "run")

    assert result.exception is None
    there = prepared(Path(str(small["data.path"])))
    assert [config.data.train_tokens for config in trained] == [there]


def test_all_is_one_number_and_is_not_searched(tmp_path: Path) -> None:
    from sweeps import problems

    told = problems(tmp_path, "search:\n  data.train_tokens: [1024, all]")

    assert told[0].startswith("line 2: data.train_tokens: all is one number, so it is not searched")


def test_the_block_to_paste_names_the_training_tokens_there_are(corpus: Path) -> None:
    words = ["--val-tokens", 1025, "--test-tokens", 0]
    text = invoke("data", "prepare", corpus, *words).stdout

    pasted = yaml.safe_load(text.partition("each with --set:\n")[2])["fixed"]
    assert pasted["data.train_tokens"] == prepared(corpus)
    chosen = invoke("data", "info", corpus, *words, "--train-tokens", "5K").stdout
    assert "  data.train_tokens: 5K\n" in chosen


def test_the_report_says_which_text_was_read(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE)
    session = session_in(tmp_path, space, open_storage(None))
    view = finished(session, fake_train, tmp_path)

    assert report.text_read(view) == ""  # of a journal from before that was noted
    view.header = {**view.header, "text": asdict(corpus(space))}
    line = "text: Python's standard library, 65,536 training tokens"
    assert line in report.result(view, tmp_path)
    assert report.sweep_data(view, False)["text"]["smallest"] == 65_536
