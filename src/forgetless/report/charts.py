"""Charts as plain geometry: the template draws them as inline SVG, so they print and work without a script."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from forgetless.report.axes import Axis, axis, categories
from forgetless.report.palette import marker, shape_of

__all__ = ["Axis", "Chart", "Event", "Frame", "Point", "Rule", "Series", "axis", "binned", "categories", "draw"]

MOST_POINTS = 80  # a longer series is averaged into this many bins
_GAP = 15.0  # between two labels beside the plot


@dataclass(frozen=True, slots=True)
class Frame:
    """The size of a drawing and its margins, in units of the SVG; ``text`` is the size of its letters."""

    width: float = 380.0
    height: float = 236.0
    left: float = 46.0
    right: float = 16.0
    top: float = 12.0
    bottom: float = 40.0
    text: float = 11.5


SMALL = Frame()
WIDE = Frame(width=1000.0, height=390.0, left=54.0, right=190.0, top=14.0, bottom=46.0, text=13.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a series; ``tip`` is what a pointer shows; intervals go up from ``low`` to ``high``, across from ``x_low``."""

    x: float
    y: float
    tip: str
    low: float | None = None
    high: float | None = None
    x_low: float | None = None
    x_high: float | None = None


@dataclass(frozen=True, slots=True)
class Series:
    """The points of one run; ``run`` is its index, which gives it colour, dash and marker.

    ``faint``: drawn thin, with hollow markers. ``band``: intervals as one surface. ``joined``: with a line.
    """

    run: int
    points: Sequence[Point]
    faint: bool = False
    band: bool = False
    joined: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A line across the whole plot at ``y``, with what it means."""

    y: float
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at ``x``, with a short name for it."""

    x: float
    text: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A drawn point; ``last``: filled, as the end of its line or a point of its own; ``interval`` and ``across``: its intervals, drawn."""

    x: float
    y: float
    shape: str
    tip: str
    last: bool
    interval: tuple[float, float] | None
    across: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn series: an SVG path, its marks, and the outline of its band."""

    run: int
    path: str
    marks: Sequence[Mark]
    faint: bool = False
    band: str = ""


