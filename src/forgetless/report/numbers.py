"""Counts as shares with their interval, and numbers as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from forgetless.evaluation.paired import share_interval

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"  # where a figure does not exist


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` out of ``total`` items."""

    count: int
    total: int

    @property
    def share(self) -> float | None:
        """The share from 0 to 1; None where there are no items to count."""
        return self.count / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The exact 95% interval of the share: how far it could lie off by the choice of items alone."""
        return share_interval(self.count, self.total) if self.total else None

    def __str__(self) -> str:
        return f"{self.count} of {self.total}"


def percent(value: float | None) -> str:
    """A share as a percentage; never rounds what is not all or nothing to 100% or 0%."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value) * 100
    sign = MINUS if value < 0 else ""
    if 0 < size < 0.1:
        return f"{sign}<0.1%"
    if 99.5 <= size < 100:
        return f"{sign}{min(size, 99.9):.1f}%"
    return f"{sign}{size:.1f}%" if 0 < size < 10 and round(size, 1) % 1 else f"{sign}{size:.0f}%"


def points(value: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    size = f"{abs(value) * 100:.1f}"
    return "0.0" if size == "0.0" else (MINUS if value < 0 else "+") + size


def p_value(value: float) -> str:
    """A p-value as ``p = 0.03`` or ``p < 0.001``."""
    if value < 0.001:
        return "p < 0.001"
    return f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def duration(seconds: float | None) -> str:
    """Seconds as people say them: ``4.2 s``, ``2 min 31 s``, ``1 h 04 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory(size: float | None) -> str:
    """Bytes in decimal units."""
    if size is None or not math.isfinite(size):
        return NONE
    value = float(size)
    for unit in ("B", "kB", "MB"):
        if value < 999.5:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB" if value < 99.95 else f"{value:,.0f} GB"


def plain(value: float | None) -> str:
    """Any number in about four significant digits."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    if value < 0:
        return MINUS + plain(-value)
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.001 else f"{value:.1e}"


def short(value: float) -> str:
    """A number beside an axis: in two significant digits, and zero where only rounding keeps it from being that."""
    return "0" if abs(value) < 1e-15 else f"{value:.2g}"


def ratio(value: float) -> str:
    """A factor such as ``2.7x``."""
    return f"{value:.2g}x" if value < 10 else f"{value:,.0f}x"
