"""Before against after on the same items: exact tests and intervals; and means over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

RESAMPLES = 10_000
DRAWN = 4_000_000
"""Items drawn at a time when means are resampled: 32 MB."""
EQUAL = 1e-12
"""Values that differ by no more are equal: rounding alone parts them."""


@dataclass(frozen=True, slots=True)
class Paired:
    """A paired comparison of right and wrong on ``n`` items.

    Attributes:
        n: items.
        before, after: how many were right.
        learned: wrong before, right after.
        forgotten: right before, wrong after.
        p_value: exact two-sided McNemar test of learned against forgotten.
        difference: accuracy after minus before, in [-1, 1].
        low, high: 95% percentile bootstrap interval of the difference, over items.
    """

    n: int
    before: int
    after: int
    learned: int
    forgotten: int
    p_value: float
    difference: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


def compare(before: Sequence[bool], after: Sequence[bool], *, seed: int = 0) -> Paired:
    """Compare verdicts on the same items in the same order.

    The bootstrap resamples items; since only learned and forgotten ones count, their numbers are drawn from the
    multinomial distribution, which is the same thing. Where nothing changed the interval is [0, 0]: read `share_interval` beside it.

    Raises:
        ValueError: the lengths differ or there is no item.
    """
    import numpy
    from scipy.stats import binomtest

    if len(before) != len(after) or not before:
        raise ValueError(f"{len(before)} verdicts before and {len(after)} after: the same items are needed, at least one")
    n = len(before)
    learned = sum(not b and a for b, a in zip(before, after, strict=True))
    forgotten = sum(b and not a for b, a in zip(before, after, strict=True))
    p = float(binomtest(learned, learned + forgotten).pvalue) if learned + forgotten else 1.0
    shares = [learned / n, forgotten / n, (n - learned - forgotten) / n]
    draws = numpy.random.default_rng(seed).multinomial(n, shares, size=RESAMPLES)
    low, high = numpy.quantile((draws[:, 0] - draws[:, 1]) / n, [0.025, 0.975])
    return Paired(n, sum(before), sum(after), learned, forgotten, p, (learned - forgotten) / n, float(low), float(high))


def share_interval(count: int, total: int) -> tuple[float, float]:
    """95% exact (Clopper-Pearson) interval of a share: what 0 of 71 still leaves possible."""
    from scipy.stats import binomtest

    interval = binomtest(count, total).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)


def mean_interval(values: Sequence[float], *, seed: int = 0) -> tuple[float, float, float]:
    """The mean of paired differences and its 95% percentile bootstrap interval, over items.

    Raises:
        ValueError: there is no value.
    """
    import numpy

    if not values:
        raise ValueError("no values to average")
    data = numpy.asarray(values, dtype=float)
    generator = numpy.random.default_rng(seed)
    means = numpy.empty(RESAMPLES)
    rows = max(1, DRAWN // len(data))
    for start in range(0, RESAMPLES, rows):
        part = means[start : start + rows]
        part[:] = data[generator.integers(0, len(data), size=(len(part), len(data)))].mean(axis=1)
    low, high = numpy.quantile(means, [0.025, 0.975])
    return float(data.mean()), float(low), float(high)


def seed_interval(values: Sequence[float], *, least: float = -math.inf, most: float = math.inf) -> tuple[float, float, float]:
    """The mean over trainings with different seeds and its 95% Student-t interval, that of the t-test.

    Args:
        values: one for each seed, two at least; where all are equal the interval has no width.
        least, most: what no value can be below or above; the interval is cut there.

    Raises:
        ValueError: there are fewer than two values.
    """
    import numpy
    from scipy.stats import t

    if len(values) < 2:
        raise ValueError(f"{len(values)} values have no interval, two are needed")
    mean = float(numpy.mean(values))
    if max(values) - min(values) <= EQUAL:
        return mean, mean, mean
    half = float(t.ppf(0.975, len(values) - 1) * numpy.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, max(mean - half, least), min(mean + half, most)
