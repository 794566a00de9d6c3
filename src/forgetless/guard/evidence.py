"""How sure a count of forgotten items makes one: an alarm that may be asked again and again, and intervals."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def within(count: int, total: int, allowed: float) -> bool:
    """Whether ``count`` of ``total`` is at most the share ``allowed``; that a product such as 0.29 * 100 is rounded down breaks nothing."""
    return count <= allowed * total + 1e-12


def tail(count: int, total: int, share: float) -> float:
    r"""The chance of at least ``count`` forgotten of ``total`` where each is with chance ``share``: :math:`P(X \ge c)`, X binomial."""
    from scipy.stats import binom

    return float(binom.sf(count - 1, total, share))


def level(look: int, alpha: float = 1 - CONFIDENCE) -> float:
    r"""What the look number ``look`` (from 1) may spend of ``alpha``: :math:`\alpha / (k (k + 1))`, which sums to alpha over all looks.

    Spending a test's level over looks: Pocock 1977, doi 10.1093/biomet/64.2.191; Lan & DeMets 1983, doi 10.1093/biomet/70.3.659. By
    the union bound nothing is assumed of how looks depend on each other, and the number of looks need not be known.
    """
    return alpha / (look * (look + 1))


def alarms(count: int, total: int, allowed: float, look: int) -> bool:
    """Whether this look proves that more than ``allowed`` is forgotten, with all looks of a run in mind.

    Guarantee: where the chance that an item is forgotten is at most ``allowed`` at every look, the chance that any look of a whole run
    alarms is at most 5%, however many looks there are. It holds for a probe drawn from the items of interest and weights that do not
    depend on it; the guard's acts make them depend on it by the few bits of what it did, which is why the verdict is given on other
    items.
    """
    return count > allowed * total and tail(count, total, allowed) <= level(look)


def interval(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The exact two-sided interval of a share (Clopper & Pearson 1934)."""
    from scipy.stats import binomtest

    found = binomtest(count, total).proportion_ci(confidence, method="exact")
    return float(found.low), float(found.high)


def upper(count: int, total: int, confidence: float = CONFIDENCE) -> float:
    """The exact one-sided upper bound of a share (Clopper & Pearson 1934): what ``count`` of ``total`` still leaves possible."""
    from scipy.stats import beta

    return 1.0 if count >= total else float(beta.ppf(confidence, count + 1, total - count))


def needed(allowed: float, confidence: float = CONFIDENCE) -> int | None:
    """How many items it takes until none forgotten of them shows that at most ``allowed`` is; None where no number is enough."""
    if not allowed:
        return None
    return 1 if allowed >= 1 else math.ceil(math.log(1 - confidence) / math.log1p(-allowed))
