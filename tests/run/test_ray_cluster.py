"""cluster.yaml keeps its promises, and `sweep run` joins a running cluster of two nodes."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

BIN = Path(sys.executable).parent  # where the console scripts of this environment are
CLUSTER_YAML = Path(__file__).parents[2] / "cluster.yaml"
PROMISES = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0"}
UNREACHABLE = 5
SECONDS_TO_GIVE_UP = 600  # on a busy machine; left to itself, Ray tries for a quarter of an hour

SPACE = """
name: pair
search:
  optim.lr: {min: 1e-3, max: 1e-2, log: true}
budget: {trials: 4}
trial: {cpus: 1}
fixed:
  data.train_tokens: 4096
  data.val_tokens: 1024
  data.test_tokens: 1024
  gpt.layers: 1
  gpt.width: 16
  train.batch_tokens: 512
  train.evals: 2
"""


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER_YAML.read_text())


def test_cluster_yaml_is_valid_by_rays_own_schema(config):
    ray = importlib.util.find_spec("ray")
    schema = Path(ray.origin).parent / "autoscaler" / "ray-schema.json"

    jsonschema.validate(config, json.loads(schema.read_text()))


def test_every_node_asks_for_the_token_and_sends_no_usage_statistics(config):
    started = starts(config)

    assert len(started) == 2
    for command in started:
        before_ray = command.partition("ray start")[0].split()
        assert {f"{name}={value}" for name, value in PROMISES.items()} <= set(before_ray)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_a_shell_on_the_head_keeps_the_same_promises(config):
    """`ray exec` runs the driver there, and it inherits nothing from the node beside it."""
    said = " ".join(config["setup_commands"])

    for name, value in {**PROMISES, "MLFLOW_DISABLE_TELEMETRY": "true"}.items():
        assert f"{name}={value}" in said


def test_the_dashboard_listens_on_loopback_only(config):
    text = CLUSTER_YAML.read_text()
    head = config["head_start_ray_commands"][-1]

    assert "--dashboard-host=127.0.0.1" in head
    assert "0.0.0.0" not in text
    assert "IpPermissions" not in text  # more ports than SSH would be opened there


def test_workers_are_spot_instances_and_the_head_is_not(config):
    head = config["available_node_types"][config["head_node_type"]]
    (worker,) = (t for t in config["available_node_types"].values() if t is not head)

    assert "InstanceMarketOptions" not in head["node_config"]
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert worker["max_workers"] <= config["max_workers"]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_rays_command_line_has_every_flag_that_cluster_yaml_gives_it(config):
    known = subprocess.run(
        [BIN / "ray", "start", "--help"], capture_output=True, text=True, check=True
    ).stdout

    for command in starts(config):
        for flag in re.findall(r"--[a-z-]+", command.partition("ray start")[2]):
            assert re.search(rf"{flag}\b", known), flag


def starts(config: dict[str, Any]) -> list[str]:
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


@dataclass(frozen=True)
class Node:
    """A raylet with a cache of its own, where a token table appears once a trial trains there."""

    folder: Path

    @property
    def tables(self) -> int:
        return len(list(self.folder.glob("cache/sweep/*.arrow")))


@dataclass(frozen=True)
class Cluster:
    address: str
    nodes: tuple[Node, Node]
    environment: dict[str, str]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes of one core each, on this machine, in token mode as in cluster.yaml."""
    with ExitStack() as stack:
        root = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # socket paths must be short
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        # What a sweep or a Ray around this test has set is not for the cluster inside it.
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SWEEP_"))}
        environment = {**kept, **PROMISES, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        head, worker = Node(root / "h"), Node(root / "w")
        stack.enter_context(
            raylet(head, environment, "--head", "--port=0", "--include-dashboard=false")
        )
        address = (head.folder / "ray_current_cluster").read_text().strip()
        stack.enter_context(raylet(worker, environment, f"--address={address}"))
        yield Cluster(address, (head, worker), environment)


@contextmanager
def raylet(node: Node, environment: dict[str, str], *flags: str) -> Iterator[None]:
    command = [BIN / "ray", "start", "--block", f"--temp-dir={node.folder}", *flags]
    process = subprocess.Popen(
        [*command, "--num-cpus=1", "--num-gpus=0", "--object-store-memory=100000000"],
        env={**environment, "XDG_CACHE_HOME": str(node.folder / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if "block forever" in line:
                break
        else:
            pytest.fail("ray start ended:\n" + "".join(said))
        yield
    finally:
        stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """End `ray start` and what it started; `ray stop` would end every Ray on this machine."""
    process.terminate()
    try:
        process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_cluster_is_checked_by_a_worker_on_each_of_its_nodes(cluster, tmp_path):
    done = subprocess.run(
        [BIN / "sweep", "cluster", "check", "--json", "--runs", tmp_path / "runs"],
        env={**cluster.environment, "RAY_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        check=False,
    )

    said = json.loads(done.stdout)
    assert len(said["nodes"]) == 2, done.stderr
    assert all(node["state"]["sees_runs"] for node in said["nodes"])
    assert {node["state"]["trainer"] for node in said["nodes"]} == {said["driver"]["trainer"]}
    assert said["trials_at_once"] == 2
    # What this machine lacks, room or file handles, is none of this test's business.
    assert done.returncode == (1 if said["problems"] else 0)
    assert list((tmp_path / "runs").iterdir()) == []


def sweep_run(
    folder: Path, *flags: str, timeout: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    (folder / "model.py").write_text("raise SystemExit('not the package that trains')")
    space = folder / "space.yaml"
    space.write_text(SPACE + f"  data.path: {corpus(folder)}\n")
    return subprocess.run(
        [BIN / "sweep", "run", space, "--plain", "--runs", folder / "runs", *flags],
        env={"XDG_CACHE_HOME": str(folder), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def corpus(folder: Path) -> Path:
    texts = folder / "texts"
    texts.mkdir()
    for number in range(16):
        (texts / f"{number}.txt").write_text(f"{number} times ten is {10 * number}. " * 64)
    return texts


def outcomes(folder: Path) -> list[str]:
    lines = (folder / "runs" / "pair" / "journal.jsonl").read_text().splitlines()
    return [event["outcome"] for event in map(json.loads, lines) if event["event"] == "outcome"]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("store_at_hand")
def test_a_sweep_that_joins_a_cluster_trains_on_all_of_its_nodes(cluster, tmp_path):
    before = [node.tables for node in cluster.nodes]
    here = {"RAY_TMPDIR": str(cluster.nodes[0].folder)}  # where Ray looks for what auto means

    done = sweep_run(tmp_path, "--address", "auto", **cluster.environment, **here)

    assert done.returncode == 0, done.stderr
    assert len(outcomes(tmp_path)) == 4
    assert set(outcomes(tmp_path)) <= {"complete", "pruned"}
    assert [node.tables for node in cluster.nodes] == [tables + 1 for tables in before]


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("store_at_hand")
def test_a_sweep_without_the_token_is_turned_away_with_one_message(cluster, tmp_path):
    """The cluster that $RAY_ADDRESS names, which a sweep joins without being asked to."""
    wrong = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_TOKEN": secrets.token_hex(32)}

    done = sweep_run(tmp_path, timeout=SECONDS_TO_GIVE_UP, **{**cluster.environment, **wrong})

    assert done.returncode == UNREACHABLE, done.stderr
    assert f"cannot join the Ray cluster at {cluster.address}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("store_at_hand")
def test_an_address_where_nobody_answers_is_one_message(tmp_path):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SWEEP_"))}
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ["--address", address]  # what $RAY_ADDRESS names is joined alike, as above
        done = sweep_run(tmp_path, *flags, timeout=SECONDS_TO_GIVE_UP, **environment)

    assert done.returncode == UNREACHABLE, done.stderr
    assert f"cannot join the Ray cluster at {address}" in done.stderr
    assert "Traceback" not in done.stderr
