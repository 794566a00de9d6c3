"""Charts as SVG files that stand alone: explicit colours and sizes, so that editors and papers show them as the page does."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from forgetless.files import write_text
from forgetless.report.charts import Chart, Line
from forgetless.report.palette import DASHES, LIGHT, marker, shape_of

INK, SOFT, GRID = "#12161d", "#535c6a", "#e7eaf0"
_ROW = 20.0
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_svg(chart: Chart, names: Sequence[str], path: Path) -> Path:
    """Draw ``chart``, whose series are called ``names`` by number, to ``path``; whole or not at all."""
    write_text(path, svg(chart, names))
    return path


def svg(chart: Chart, names: Sequence[str]) -> str:
    """``chart`` as the text of an SVG file, with its title above and a legend beneath."""
    told = [run for run in dict.fromkeys(line.run for line in chart.lines) if run < len(names)]
    size = chart.text + 2
    head = textwrap.wrap(chart.title, max(20, int((chart.width - 24) / (0.58 * size)))) or [""]
    top = 14 + 1.35 * size * len(head) + (1.5 * chart.text if chart.y_label else 0)
    height = top + chart.height + _ROW * (len(told) if len(told) > 1 else 0) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {chart.width:g} {height:g}" width="{chart.width:g}" height="{height:g}" '
        f'role="img" aria-label={quoteattr(drawable(chart.summary))} font-family="system-ui, sans-serif" font-size="{chart.text:g}">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        *(_text(12, 10 + 1.35 * size * (place + 0.75), line, fill=INK, weight=600, size=size) for place, line in enumerate(head)),
        _text(12, top - 5, chart.y_label) if chart.y_label else "",
        f'<g transform="translate(0 {top:g})">',
        *_axes(chart),
        *(_rule(chart, y, text) for y, text in chart.rules),
        *(_event(chart, x, text) for x, text in chart.events),
        *(f'<path d="{label.leader}" fill="none" stroke="{_colour(label.run)}" opacity=".55"/>' for label in chart.labels),
        *(_text(label.x, label.y + 4, label.text, fill=_colour(label.run), weight=600) for label in chart.labels),
        *(_line(line) for line in chart.lines),
        "</g>",
    ]
    if len(told) > 1:
        parts += [_legend(run, names[run], top + chart.height + _ROW * place + 8) for place, run in enumerate(told)]
    return "\n".join([*parts, "</svg>", ""])


def _axes(chart: Chart) -> list[str]:
    found = []
    for y, text in chart.y_ticks:
        found.append(f'<path d="M{chart.left:g} {y:g}H{chart.right:g}" stroke="{SOFT if y == chart.bottom else GRID}"/>')
        found.append(_text(chart.left - 8, y + 4, text, anchor="end"))
    for x, text in chart.x_ticks:
        found.append(f'<path d="M{x:g} {chart.bottom:g}v4" stroke="{SOFT}"/>')
        found.append(_text(x, chart.bottom + 6 + chart.text, text, anchor="middle"))
    found.append(_text((chart.left + chart.right) / 2, chart.height - 5, chart.x_label, anchor="middle"))
    return found


def _rule(chart: Chart, y: float, text: str) -> str:
    drawn = f'<path d="M{chart.left:g} {y:g}H{chart.right:g}" stroke="{INK}" stroke-dasharray="6 4" stroke-width="1.5"/>'
    return drawn + _text(chart.right, y - 5, text, anchor="end", fill=INK, weight=600)


def _event(chart: Chart, x: float, text: str) -> str:
    return f'<path d="M{x:g} {chart.top:g}V{chart.bottom:g}" stroke="{INK}" stroke-dasharray="1 3"/>' + (
        _text(x, chart.top - 2, text, anchor="middle", fill=INK, weight=700) if text else ""
    )


def _line(line: Line) -> str:
    colour, faint = _colour(line.run), ' opacity=".5"' if line.faint else ""
    drawn = [f'<g stroke="{colour}" fill="none"{faint}>']
    if line.band:
        drawn.append(f'<path d="{line.band}" fill="{colour}" stroke="none" opacity=".13"/>')
    if line.path:
        drawn.append(f'<path d="{line.path}" stroke-width="{1.25 if line.faint else 2}"{_dash(line.run)}/>')
    for mark in line.marks:
        if mark.interval:
            low, high = mark.interval
            drawn.append(f'<path d="M{mark.x} {low}V{high}M{mark.x - 4:g} {low}h8M{mark.x - 4:g} {high}h8" stroke-width="1.5"/>')
        if mark.across:
            low, high = mark.across
            drawn.append(f'<path d="M{low} {mark.y}H{high}M{low} {mark.y - 4:g}v8M{high} {mark.y - 4:g}v8" stroke-width="1.5"/>')
        if len(line.marks) <= 24 or mark.last:
            filled = colour if mark.last and not line.faint else "#fff"
            drawn.append(f'<path d="{mark.shape}" fill="{filled}" stroke-width="1.75"/>')
    return "".join([*drawn, "</g>"])


def _legend(run: int, name: str, y: float) -> str:
    colour = _colour(run)
    drawn = (
        f'<path d="M12 {y:g}h32" stroke="{colour}" stroke-width="2"{_dash(run)}/><path d="{marker(shape_of(run), 28, y)}" fill="{colour}"/>'
    )
    return drawn + _text(52, y + 4, name, fill=INK)


def _dash(run: int) -> str:
    dash = DASHES[run % len(DASHES)]
    return "" if dash == "none" else f' stroke-dasharray="{dash}"'


def _colour(run: int) -> str:
    return LIGHT[run % len(LIGHT)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = SOFT, weight: int = 400, size: float | None = None) -> str:
    own = f' font-size="{size:g}"' if size else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" fill="{fill}" font-weight="{weight}"{own}>{escape(drawable(text))}</text>'


def drawable(text: str) -> str:
    """``text`` without control characters and lone surrogates, which no XML file may hold."""
    return _NOT_XML.sub("\ufffd", text)
