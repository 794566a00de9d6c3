"""What seeds and items allow to say about a mean and about a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.evaluation.paired import EQUAL, seed_interval

Interval = dict[str, Any]
"""``mean``, ``low``, ``high`` (95%, None with a single seed) and ``n``, the number of seeds."""
SHARE, AMOUNT = (0.0, 1.0), (0.0, math.inf)
"""What a share, and what seconds, bytes and steps cannot leave."""


def over_seeds(values: Sequence[float | None], within: tuple[float, float] = (-math.inf, math.inf)) -> Interval | None:
    """The mean over seeds with its 95% Student-t interval, cut to ``within``; None where there is no value."""
    found = [value for value in values if value is not None]
    if not found:
        return None
    if len(found) == 1:
        return {"mean": found[0], "low": None, "high": None, "n": 1}
    mean, low, high = seed_interval(found, least=within[0], most=within[1])
    return {"mean": mean, "low": low, "high": high, "n": len(found)}


def seed_difference(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """``one`` minus ``other``, paired by seed.

    Returns:
        ``difference`` with its Student-t interval ``low`` to ``high`` over seeds, ``p`` of the two-sided paired t-test, which is below
        0.05 where the interval leaves out 0, and ``n`` seeds. Interval and p are None with a single seed; p is None too where all
        differences are equal and not zero, since such a test knows no noise then, and 1 where all are zero.
    """
    from scipy.stats import ttest_rel

    differences = [a - b for a, b in zip(one, other, strict=True)]
    spread = over_seeds(differences)
    if spread is None:
        return {"difference": None, "low": None, "high": None, "p": None, "n": 0}
    p = None
    if len(differences) > 1:
        if max(differences) - min(differences) > EQUAL:
            p = float(ttest_rel(one, other).pvalue)
        elif abs(differences[0]) <= EQUAL:
            p = 1.0
    return {"difference": spread["mean"], "low": spread["low"], "high": spread["high"], "p": p, "n": spread["n"]}


def item_difference(one: Sequence[Mapping[Any, bool]], other: Sequence[Mapping[Any, bool]]) -> dict[str, Any]:
    """Items forgotten under ``one`` against ``other``: for each paired seed a verdict an item, pooled over seeds.

    The unit is the item: over the seeds that have it (all, or those that drew it) its verdicts are added up, since the same item in
    another seed is no new evidence. The test is the exact two-sided sign-flip test of the sum of those differences; with one seed that
    is McNemar's exact test.

    Args:
        one, other: for each seed, in the same order, the verdicts by item; within a seed both have the same items.

    Returns:
        ``difference``: mean over all verdicts of forgotten under one minus under the other, ``p``, ``n`` items, and ``worse`` and
        ``better``, the items forgotten in more and in fewer seeds.
    """
    by_item: dict[Any, int] = {}
    verdicts = 0
    for a, b in zip(one, other, strict=True):
        if a.keys() != b.keys():
            raise ValueError("the two have different items at the same seed")
        verdicts += len(a)
        for item in a:
            by_item[item] = by_item.get(item, 0) + int(a[item]) - int(b[item])
    sums, n = list(by_item.values()), len(by_item)
    if not n:
        return {"difference": None, "p": None, "n": 0, "worse": 0, "better": 0}
    return {
        "difference": sum(sums) / verdicts,
        "p": sign_flip(sums),
        "n": n,
        "worse": sum(value > 0 for value in sums),
        "better": sum(value < 0 for value in sums),
    }


def sign_flip(differences: Sequence[int]) -> float:
    """The exact chance that whole numbers with random signs add up to as much as these do, in absolute value."""
    ways = {0: 1}
    for size in (abs(value) for value in differences if value):
        more: dict[int, int] = {}
        for total, count in ways.items():
            for moved in (total - size, total + size):
                more[moved] = more.get(moved, 0) + count
        ways = more
    extreme = sum(count for total, count in ways.items() if abs(total) >= abs(sum(differences)))
    return extreme / sum(ways.values())
