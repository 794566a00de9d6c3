"""What the gate asks for, and how it stands: shares of counts, or exact bounds on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ALL = "all"
SHOWN = 10
"""Items listed with a criterion that failed."""
Kind = Literal["forgetting", "learned", "refusal drop"]


@dataclass(frozen=True, slots=True)
class Tally:
    """What the gate needs to know of one part.

    Attributes:
        part: its name.
        retain, inject: whether it counts for forgetting, for learning.
        refuses: whether being right is to refuse.
        n: items.
        before, learned, forgotten: right before; wrong before and right after; right before and wrong after.
        forgotten_items, missed_items: the first that were forgotten, that were not learned, each in a line, where single items are known.
        pooled: whether it counts for ``all`` (of several metrics on the same items only the first does).
    """

    part: str
    retain: bool
    inject: bool
    refuses: bool
    n: int
    before: int
    learned: int
    forgotten: int
    forgotten_items: tuple[str, ...] = ()
    missed_items: tuple[str, ...] = ()
    pooled: bool = True


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that was asked for, and how it stands.

    Attributes:
        kind: forgetting, learned or refusal drop.
        part: a part's name, or ``all``.
        count, of: so many of so many.
        share: what they are of each other; None where there is nothing to divide by.
        bound: what decides in place of the share, with a confidence.
        limit: what it may be at most (learned: at least).
        status: undecided where there is nothing to judge by.
        decides: whether undecided keeps the gate from passing: of what stands for all parts of its kind.
        why: in words.
        items: the first items that speak against it.
    """

    kind: Kind
    part: str
    count: int
    of: int
    share: float | None
    bound: float | None
    limit: float
    status: Literal["passed", "failed", "undecided"]
    decides: bool
    why: str
    items: tuple[str, ...] = ()


def criteria(kind: Kind, tallies: Sequence[Tally], limit: float | None, confidence: float | None) -> list[Criterion]:
    """How each part stands, and all of them together where there are several; nothing where nothing is asked."""
    if limit is None:
        return []
    own = [one for one in tallies if one.pooled]
    if len(tallies) == 1:
        return [_judged(kind, tallies[0].part, _counts(kind, tallies[0]), limit, confidence, _items(kind, tallies[0]), decides=True)]
    found = [_judged(kind, one.part, _counts(kind, one), limit, confidence, _items(kind, one), decides=False) for one in tallies]
    count, of, back = (sum(column) for column in zip(*(_counts(kind, one) for one in own), (0, 0, 0), strict=True))
    items = tuple(f"{one.part}: {line}" for one in own for line in _items(kind, one))[:SHOWN]
    return [*found, _judged(kind, ALL, (count, of, back), limit, confidence, items, decides=True)]


def _counts(kind: Kind, tally: Tally) -> tuple[int, int, int]:
    """So many, of so many, and how many speak for the opposite."""
    if kind == "learned":
        return tally.learned, tally.n - tally.before, 0
    return (tally.forgotten, tally.before, 0) if kind == "forgetting" else (tally.forgotten, tally.n, tally.learned)


def _items(kind: Kind, tally: Tally) -> tuple[str, ...]:
    return tally.missed_items if kind == "learned" else tally.forgotten_items


def _judged(
    kind: Kind, part: str, counts: tuple[int, int, int], limit: float, confidence: float | None, items: tuple[str, ...], *, decides: bool
) -> Criterion:
    count, of, back = counts
    if not of:
        known = {"forgetting": "known before", "learned": "unknown before", "refusal drop": "asked"}[kind]
        return Criterion(kind, part, 0, 0, None, None, limit, "undecided", decides, f"no item was {known}, so there is nothing to judge by")
    share = (count - back) / of
    bound = None
    if confidence is not None:  # of a refusal drop: that of the share lost, which is never less than the drop
        bound = lower(count, of, confidence) if kind == "learned" else upper(count, of, confidence)
    value = share if bound is None else bound
    passed = value >= limit if kind == "learned" else value <= limit
    verb = {"forgetting": f"forgot {count} of {of} known", "learned": f"learned {count} of {of} unknown"}.get(
        kind, f"refuses {count - back} fewer of {of}" if count >= back else f"refuses {back - count} more of {of}"
    )
    side = "at least" if kind == "learned" else "at most"
    sure = "" if bound is None else f", {side} {bound:.2%} with {confidence:.0%} confidence"
    why = f"{verb} ({share:.2%}{sure}); asked for is {side} {limit:.2%}"
    if bound is not None and not passed:
        why += _needed(kind, count, of, limit, confidence or 0.0)
    return Criterion(
        kind, part, count - back, of, share, bound, limit, "passed" if passed else "failed", decides, why, () if passed else items
    )


def _needed(kind: Kind, count: int, of: int, limit: float, confidence: float) -> str:
    """How many items it takes where not even a perfect result could have passed."""
    least = math.log(1 - confidence)
    if kind == "learned":
        if lower(of, of, confidence) >= limit or not 0 < limit < 1:
            return ""
        return f"; at least {math.ceil(least / math.log(limit))} items are needed to say so"
    if upper(0, of, confidence) <= limit or not 0 < limit < 1:
        return ""
    return f"; at least {math.ceil(least / math.log1p(-limit))} items are needed to say so"


def upper(count: int, of: int, confidence: float) -> float:
    """The largest share with which so few, or fewer, come about with a probability of 1 - confidence (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    return 1.0 if count == of else float(beta.ppf(confidence, count + 1, of - count))


def lower(count: int, of: int, confidence: float) -> float:
    """The smallest share with which so many, or more, come about with a probability of 1 - confidence."""
    return 1.0 - upper(of - count, of, confidence)
