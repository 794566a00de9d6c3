"""What the pictures share: an SVG that is readable on light and on dark pages."""

from __future__ import annotations

from html import escape

STYLE = """text{font:13px system-ui,sans-serif;fill:#1d2733}.s{font-size:11px;fill:#5b6b82}.v{font-weight:600}
.m{text-anchor:middle}.e{text-anchor:end}.o{fill:#5b6b82;fill-opacity:.4}.a{stroke:#5b6b82;fill:none}
.d{stroke:#5b6b82;fill:none;stroke-dasharray:2 3}.b{fill:#5b6b82;fill-opacity:.1;stroke:#5b6b82}
.h{fill:#c2410c}.w{stroke:#c2410c;stroke-width:2;fill:none}.k{fill:#1d6fb8}.q{stroke:#1d6fb8;stroke-width:2;fill:none}
.f{fill-opacity:.22}@media(prefers-color-scheme:dark){text{fill:#e6e9ee}.s{fill:#a9b4c4}.o{fill:#a9b4c4}.a,.d{stroke:#a9b4c4}
.b{fill:#a9b4c4;stroke:#a9b4c4}.h{fill:#fb923c}.w{stroke:#fb923c}.k{fill:#60a5fa}.q{stroke:#60a5fa}}"""
"""Classes: s small, v strong, m and e anchored, o other, a axis, d dashed, b box, h and w the first colour (filled, drawn),
k and q the second, f pale."""


def svg(width: int, height: int, told: str, lines: list[str]) -> str:
    """The picture with its words for those who do not see it."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="t">'
    return "\n".join([head, f'<title id="t">{escape(told)}</title><style>{STYLE}</style>', *lines, "</svg>", ""])


def text(x: float, y: float, words: str, kind: str = "") -> str:
    """Words at a place; ``kind`` are classes of `STYLE`."""
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(words)}</text>'


def path(way: str, kind: str) -> str:
    """A line."""
    return f'<path class="{kind}" d="{way}"/>'


def dot(x: float, y: float, size: float, kind: str) -> str:
    """A point."""
    return f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{size:g}"/>'


def box(x: float, y: float, width: float, height: float, kind: str = "b") -> str:
    """A box with round corners."""
    return f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="5"/>'
