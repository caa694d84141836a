"""Draw the README's pictures from a run folder: `python docs/pictures.py runs/quickstart`.

The live view is drawn as it stood at an event of the journal, by the code that draws it.
"""

from __future__ import annotations

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sweep.folder import JOURNAL
from sweep.format import clock_text
from sweep.journal import read_events
from sweep.results.efficiency_plot import draw_figures
from sweep.results.efficiency_report import figures_of
from sweep.results.report import counts
from sweep.results.time_left import speed_text, time_left_text
from sweep.run.console import best, describe, running_table
from sweep.view import View

DOCS = Path(__file__).parent
WIDTH, LINES = 112, 10  # columns, and lines that have scrolled by


def main() -> None:
    """Write live.svg and efficiency.svg beside this file."""
    folder = Path(sys.argv[1])
    events = [event for event, _ in read_events(folder / JOURNAL)]
    events = events[: [event["event"] for event in events].index("end")]  # of the search alone
    whole, moment = View(), 0
    for number, event in enumerate(events):
        whole.apply(event)
        running = whole.running()
        if len(running) == whole.slots and all(0 < trial.done < 1 for trial in running):
            moment = number  # the latest at which there is much to see
    view, said = View(), list[str]()
    for event in events[: moment + 1]:
        view.apply(event)
        if text := describe(view, event):
            said += text.splitlines()
    elapsed = clock_text((event["time"] - view.header["time"]) / 1000)
    parts = [counts(view), time_left_text(view, event["time"]), speed_text(view)]
    console = Console(record=True, width=WIDTH, file=StringIO(), highlight=False)
    for line in said[-LINES:]:
        console.print(line, markup=False, no_wrap=True, overflow="ellipsis")
    console.print()
    head = f"{view.header['name']}  {elapsed}  {', '.join(filter(None, parts))}"
    console.print(Text(head, style="bold"))
    console.print(best(view), markup=False)
    console.print(running_table(view))
    svg = console.export_svg(title="sweep run search_spaces/quickstart.yaml")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # fonts come from no network
    (DOCS / "live.svg").write_text(svg)

    draw_figures(figures_of(whole), DOCS / "efficiency.svg")


if __name__ == "__main__":
    main()
