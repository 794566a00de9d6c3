"""The accuracy matrix of a stream and the figures that derive from it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

Row = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Matrix:
    """``accuracy[i][j]``: accuracy on task j after training task i (None: a method has no weights for a task to come).

    Attributes:
        accuracy: T rows of T shares.
        baseline: accuracy on each task of the untrained model.
    """

    accuracy: Sequence[Row]
    baseline: Row

    @property
    def acc(self) -> float:
        """ACC: mean accuracy over all tasks after the last (Lopez-Paz & Ranzato 2017, Eq. 2)."""
        return _mean(self.accuracy[-1]) or 0.0

    @property
    def bwt(self) -> float | None:
        """BWT, backward transfer: mean of R[T, j] - R[j, j] over all but the last task (Eq. 3); negative: forgotten."""
        last = len(self.accuracy) - 1
        return _mean([_minus(self.accuracy[last][j], self.accuracy[j][j]) for j in range(last)])

    @property
    def fwt(self) -> float | None:
        """FWT, forward transfer: mean of R[j-1, j] - baseline[j] over all but the first task (Eq. 4)."""
        return _mean([_minus(self.accuracy[j - 1][j], self.baseline[j]) for j in range(1, len(self.accuracy))])

    @property
    def forgetting(self) -> float | None:
        """Mean over all but the last task of the best accuracy ever had on it minus the last (Chaudhry 2018, Eq. 3)."""
        last = len(self.accuracy) - 1
        drops = []
        for j in range(last):
            had = [value for value in (self.accuracy[i][j] for i in range(j, last)) if value is not None]
            drops.append(_minus(max(had), self.accuracy[last][j]))
        return _mean(drops)

    def figures(self) -> dict[str, float | None]:
        """All four by name."""
        return {"acc": self.acc, "bwt": self.bwt, "fwt": self.fwt, "forgetting": self.forgetting}


def mean_and_error(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """The mean and its standard error (None for a single value) of what is not None."""
    found = [value for value in values if value is not None]
    if not found:
        return None, None
    error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else None
    return statistics.fmean(found), error


def _minus(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return statistics.fmean(found) if found else None
