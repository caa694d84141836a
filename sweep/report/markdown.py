"""The ablation table for a pull request, with the answer in sentences above it."""

from __future__ import annotations

from collections.abc import Sequence

from sweep.format import markdown_block, markdown_text, three_digits
from sweep.report.reading import Reading
from sweep.report.tables import best_rows, command, provenance


def markdown(reading: Reading) -> str:
    """The report as GitHub's Markdown."""
    facts = reading.facts
    said = [f"- **{s.about}.** {markdown_text(s.text)}" for s in reading.answer]
    head, rows = best_rows(facts)
    known = provenance(facts)
    parts = [
        f"### Sweep {markdown_text(facts.view.header['name'])}",
        "\n".join(said),
        _table(head, [row for _, row in rows]),
    ]
    if ablation := _ablation(reading):
        parts.append(f"What one change to the best costs, by the fitted surface:\n\n{ablation}")
    kept = ("sweep", "trials", "searching took", "commit", "digest of data", "packages")
    parts.append(markdown_block(command(facts), "sh"))
    parts.append(
        "\n".join(f"{name}: {markdown_text(known[name])}  " for name in kept if known.get(name))
    )
    return "\n\n".join(parts) + "\n"


def _ablation(reading: Reading) -> str:
    """Of each setting of the best: its value, what is within the noise, and the worst value."""
    own = [cut for cut in reading.slices if cut.of == reading.facts.best.name]
    shares = {its.setting: its.total for its in reading.importances}
    known = {its.setting: its for its in reading.plateaus}
    rows = []
    for cut in own:
        worst = int(cut.mean_C.argmax())
        centre = cut.values.index(cut.centre)
        half = (cut.high_C[worst] - cut.low_C[worst]) / 2
        low, middle, high = shares.get(cut.hp.setting, (0.0, 0.0, 0.0))
        rows.append(
            [
                cut.hp.setting,
                three_digits(cut.centre),
                str(known.get(cut.hp.setting, "-")).removeprefix(f"{cut.hp.setting} "),
                f"{three_digits(cut.values[worst])}: "
                f"{cut.mean_C[worst] - cut.mean_C[centre]:+.3f} ± {half:.3f}",
                f"{middle:.0%} ({low:.0%} to {high:.0%})" if shares else "-",
            ]
        )
    head = ["setting", "best", "known to", "its worst value, nats", "share of the variance"]
    return _table(head, rows) if rows else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [_row(head), _row(["---"] * len(head)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_text(cell) for cell in cells) + " |"
