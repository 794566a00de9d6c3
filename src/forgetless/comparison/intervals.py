"""What seeds and items allow to say about a mean and about a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.evaluation.paired import mean_interval

Interval = dict[str, Any]
"""``mean``, ``low``, ``high`` (95%, None with a single seed) and ``n``, the number of seeds."""


def over_seeds(values: Sequence[float | None]) -> Interval | None:
    """The mean over seeds with a 95% percentile bootstrap interval; None where there is no value.

    With few seeds such an interval is too narrow: with 3 of them it covers the mean in about 75% of cases, not 95%.
    """
    found = [value for value in values if value is not None]
    if not found:
        return None
    if len(found) == 1:
        return {"mean": found[0], "low": None, "high": None, "n": 1}
    mean, low, high = mean_interval(found)
    return {"mean": mean, "low": low, "high": high, "n": len(found)}


def seed_difference(one: Sequence[float], other: Sequence[float]) -> dict[str, Any]:
    """``one`` minus ``other``, paired by seed.

    Returns:
        ``difference`` with its bootstrap interval ``low`` to ``high`` over seeds, ``p`` of the two-sided paired t-test, and ``n`` seeds.
        Interval and p are None with a single seed; p is None too where all differences are equal and not zero, since such a test
        knows no noise then, and 1 where all are zero.
    """
    from scipy.stats import ttest_rel

    differences = [a - b for a, b in zip(one, other, strict=True)]
    spread = over_seeds(differences)
    if spread is None:
        return {"difference": None, "low": None, "high": None, "p": None, "n": 0}
    p = None
    if len(differences) > 1:
        if max(differences) - min(differences) > 1e-12:
            p = float(ttest_rel(one, other).pvalue)
        elif abs(differences[0]) <= 1e-12:
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
