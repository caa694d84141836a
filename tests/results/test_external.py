from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakes import fake_train
from sweeps import finished

from sweep.cli.main import cli
from sweep.errors import SweepError
from sweep.folder import EXTERNAL
from sweep.results import external
from sweep.results.external_reader import read_external
from sweep.session.session import Session
from sweep.space.space import Space

TABLE = """"Name","State","Notes","User","Tags","Created","Runtime","Sweep","lr","wd","val/loss"
"brisk-1","finished","-","me","","2026-01-01T00:00:00.000Z","100","","0.01","0.1","3.21"
"calm-2","finished","-","me","","2026-01-02T00:00:00.000Z","100","","0.02","0.8","3.11"
"crash-3","crashed","-","me","","2026-01-03T00:00:00.000Z","10","","0.5","0.8",""
"""
HISTORY = """{"_step": 0, "_runtime": 1.5, "val_loss": 4.0, "lr": 0.1}
{"_step": 5, "train_loss": 3.5}
{"_step": 10, "val_loss": 3.0, "lr": 0.05}
"""
CHART = """"Step","a-1 - val_loss","a-1 - val_loss__MIN","a-1 - val_loss__MAX","b - c - val_loss"
"0","4.0","4.0","4.0",""
"10","3.2","3.2","3.2","3.9"
"""
RUNS = [
    {
        "name": "a",
        "state": "finished",
        "config": {"optim": {"lr": 0.1}},
        "summary": {"val_loss": 3},
    },
    {"name": "b", "config": {"optim": {"lr": {"value": 0.2}}}, "summary": {"val_loss": 2.5}},
]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_


Write = Callable[[str, str], Path]


def test_the_runs_table_of_wandb_is_read_without_what_is_not_over(write: Write) -> None:
    table = read_external(write("export.csv", TABLE))

    assert [(run.name, run.val_loss) for run in table.runs] == [
        ("brisk-1", 3.21),
        ("calm-2", 3.11),
    ]
    assert table.runs[0].params == {"lr": "0.01", "wd": "0.1"}
    assert table.left_out == ["crash-3"]


def test_columns_are_chosen_by_name(write: Write) -> None:
    path = write("plain.csv", "who,steps,nats,a,b\nx,1,3.0,1,2\ny,1,2.9,1,\n")

    export = read_external(path, loss="nats", params=["b"], name="who")

    assert [(r.name, r.val_loss, r.params) for r in export.runs] == [
        ("x", 3.0, {"b": "2"}),
        ("y", 2.9, {}),
    ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_history_is_one_run_with_its_curve(write: Write, suffix: str) -> None:
    """pandas writes a CSV with an index that has no heading."""
    rows = (
        ",_step,_runtime,val_loss,train_loss,lr\n0,0,1.5,4.0,,0.1\n1,5,2,,3.5,\n2,10,3,3.0,,0.05\n"
    )
    path = write(f"run-7.{suffix}", HISTORY if suffix == "jsonl" else rows)

    (run,) = read_external(path, params=["lr"]).runs

    assert (run.name, run.val_loss, run.curve) == ("run-7", 3.0, [(0, 4.0), (10, 3.0)])
    assert run.params == {"lr": "0.05"}


def test_histories_of_several_runs_are_told_apart(write: Write) -> None:
    path = write("all.csv", "run,step,val_loss\na,0,4\nb,0,5\na,1,3\nb,1,3.5\n")

    assert [(r.name, r.val_loss) for r in read_external(path).runs] == [("a", 3.0), ("b", 3.5)]


def test_a_chart_has_a_run_in_each_column(write: Write) -> None:
    export = read_external(write("chart.csv", CHART)).runs

    assert [(r.name, r.curve) for r in export] == [
        ("a-1", [(0, 4.0), (10, 3.2)]),
        ("b - c", [(10, 3.9)]),
    ]


def test_runs_of_the_api_are_flattened(write: Write) -> None:
    export = read_external(write("runs.json", json.dumps(RUNS))).runs

    assert [(r.name, r.val_loss, r.params) for r in export] == [
        ("a", 3.0, {"optim.lr": "0.1"}),
        ("b", 2.5, {"optim.lr": "0.2"}),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["it is empty"]),
        ("name,val_loss\n", ["it has headings and no rows"]),
        ("name,val_loss\na,3\na,2\nb\n", ["line 4: 1 cells under 2 headings"]),
        ("name,val_loss\na,3\na,2\nb,x\n", ["run a is there 2 times", "line 4: val_loss of b"]),
        ("name,accuracy\na,3\n", ["which column is the validation loss? it has name, accuracy"]),
        ("name,name,val_loss\na,b,3\n", ["heading name is there twice"]),
        ("name,val_loss\na,nan\n", ["val_loss of a is no number: 'nan'"]),
        ('[{"name": "a"}, 3]', ["row 2: expected an object, got 3"]),
        ('{"_step": 1, "val_loss": 3}\n{"_step"\n', ["line 2: not JSON"]),
        ("[1", ["not JSON"]),
        ("step,val_loss\n1,x\nz,2\n", ["line 2: expected numbers", "line 3: expected numbers"]),
        ("name,state,val_loss\na,running,\n", ["has no finished run", "a is not over"]),
        ("Step,a - x,a - y\n1,2,3\n", ["shows several metrics; name one with --loss"]),
        ("Step,a - x\nnan,2\ninf,3\n1e30,1\n", ["line 2: ", "line 3: ", "line 4: "]),
        ('{"_step": 1e30, "val_loss": 3}', ["line 1: expected numbers"]),
        (f'[{{"name": "a", "val_loss": 1{"0" * 400}}}]', ["line 1: val_loss of a is no number"]),
        ('[{"name": "a", "val_loss": true}]', ["val_loss of a is no number: True"]),
        ("[" * 100_000, ["not JSON"]),
        ('{"a":' * 100_000, ["line 1: not JSON"]),
        ('[{"name": "a\\ud800", "val_loss": 3}]', ["row 1: has half a character"]),
        ("[]", ["it has no rows"]),
    ],
)
def test_a_bad_file_is_one_message_with_all_problems(
    write: Write, text: str, expected: list[str]
) -> None:
    with pytest.raises(SweepError) as caught:
        read_external(write("bad.csv", text))

    for words in expected:
        assert words in str(caught.value)


