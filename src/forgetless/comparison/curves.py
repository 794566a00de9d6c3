"""Forgetting as a function of learning along one training: at a level, and on the whole."""

from __future__ import annotations

from collections.abc import Sequence


def at_level(learned: Sequence[float], values: Sequence[float], level: float) -> float | None:
    """A quantity at the moment at which a share is learned, interpolated linearly between the two scorings around it.

    Learning may fall back between two scorings; the first moment counts.

    Args:
        learned: the share learned at each scoring, in [0, 1], beginning with 0 before training.
        values: the quantity at the same scorings.
        level: the share, above 0.

    Returns:
        The value, or None where the level is never reached.
    """
    for index in range(1, len(learned)):
        low, high = learned[index - 1], learned[index]
        if low < level <= high:
            share = (level - low) / (high - low)
            return values[index - 1] + share * (values[index] - values[index - 1])
    return None


def area(learned: Sequence[float], values: Sequence[float], top: float) -> float | None:
    r"""The mean over $l \in (0, top]$ of a quantity at the first moment at which $l$ is learned.

    $\frac{1}{top}\int_0^{top} f(l)\,dl$ with $f$ as in `at_level`, by trapezoids, which is exact since $f$ is linear in pieces. For a
    forgotten share this is in [0, 1], and lower is better.

    Returns:
        The mean, or None where ``top`` is never reached.
    """
    total = done = 0.0
    for index in range(1, len(learned)):
        low, high = learned[index - 1], min(learned[index], top)
        if high <= done:
            continue
        slope = (values[index] - values[index - 1]) / (learned[index] - low)
        first, last = values[index - 1] + slope * (done - low), values[index - 1] + slope * (high - low)
        total, done = total + (first + last) / 2 * (high - done), high
    return total / top if done >= top else None


def frontier(points: Sequence[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Of points (learned, forgotten, trial) those that no other one beats: none learned as much or more and forgot as little or less.

    In order of what is learned; of equal points the first one stays.
    """
    kept: list[tuple[float, float, int]] = []
    for point in sorted(points, key=lambda p: (-p[0], p[1])):
        if not kept or point[1] < kept[-1][1]:
            kept.append(point)
    return kept[::-1]
