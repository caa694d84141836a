"""What drives a sweep, where that does not depend on Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CONTINUE = """
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from model import files
from sweep.run import driver
from sweep.space.language import read_space

folder = Path(sys.argv[1])
driver.process = SimpleNamespace(
    start=lambda folder: None, close=lambda process: None, finish=lambda process: True,
    lock=files.lock, Locked=files.Locked,
)
space = read_space(folder / "space.yaml", ())
space = replace(space, fixed={**space.fixed, "data.digest": "d1"})
job = driver.Job(space, folder, driver.search(space, folder))
code = driver.drive(job, driver.Options(plain=True, **eval(sys.argv[2])), None)
sys.exit(code or sorted({"ray", "torch"} & set(sys.modules)) or 0)
"""


def test_a_finished_search_is_continued_without_ray_and_torch(folder: Path) -> None:
    for how in ({}, {"here": True}):
        done = subprocess.run(
            [sys.executable, "-c", CONTINUE, folder, repr(how)],
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stderr
