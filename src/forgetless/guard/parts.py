"""Who sees which of the known items: the method its reference, the guard its probe, and nobody the promise's before the end."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from forgetless.data.question import Question
from forgetless.data.rows import content_key

PROBE, PROMISE = 0.3, 0.3
"""Shares of the retain set; the reference is the rest."""
PROBE_BESIDE_HELDOUT = 0.4
"""The probe's share of the retain set where the promise's items come from elsewhere."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The known items by who may see them: no question stands in two.

    Attributes:
        reference: what the method trains on or compares with.
        probe: what the guard looks at.
        promise: what the verdict is given on.
    """

    reference: list[Question]
    probe: list[Question]
    promise: list[Question]


def divide(retain: Sequence[Question], heldout: Sequence[Question] | None, seed: int, *, reference: bool = True) -> Parts:
    """Deal out the retain set: 40% reference, 30% probe, 30% promise; with a held-out set that is the promise, and 60% the reference.

    Without ``reference`` probe and promise share all of it alike.

    Every item's place depends on its content and the seed alone, and in every subject the shares are alike (as far as they are whole
    numbers), so a run that goes on, or one with its lines in another order, deals the same way. Questions of the same content stay
    together.
    """
    groups: dict[str, list[Question]] = {}
    for question in retain:
        groups.setdefault(str(content_key(question)), []).append(question)
    subjects: dict[str, list[str]] = {}
    for key, group in groups.items():
        subjects.setdefault(group[0].subject or "", []).append(key)
    for subject in [name for name, keys in subjects.items() if len(keys) == 1 and name]:
        subjects.setdefault("", []).extend(subjects.pop(subject))  # each row names its own
    shares = [0.0, PROBE, PROMISE] if heldout is None else [0.0, PROBE_BESIDE_HELDOUT, 0.0]
    shares = [share / sum(shares) for share in shares] if not reference else [1 - sum(shares), *shares[1:]]
    place: dict[str, int] = {}
    given = [0, 0, 0]
    for subject in sorted(subjects):
        for key in sorted(subjects[subject], key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest()):
            total = sum(given) + 1
            part = max(range(3), key=lambda part: (shares[part] * total - given[part], -part))  # the one that lacks most
            given[part] += 1
            place[key] = part
    found: list[list[Question]] = [[], [], []]
    for question in retain:  # in the order of the file
        found[place[str(content_key(question))]].append(question)
    return Parts(found[0], found[1], found[2] if heldout is None else list(heldout))