def test_text_in_quotes_may_have_line_ends_of_any_kind(write: Write) -> None:
    table = write("t.csv", 'name,val_loss,note\na,3,"one\ntwo"\nb,4,one\u2028two\n')
    history = write("h.jsonl", '{"_step": 1, "val_loss": 3, "note": "one\u2028two"}\n')

    assert [r.params["note"] for r in read_external(table).runs] == ["one\ntwo", "one\u2028two"]
    assert read_external(history).runs[0].curve == [(1, 3.0)]


def test_a_table_of_runs_may_show_the_last_step_of_each(write: Write) -> None:
    text = "Name,State,_step,val_loss\na,finished,10,3\nb,crashed,5,2\n"

    export = read_external(write("export.csv", text))

    assert [(run.name, run.curve) for run in export.runs] == [("a", [])]
    assert export.left_out == ["b"]


def test_columns_that_are_not_there_are_told_all_at_once(write: Write) -> None:
    with pytest.raises(SweepError) as caught:
        read_external(write("export.csv", TABLE), loss="val/los", params=["lr", "dropout"])

    assert "no column val/los; did you mean val/loss?" in str(caught.value)
    assert "no column dropout" in str(caught.value)
    assert "2 problems" in str(caught.value)


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")

    with pytest.raises(SweepError, match="it is not text in UTF-8"):
        read_external(tmp_path / "x.csv")
    with pytest.raises(SweepError, match="No such file"):
        read_external(tmp_path / "y.csv")


def test_importing_twice_keeps_one_and_a_changed_run_replaces_its_former_self(
    write: Write, tmp_path: Path
) -> None:
    runs = read_external(write("export.csv", TABLE)).runs

    assert len(external.keep(tmp_path, runs)) == 2
    assert external.keep(tmp_path, runs) == []
    again = read_external(write("later.csv", TABLE.replace("3.11", "3.05"))).runs
    assert [run.name for run in external.keep(tmp_path, again)] == ["calm-2"]

    kept = external.read_kept(tmp_path)
    assert [(run.name, run.val_loss) for run in kept] == [("brisk-1", 3.21), ("calm-2", 3.05)]


def test_a_damaged_file_of_kept_runs_is_told(tmp_path: Path) -> None:
    (tmp_path / EXTERNAL).write_text("{}\n")

    with pytest.raises(SweepError, match="is damaged at line 1"):
        external.read_kept(tmp_path)


def test_imported_runs_stand_under_their_own_heading_and_never_in_the_ranking(
    space: Space, open_session: Callable[..., Session], tmp_path: Path, write: Write
) -> None:
    view = finished(open_session(space), fake_train, tmp_path)
    path = write("export.csv", TABLE.replace("3.11", "0.01"))  # better than any of ours

    done = CliRunner().invoke(cli, ["import", str(path), "--into", str(tmp_path)])
    status = CliRunner().invoke(cli, ["status", str(tmp_path)])
    data = CliRunner().invoke(cli, ["status", str(tmp_path), "--json"])
    best = CliRunner().invoke(cli, ["best", str(tmp_path), "--json"])

    assert done.exit_code == 0, done.output
    assert "2 runs in" in done.stderr
    assert "left out, not over: crash-3" in done.stderr
    ours, _, theirs = status.stdout.partition("External runs")
    assert "calm-2" in theirs
    assert "calm-2" not in ours
    assert json.loads(best.stdout)["trial"] == view.ranked()[0].name
    told = json.loads(data.stdout)
    assert [run["name"] for run in told["external"]] == ["brisk-1", "calm-2"]
    assert len(told["trials"]) == len(view.trials)
