"""Which trial of a method counts: chosen on validation items, before any test item is looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is known of a trial from validation items.

    Attributes:
        trial: its number.
        complete: all of its seeds came to their end.
        objective: by level, the mean forgotten share over seeds, or None where a seed never reaches the level.
        steps: by level, the mean number of optimizer steps to it, likewise.
        learned: the share learned at the end, mean over seeds.
    """

    trial: int
    complete: bool
    objective: dict[float, float | None]
    steps: dict[float, float | None]
    learned: float


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen trial, the level at which it was compared (None: by what it learned), its objective there, and why, in words."""

    trial: int
    level: float | None
    value: float | None
    why: str


def choose(candidates: Sequence[Candidate]) -> Choice | None:
    """The trial that forgets least at the highest level that any trial reaches in all its seeds.

    Ties go to the one that needs fewer steps to that level, then to the earlier one. Where no level is reached, the one that learned
    most. Trials with missing seeds count only where no other is left.

    Returns:
        The choice, or None without any candidate.
    """
    pool = [one for one in candidates if one.complete] or list(candidates)
    if not pool:
        return None
    for level in sorted({level for one in pool for level in one.objective}, reverse=True):
        reaching = [one for one in pool if one.objective[level] is not None]
        if reaching:
            least = min(one.objective[level] or 0.0 for one in reaching)
            tied = [one for one in reaching if (one.objective[level] or 0.0) <= least + TIE]
            best = min(tied, key=lambda one: (one.steps[level] or 0.0, one.trial))
            why = f"least forgotten on validation items at {level:.0%} learned: {least:.1%}, of {_count(reaching, pool)} that reach it"
            return Choice(best.trial, level, best.objective[level], why + (f"; {len(tied)} tied, fewest steps" if len(tied) > 1 else ""))
    best = max(pool, key=lambda one: (one.learned, -one.trial))
    return Choice(best.trial, None, None, f"no trial reaches a level in all its seeds; this one learned most, {best.learned:.0%}")


def ranked(candidates: Sequence[Candidate]) -> list[int]:
    """The numbers of the trials, the one that `choose` takes first, then the one that it would take without it, and so on."""
    left, order = list(candidates), []
    while (found := choose(left)) is not None:
        order.append(found.trial)
        left = [one for one in left if one.trial != found.trial]
    return order


def _count(reaching: Sequence[Candidate], pool: Sequence[Candidate]) -> str:
    return f"{len(reaching)} of {len(pool)} trials"
