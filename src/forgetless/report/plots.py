"""Charts as PNG files, by matplotlib, from the same geometry as on the page."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgetless.files import replacing
from forgetless.report.charts import Chart, Line
from forgetless.report.palette import LIGHT
from forgetless.report.vector import drawable

MARKERS = ("o", "s", "^", "D", "P", "v", "X")
STYLES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (8, 3)), (0, (1, 1)), (0, (4, 1, 1, 1)))


def write_png(chart: Chart, names: Sequence[str], path: Path) -> Path:
    """Draw ``chart``, whose series are called ``names`` by number, to ``path``; whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (6.4, 6.4 * (chart.height + 40) / chart.width) if chart.width <= 480 else (9.6, 9.6 * (chart.height + 40) / chart.width)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    told: set[int] = set()
    for line in chart.lines:
        label = names[line.run] if line.run not in told and line.run < len(names) and not line.faint else None
        if label is not None:
            told.add(line.run)
        _line(axes, line, _literal(label) if label is not None else None)
    for y, text in chart.rules:
        axes.axhline(y, color="#12161d", linestyle=(0, (6, 4)), linewidth=1.2)
        axes.text(chart.right, y - 4, _literal(text), ha="right", va="bottom", fontsize=8)
    for x, text in chart.events:
        axes.axvline(x, color="#12161d", linestyle=":", linewidth=1)
        axes.text(x, chart.top, _literal(text), ha="center", va="bottom", fontsize=8)
    axes.set_xlim(chart.left - 4, chart.right + 4)
    axes.set_ylim(chart.bottom + 4, chart.top - 4)
    axes.set_xticks([x for x, _ in chart.x_ticks], [_literal(text) for _, text in chart.x_ticks])
    axes.set_yticks([y for y, _ in chart.y_ticks], [_literal(text) for _, text in chart.y_ticks])
    axes.set_xlabel(_literal(chart.x_label))
    axes.set_ylabel(_literal(chart.y_label))
    axes.set_title(_literal(chart.title), fontsize=11)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(told) > 1:
        axes.legend(frameon=False, fontsize=9)
    with replacing(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph ")  # a letter that the font lacks is drawn as a box
        figure.savefig(temporary, format="png", dpi=160)
    return path


def _line(axes: Any, line: Line, label: str | None) -> None:
    colour, faint = LIGHT[line.run % len(LIGHT)], 0.45 if line.faint else 1.0
    across, down = [mark.x for mark in line.marks], [mark.y for mark in line.marks]
    style = STYLES[line.run % len(STYLES)] if line.path else "none"
    marker = MARKERS[line.run % len(MARKERS)] if len(line.marks) <= 24 or not line.path else ""
    axes.plot(across, down, color=colour, linestyle=style, marker=marker, markersize=4, linewidth=1.5, alpha=faint, label=label)
    for mark in line.marks:
        if mark.interval:
            axes.plot([mark.x, mark.x], mark.interval, color=colour, linewidth=1.2, alpha=0.7 * faint, marker="_", markersize=5)
        if mark.across:
            axes.plot(mark.across, [mark.y, mark.y], color=colour, linewidth=1.2, alpha=0.7 * faint, marker="|", markersize=5)
    if line.band:
        corners = [tuple(float(part) for part in pair.split()) for pair in line.band.strip("MZ").split("L")]
        axes.fill([x for x, _ in corners], [y for _, y in corners], color=colour, alpha=0.13, linewidth=0)


def _literal(text: str) -> str:
    """``text`` as it stands: a dollar sign in it begins no formula; without what no drawing may hold."""
    return drawable(text).replace("$", r"\$")
