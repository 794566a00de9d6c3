"""Tables of the page: text, or text with the exact value behind it and a small drawing of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell.

    ``value`` is the exact figure (for those who read the page by machine), ``small`` a line under the text, ``name`` what the figure
    is, ``tone`` the colour of the drawing (``learned``, ``forgotten``, ``cost``), ``at`` its place from 0 to 1 and ``span`` its interval.
    """

    text: str
    value: float | int | None = None
    small: str = ""
    name: str = ""
    tone: str = ""
    at: float | None = None
    span: tuple[float, float] | None = None

    @property
    def style(self) -> str:
        """The places of the drawing, for the style sheet."""
        if self.at is None:
            return ""
        low, high = self.span or (self.at, self.at)
        return f"--at:{_percent(self.at)};--lo:{_percent(low)};--hi:{_percent(high)}"


@dataclass(frozen=True, slots=True)
class Head:
    """The heading of a row that stands for a series: its colour, dash and marker."""

    text: str
    run: int
    small: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``id`` is for tests and links."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str | Cell | Head]]
    id: str = ""


def _percent(share: float) -> str:
    return f"{round(100 * min(max(share, 0.0), 1.0), 2)}%"