@dataclass(frozen=True, slots=True)
class Label:
    """A name beside the plot, and the line that leads to it."""

    run: int
    text: str
    x: float
    y: float
    leader: str


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawn chart; ``summary`` is its description for those who do not see it, ``rows`` (series, across, up, interval) its data."""

    id: str
    title: str
    summary: str
    x_label: str
    y_label: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[Line]
    note: str | None
    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    text: float
    rows: Sequence[tuple[int, str, str, str]]
    rules: Sequence[tuple[float, str]]
    events: Sequence[tuple[float, str]]
    labels: Sequence[Label]

    @property
    def intervals(self) -> bool:
        """Whether any point has an interval."""
        return any(row[3] for row in self.rows)


def draw(
    id: str,
    title: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    summary: str,
    note: str | None = None,
    *,
    frame: Frame = SMALL,
    rules: Sequence[Rule] = (),
    events: Sequence[Event] = (),
    names: Mapping[int, str] | None = None,
) -> Chart:
    """Lay ``series`` out on the axes; values that are not finite leave a gap.

    ``names``, by the index of a run, stand beside the plot at the last point of its last series that is not faint, where they fit.
    """
    right, bottom = frame.width - frame.right, frame.height - frame.bottom

    def across(value: float) -> float:
        inside = min(max(value, x.low), x.high)
        return round(frame.left + (inside - x.low) / (x.high - x.low) * (right - frame.left), 1)

    def down(value: float) -> float:
        inside = min(max(value, y.low), y.high)
        return round(bottom - (inside - y.low) / (y.high - y.low) * (bottom - frame.top), 1)

    lines = [_line(one, across, down) for one in series]
    return Chart(
        id,
        title,
        summary,
        x.label,
        y.label,
        [(across(t), x.text(t)) for t in x.ticks],
        [(down(t), y.text(t)) for t in y.ticks],
        lines,
        note,
        frame.width,
        frame.height,
        frame.left,
        right,
        frame.top,
        bottom,
        frame.text,
        [(one.run, x.text(p.x), y.text(p.y), _interval(p, x, y)) for one in series for p in one.points],
        [(down(rule.y), rule.text) for rule in rules],
        [(across(event.x), event.text) for event in events],
        _labels(lines, names or {}, right, frame.top, bottom),
    )


def _line(series: Series, across: Callable[[float], float], down: Callable[[float], float]) -> Line:
    marks: list[Mark] = []
    path, pen, shape = [], "M", shape_of(series.run)
    upper: list[str] = []
    lower: list[str] = []
    for index, point in enumerate(series.points):
        if not (math.isfinite(point.x) and math.isfinite(point.y)):
            pen = "M"
            continue
        px, py = across(point.x), down(point.y)
        if series.joined:
            path.append(f"{pen}{px} {py}")
        pen = "L"
        interval = (down(point.low), down(point.high)) if point.low is not None and point.high is not None else None
        if series.band and interval:
            upper.append(f"{px} {interval[1]}")
            lower.append(f"{px} {interval[0]}")
            interval = None
        sideways = (across(point.x_low), across(point.x_high)) if point.x_low is not None and point.x_high is not None else None
        marks.append(
            Mark(px, py, marker(shape, px, py), point.tip, index == len(series.points) - 1 or not series.joined, interval, sideways)
        )
    band = f"M{'L'.join([*upper, *reversed(lower)])}Z" if len(upper) > 1 else ""
    return Line(series.run, "".join(path), marks, series.faint, band)


def _interval(point: Point, x: Axis, y: Axis) -> str:
    parts = []
    if point.x_low is not None and point.x_high is not None:
        parts.append(f"{x.label}: {x.text(point.x_low)} to {x.text(point.x_high)}")
    if point.low is not None and point.high is not None:
        told = f"{y.text(point.low)} to {y.text(point.high)}"
        parts.append(f"{y.label}: {told}" if parts else told)
    return "; ".join(parts)


def _labels(lines: Sequence[Line], names: Mapping[int, str], right: float, top: float, bottom: float) -> list[Label]:
    """Names in the margin beside the plot, at the height of their points as far as there is room; none where they do not all fit."""
    ends = {line.run: line.marks[-1] for line in lines if line.marks and not line.faint and line.run in names}
    if not ends or (len(ends) - 1) * _GAP > bottom - top:
        return []
    order = sorted(ends, key=lambda run: (ends[run].y, ends[run].x))
    places: list[float] = []
    for run in order:
        places.append(max(ends[run].y, places[-1] + _GAP if places else top))
    over = places[-1] - bottom
    if over > 0:
        places[-1] = bottom
        for index in range(len(places) - 2, -1, -1):
            places[index] = min(places[index], places[index + 1] - _GAP)
    at = right + 22
    return [
        Label(run, names[run], at, round(place, 1), f"M{round(ends[run].x + 7, 1)} {ends[run].y}L{right + 8} {round(place, 1)}H{at - 4}")
        for run, place in zip(order, places, strict=True)
    ]


def binned(pairs: Sequence[tuple[int, float]], most: int = MOST_POINTS) -> tuple[list[tuple[float, float]], int]:
    """Average ``pairs`` (step, value) into at most ``most`` bins of equal count; also the number of steps in a bin.

    A bin with a value that is not finite is not finite, so a diverged loss shows as a gap and is not smoothed away.
    """
    size = max(1, math.ceil(len(pairs) / most))
    chunks = [pairs[i : i + size] for i in range(0, len(pairs), size)]
    return [(sum(step for step, _ in chunk) / len(chunk), sum(value for _, value in chunk) / len(chunk)) for chunk in chunks], size
