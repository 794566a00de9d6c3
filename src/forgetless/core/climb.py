"""Looking for the best whole number by asking for few."""

from __future__ import annotations

import math
from collections.abc import Callable


def climb(score: Callable[[int], float], trials: int, near: float) -> dict[int, float]:
    """Look for the best whole number from 0 on, in steps of 2 towards better scores and then of 1 about the best.

    A score that is lower by at most ``near`` counts as equal, and of equal ones the greater number as better; of nothing but
    negative infinity the smallest.

    Args:
        score: asked at most ``trials`` times.
        trials: at least 1.
        near: what counts as equal.

    Returns:
        The scores by number.
    """
    found = {0: score(0)}

    def best() -> int:
        top = max(found.values())
        if top == -math.inf:
            return min(found)
        return max(number for number in found if found[number] >= top - near)

    def ask(number: int) -> None:
        if number not in found and len(found) < trials:
            found[number] = score(number)

    ask(-2 if found[0] == -math.inf else 2)
    while len(found) < trials:
        here, low, high = best(), min(found), max(found)
        if here in (low, high):
            ask(here + 2 if here == high else here - 2)
        elif here + 1 not in found or here - 1 not in found:
            ask(here + 1 if here + 1 not in found else here - 1)
        else:
            break
    return found
