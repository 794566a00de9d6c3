"""Correlations over items or runs, with an interval, and how well a prediction fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rank correlation and Pearson's, each with a 95% percentile bootstrap interval over the pairs.

    All are None where there are fewer than three pairs or one side does not vary; an interval where resamples do not vary enough.
    """

    n: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    pearson: float | None
    pearson_low: float | None
    pearson_high: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values, for JSON."""
        return asdict(self)


def correlation(one: Sequence[float], other: Sequence[float], *, seed: int = 0) -> Correlation:
    """How two figures of the same items go together. The bootstrap draws pairs; resamples that do not vary are left out.

    Raises:
        ValueError: the lengths differ.
    """
    import numpy
    from scipy.stats import rankdata

    x, y = numpy.asarray(one, dtype=float), numpy.asarray(other, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"{x.shape} and {y.shape}: two rows of the same length are needed")
    n = len(x)
    draw = numpy.random.default_rng(seed)
    picks = [numpy.arange(n), *(draw.integers(0, n, size=n) for _ in range(RESAMPLES if n >= 3 else 0))]
    found: dict[str, list[float | None]] = {}
    for name, ranked in (("spearman", True), ("pearson", False)):
        values: list[float | None] = []
        for pick in picks:
            a, b = (rankdata(x[pick]), rankdata(y[pick])) if ranked else (x[pick], y[pick])
            values.append(_pearson(a, b) if n >= 3 else None)
        drawn = [value for value in values[1:] if value is not None]
        enough = values[0] is not None and len(drawn) >= RESAMPLES / 2
        low, high = numpy.quantile(drawn, [0.025, 0.975]).tolist() if enough else (None, None)
        found[name] = [values[0], low, high]
    return Correlation(n, *found["spearman"], *found["pearson"])


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """The rank correlation alone; None where there are fewer than three pairs or one side does not vary."""
    from scipy.stats import rankdata

    return _pearson(rankdata(one), rankdata(other)) if len(one) == len(other) >= 3 else None


def _pearson(a: object, b: object) -> float | None:
    import numpy

    x, y = numpy.asarray(a, dtype=float), numpy.asarray(b, dtype=float)
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float((x * x).sum()) * float((y * y).sum()))
    return float((x * y).sum()) / scale if scale > 0 else None


def determination(predicted: Sequence[float], real: Sequence[float]) -> float | None:
    r"""The coefficient of determination of a prediction, :math:`R^2 = 1 - \frac{\sum (r_i - p_i)^2}{\sum (r_i - \bar r)^2}`.

    1 is perfect, 0 no better than the mean of what really happened, and there is no lower bound. It judges the size as well as the
    order, unlike a squared correlation. None where the real values do not vary, or vary too little beside the errors for a float64.

    Raises:
        ValueError: the lengths differ.
    """
    scale = max((max(abs(p), abs(r)) for p, r in zip(predicted, real, strict=True)), default=0.0) or 1.0
    p, r = [value / scale for value in predicted], [value / scale for value in real]
    mean = math.fsum(r) / len(r) if r else 0.0
    left, whole = math.fsum((b - a) ** 2 for a, b in zip(p, r, strict=True)), math.fsum((value - mean) ** 2 for value in r)
    return 1 - left / whole if whole > 1e-290 else None
