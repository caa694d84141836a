"""Charts as SVG text: axes, marks and the frame around them. Colours are classes of the page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from sweep.format import count_text

WIDTH, HEIGHT = 400.0, 270.0  # of a chart, pixels at a phone's width
LEFT, RIGHT, TOP, BOTTOM = 54.0, 12.0, 10.0, 44.0
TICKS = 5  # about so many on an axis
WORD = 12  # letters of a category's name below an axis
Pair = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """Where numbers lie on a line of pixels."""

    label: str
    low: float
    high: float
    log: bool = False
    names: tuple[str, ...] = ()  # of categories, which are at 0, 1, ...
    marks: tuple[float, ...] = ()  # ticks, where they are not found by themselves
    start: float = LEFT
    end: float = WIDTH - RIGHT

    def at(self, value: float) -> float:
        """The pixel of `value`, at most a little outside the axis."""
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, -0.5), 1.5) * (self.end - self.start)

    def has(self, value: float) -> bool:
        """Whether `value` lies on the axis; what is no number does not."""
        return self.low <= value <= self.high

    def ticks(self) -> list[tuple[float, str]]:
        """Where the axis has a mark, and what stands there."""
        if self.names:
            return [(n, _cut(name)) for n, name in enumerate(self.names)]
        marks = self.marks or (_log_ticks if self.log else _ticks)(self.low, self.high)
        return [(mark, tick_text(mark)) for mark in marks]


def x_axis(label: str, values: Iterable[float], log: bool = False, **more: object) -> Axis:
    """An axis that has all finite `values`, with a little room."""
    return _axis(label, values, log, LEFT, WIDTH - RIGHT, **more)


def y_axis(label: str, values: Iterable[float], log: bool = False, **more: object) -> Axis:
    """The same, upwards."""
    return _axis(label, values, log, HEIGHT - BOTTOM, TOP, **more)


def _axis(
    label: str, values: Iterable[float], log: bool, start: float, end: float, **more: object
) -> Axis:
    finite = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    low, high = min(finite, default=1.0), max(finite, default=2.0)
    if log:
        room = (high / low) ** 0.05 if high > low else 1.3
        return Axis(label, low / room, high * room, True, start=start, end=end, **more)  # type: ignore[arg-type]
    room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    least = 0.0 if low == 0 else low - room
    return Axis(label, least, high + room, start=start, end=end, **more)  # type: ignore[arg-type]


def category_axis(label: str, names: Sequence[str]) -> Axis:
    """An axis of values without order."""
    return Axis(label, -0.6, len(names) - 0.4, names=tuple(names))


def _cut(name: str) -> str:
    return name if len(name) <= WORD else f"{name[: WORD - 1]}…"


def tick_text(value: float) -> str:
    """A number beside an axis: 0.003, 2.5, 40K or 3e12."""
    if abs(value) >= 1e9:
        return f"{value:.3g}".replace("e+0", "e").replace("e+", "e")
    return count_text(value) if abs(value) >= 10_000 else f"{value:.4g}"


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`."""
    rough = (high - low) / TICKS
    size = 10 ** math.floor(math.log10(rough))
    step = next(size * n for n in (1, 2, 2.5, 5, 10) if size * n >= rough)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten, with 2 and 5 or more between where there is room for them."""
    decades = math.log10(high / low)
    digits = (1,) if decades > 3.5 else (1, 3) if decades > 2.3 else (1, 2, 5)
    if decades < 0.5:
        return _ticks(low, high)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    marks = [digit * 10.0**power for power in powers for digit in digits]
    inside = [float(f"{mark:.3g}") for mark in marks if low <= mark <= high]
    step = math.ceil(len(inside) / 7)
    return inside[::step]


def frame(x: Axis, y: Axis) -> str:
    """Grid, numbers and labels of a chart."""
    bottom, parts = y.start, []
    for value, text in y.ticks():
        at = y.at(value)
        parts.append(f'<path class="grid" d="M{x.start:g} {at:.1f}H{x.end:g}"/>')
        parts.append(f'<text class="tick" x="{x.start - 6:g}" y="{at + 4:.1f}" {END}>{text}</text>')
    for value, text in x.ticks():
        at = x.at(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {bottom:g}v4"/>')
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{bottom + 16:g}" {MIDDLE}>{escape(text)}</text>'
        )
    middle = (x.start + x.end) / 2
    parts.append(
        f'<text class="label" x="{middle:g}" y="{bottom + 36:g}" {MIDDLE}>{escape(x.label)}</text>'
    )
    up = (y.start + y.end) / 2
    parts.append(
        f'<text class="label" transform="translate(12 {up:g}) rotate(-90)" {MIDDLE}>'
        f"{escape(y.label)}</text>"
    )
    parts.append(f'<path class="axis" d="M{x.start:g} {y.end:g}V{bottom:g}H{x.end:g}"/>')
    return "".join(parts)


END, MIDDLE = 'text-anchor="end"', 'text-anchor="middle"'
CROSS = "M-3.2 -3.2L3.2 3.2M-3.2 3.2L3.2 -3.2"
SHAPES = {  # around 0 0, so that shape tells what colour tells too
    "best": "M0 -6.5L6.5 0L0 6.5L-6.5 0Z",
    "tied": "M-4.4 -4.4H4.4V4.4H-4.4Z",
    "complete": "M-3.4 0a3.4 3.4 0 1 0 6.8 0a3.4 3.4 0 1 0 -6.8 0",
    "pruned": "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0 -6 0",
    "diverged": CROSS,
    "failed": "M-4 0H4M0 -4V4",
    "beyond": "M0 -4.5L4 2.5H-4Z",
    "rug": "M0 -4V3",  # beyond too, of trials so many that triangles would hide each other
}


def mark(kind: str, x: float, y: float, trial: str = "", tip: str = "", shape: str = "") -> str:
    """A trial as a mark at a pixel; `tip` is what hovering adds to what is known of it."""
    of = f' data-t="{escape(trial)}"' if trial else ""
    said = f' data-tip="{escape(tip)}"' if tip else ""
    path = SHAPES[shape or kind]
    return f'<path class="m {kind}"{of}{said} transform="translate({x:.1f} {y:.1f})" d="{path}"/>'


def line(points: Sequence[Pair], kind: str, trial: str = "", tip: str = "") -> str:
    """Straight lines between pixels."""
    if len(points) < 2:
        return ""
    of = f' data-t="{escape(trial)}"' if trial else ""
    said = f' data-tip="{escape(tip)}"' if tip else ""
    return f'<path class="l {kind}"{of}{said} d="{_path(points)}"/>'


def _path(points: Sequence[Pair]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def steps(points: Sequence[Pair], end: float) -> list[Pair]:
    """Corners of a staircase through pixels that goes on to the pixel `end`."""
    corners: list[Pair] = []
    for x, y in points:
        corners += [(x, corners[-1][1])] if corners else []
        corners.append((x, y))
    return [*corners, (end, corners[-1][1])] if corners else []


def band(low: Sequence[Pair], high: Sequence[Pair], kind: str = "band") -> str:
    """The area between two lines of pixels."""
    return f'<path class="{kind}" d="{_path([*low, *reversed(high)])}Z"/>' if len(low) > 1 else ""


def bar(x: float, low: float, high: float, kind: str = "whisker", flat: bool = False) -> str:
    """A whisker between two pixels, upright or `flat`."""
    if flat:
        return f'<path class="{kind}" d="M{low:.1f} {x:.1f}H{high:.1f}"/>'
    return f'<path class="{kind}" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'


def figure(
    title: str,
    inside: str,
    caption: str = "",
    width: float = WIDTH,
    height: float = HEIGHT,
    kind: str = "",
) -> str:
    """A chart with its title and caption. `inside` is clipped only where it says so itself."""
    said = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return (
        f'<figure class="{kind}"><h3>{escape(title)}</h3><div class="plot">'
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">'
        f"{inside}</svg></div>{said}</figure>"
    )


def clipped(inside: str, x: Axis, y: Axis) -> str:
    """`inside` without what lies outside the axes; an SVG of its own cuts without an id."""
    width, height = x.end - x.start, y.start - y.end
    box = f"{x.start:g} {y.end:g} {width:g} {height:g}"
    return (
        f'<svg x="{x.start:g}" y="{y.end:g}" width="{width:g}" height="{height:g}" '
        f'viewBox="{box}" overflow="hidden">{inside}</svg>'
    )
