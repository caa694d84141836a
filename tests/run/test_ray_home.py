"""The folder and the token of a Ray of our own, without Ray."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from model.files import lock
from sweep.errors import SweepError
from sweep.run import ray_home as homes
from sweep.run.ray_home import LOCK, LONGEST, PREFIX, TOKEN, object_store, ray_home


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary folder whose path is short enough."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def test_rays_folder_is_for_this_user_alone_and_goes_with_its_driver(place: Path) -> None:
    with ray_home() as home:
        (home / "session").mkdir()
        (outer,) = place.iterdir()

        assert outer in home.parents
        assert outer.stat().st_mode & 0o777 == 0o700

    assert not [*place.iterdir()]


def test_folders_of_drivers_that_were_killed_go_and_those_of_others_stay(place: Path) -> None:
    """Before, every kill left a session in Ray's folder for ever."""
    code = (
        "import os, signal\n"
        "from sweep.run.ray_home import ray_home\n"
        "with ray_home() as home:\n"
        "    (home / 'session').mkdir()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (left,) = place.iterdir()
    used, other = place / f"{PREFIX}used", place / "ray"
    used.mkdir()
    other.mkdir()

    with lock(used / LOCK), ray_home():
        assert not left.exists()
        assert used.exists()
        assert other.exists()


def test_what_a_killed_drivers_ray_still_wrote_goes_in_the_end(place: Path) -> None:
    """Its processes end a few seconds after it, when the next driver has tidied already."""
    with ray_home():
        late = place / f"{PREFIX}late" / "r" / "session"
        late.mkdir(parents=True)

    assert not [*place.iterdir()]


def test_the_folder_of_workers_is_in_rays_own_and_goes_with_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a driver that was killed while Ray started an empty folder stayed."""
    from sweep.run import ray_cluster

    seen: list[Path] = []

    def start(address: str | None, home: Path | None, environment: dict[str, Any]) -> None:
        seen.append(Path(environment["working_dir"]))

    monkeypatch.setattr(ray_cluster, "_start_or_join", start)

    with ray_home() as home:
        ray_cluster._connect(None, home)
        assert seen[0].parent == home


def test_a_path_too_long_for_sockets_is_passed_over(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = place / ("x" * LONGEST)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setenv("TMPDIR", str(place))

    with ray_home() as home:
        name = f"{home}/session_2026-01-31_00-00-00_000000_4194304/sockets/plasma_store"

        assert place in home.parents
        assert len(name) <= 107


def test_no_place_for_sockets_is_one_message(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(SweepError, match="no place for the sockets of Ray") as caught, ray_home():
        pass

    assert f"{place}: no folder that can be written to" in str(caught.value)
    assert "RAY_TMPDIR" in str(caught.value)


def test_without_shared_memory_objects_lie_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(homes, "SHARED_MEMORY", tmp_path / "shm")
    assert object_store(tmp_path, 1) == tmp_path

    (tmp_path / "shm").mkdir()
    assert object_store(tmp_path, 1) == tmp_path / "shm"
    assert object_store(tmp_path, 2**60) == tmp_path


def test_rays_token_is_ours_alone_unless_the_user_names_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray would write its own into the user's home, for others to read."""
    monkeypatch.delenv(TOKEN, raising=False)
    with homes.token_of_our_own():
        assert len(os.environ[TOKEN]) == 64
    assert TOKEN not in os.environ

    monkeypatch.setenv(TOKEN, "theirs")
    with homes.token_of_our_own():
        assert os.environ[TOKEN] == "theirs"
