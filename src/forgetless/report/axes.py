"""The axes of charts: their ends, their ticks and how values are written on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis from ``low`` to ``high`` with its ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    text: Callable[[float], str]


def axis(
    label: str,
    values: Sequence[float],
    text: Callable[[float], str],
    *,
    whole: bool = False,
    start: float | None = None,
    end: float | None = None,
) -> Axis:
    """An axis with round ticks that covers ``values``; ``start`` and ``end`` fix its ends, ``whole`` keeps ticks whole."""
    finite = [value for value in values if math.isfinite(value)]
    low = start if start is not None else min(finite, default=0.0)
    high = end if end is not None else max(finite, default=1.0)
    if high <= low:
        high = low + 1.0
    step = _round_step((high - low) / 5)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    if end is None:
        high = math.ceil(round(high / step, 6)) * step
    if start is None:
        low = math.floor(round(low / step, 6)) * step
    count = int((high - low) / step + 1e-6)
    return Axis(label, low, high, [low + step * i for i in range(count + 1)], text)


def categories(label: str, names: Sequence[str]) -> Axis:
    """An axis with a place for each name, the first on top."""
    places = [float(-place) for place in range(len(names))]
    return Axis(label, -len(names) + 0.5, 0.5, places, lambda place: names[round(-place)])


def _round_step(rough: float) -> float:
    magnitude = float(10 ** math.floor(math.log10(rough)))
    return next(magnitude * factor for factor in (1, 2, 2.5, 5, 10) if rough <= magnitude * factor * (1 + 1e-9))
