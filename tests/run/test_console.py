"""The live view, as a terminal shows it."""

from __future__ import annotations

import io
import re
import sys
from threading import Thread

from rich.console import Console

from sweep.records import Proposal
from sweep.run.console import LiveConsole
from sweep.view import TrialView, View

WIDTH, REDRAWN = 100, 150


def screen(written: str) -> list[str]:
    """The lines that a terminal has after `written`; it knows what Rich's panel needs."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if part == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif part == "\x1b[1A":
            row -= 1
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part[0] not in "\x1b\r":
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_nothing_of_the_panel_is_left_behind_when_trials_end_while_it_is_redrawn() -> None:
    """Before, two threads drew at once, and its first line stayed between two trials."""
    written = io.StringIO()
    view = View(header={"name": "fake", "trials": 9, "train_tokens": 1, "role": "search"})
    console = LiveConsole(view, Console(file=written, force_terminal=True, width=WIDTH))

    def redraw() -> None:
        for _ in range(REDRAWN):
            console.redraw()

    switching = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with console:
        drawing = Thread(target=redraw)
        drawing.start()
        for number in range(REDRAWN):
            name = f"{number % 7:04}"
            if name in view.trials:
                del view.trials[name]
            else:
                view.trials[name] = TrialView(name, Proposal({"optim.lr": 0.1}), {}, 0)
            console.show({"event": "baseline", "source": "table", "points": [[number, 1.0]]})
        drawing.join()
    sys.setswitchinterval(switching)

    told = [f"baseline given: {number} tokens: 1.0000" for number in range(REDRAWN)]
    assert screen(written.getvalue()) == told


def test_no_line_of_the_panel_reaches_the_edge_where_the_terminal_writes_what_is_pressed() -> None:
    written = io.StringIO()
    view = View(header={"name": "fake", "trials": 9, "train_tokens": 1, "role": "search"})
    long = Proposal({f"optim.setting_{n}": 0.123456 for n in range(20)})
    view.trials["0000"] = TrialView("0000", long, {}, 0)
    console = LiveConsole(view, Console(file=written, force_terminal=True, width=WIDTH))

    with console:
        console.redraw()
        shown = screen(written.getvalue())

    assert max(map(len, shown)) <= WIDTH - 4
    assert any("…" in line for line in shown)
