"""Colours, dashes and markers of the series: told apart by each of the three alone, in light, in dark, in print and by the colour-blind."""

from __future__ import annotations

LIGHT = ("#0b62b5", "#c8500a", "#00805e", "#9b3a8e", "#876400", "#55606e", "#c2185b", "#0c7489")
DARK = ("#62b0ff", "#ff9150", "#35cb9f", "#e391d9", "#dfb640", "#aab5c3", "#ff86a8", "#5fd0e6")
DASHES = ("none", "7 3", "2 3", "9 3 2 3", "4 2", "12 4", "1 2", "6 2 1 2 1 2")
SHAPES = ("circle", "square", "triangle", "diamond", "plus", "down", "cross")
"""Seven shapes and eight colours: 56 series differ in at least one."""


def shape_of(index: int) -> str:
    """The marker of series ``index``."""
    return SHAPES[index % len(SHAPES)]


def class_of(index: int) -> str:
    """The style class of series ``index``: its colour and its dash."""
    return f"run-{index % len(LIGHT)}"


def palette_css() -> str:
    """The classes ``run-0`` to ``run-7``, in light and, where the page is dark, in dark."""
    light = "".join(f"--c{n}:{colour};" for n, colour in enumerate(LIGHT))
    dark = "".join(f"--c{n}:{colour};" for n, colour in enumerate(DARK))
    classes = "".join(f".run-{n}{{--c:var(--c{n});--dash:{dash}}}" for n, dash in enumerate(DASHES))
    return (
        f":root{{{light}}}@media screen{{:root[data-theme=dark]{{{dark}}}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root[data-theme=auto]{{{dark}}}}}{classes}"
    )


def marker(shape: str, x: float, y: float, size: float = 4.0) -> str:
    """The SVG path of a marker centred on (x, y)."""
    s = size
    if shape == "circle":
        return f"M{round(x - s, 1)} {y}a{s} {s} 0 1 0 {2 * s} 0a{s} {s} 0 1 0 {-2 * s} 0Z"
    a, b = 0.4 * s, 0.57 * s
    offsets = {
        "square": [(-s, -s), (s, -s), (s, s), (-s, s)],
        "triangle": [(0, -1.25 * s), (1.15 * s, 0.85 * s), (-1.15 * s, 0.85 * s)],
        "down": [(0, 1.25 * s), (1.15 * s, -0.85 * s), (-1.15 * s, -0.85 * s)],
        "diamond": [(0, -1.35 * s), (1.35 * s, 0), (0, 1.35 * s), (-1.35 * s, 0)],
        "plus": [(-s, -a), (-a, -a), (-a, -s), (a, -s), (a, -a), (s, -a), (s, a), (a, a), (a, s), (-a, s), (-a, a), (-s, a)],
        "cross": [(-s, -b), (-b, -s), (0, -a), (b, -s), (s, -b), (a, 0), (s, b), (b, s), (0, a), (-b, s), (-s, b), (-a, 0)],
    }[shape]
    return "M" + "L".join(f"{round(x + dx, 1)} {round(y + dy, 1)}" for dx, dy in offsets) + "Z"
