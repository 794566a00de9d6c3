"""Charts as PNG files, by matplotlib, from the same geometry as on the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from forgetless.files import replacing
from forgetless.report.charts import Chart

COLOURS = ("#0b62b5", "#c8500a", "#00805e", "#9b3a8e", "#876400", "#55606e")
MARKERS = ("o", "s", "^", "D", "P", "v")


def write_png(chart: Chart, names: Sequence[str], path: Path) -> Path:
    """Draw ``chart``, whose series are called ``names`` by number, to ``path``; whole or not at all."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    told: set[int] = set()
    for line in chart.lines:
        style = line.run % len(COLOURS)
        label = names[line.run] if line.run not in told and line.run < len(names) else None
        told.add(line.run)
        across, down = [mark.x for mark in line.marks], [mark.y for mark in line.marks]
        axes.plot(across, down, color=COLOURS[style], marker=MARKERS[style], markersize=4, linewidth=1.5, label=label)
    axes.set_xlim(chart.left - 4, chart.right + 4)
    axes.set_ylim(chart.bottom + 4, chart.top - 4)
    axes.set_xticks([x for x, _ in chart.x_ticks], [text for _, text in chart.x_ticks])
    axes.set_yticks([y for y, _ in chart.y_ticks], [text for _, text in chart.y_ticks])
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.set_title(chart.title, fontsize=11)
    axes.grid(alpha=0.25)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if len(told) > 1:
        axes.legend(frameon=False, fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=160)
    return path
