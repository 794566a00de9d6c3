"""A row of ``results.jsonl``, and the curve of one training that it holds.

A row has only what a repeated run gives again, bit for bit:
``{"cell", "data", "label", "method", "options", "optimizer", "lr", "trial", "seed", "status", "reason", "steps", "epochs",
"stopped_because", "trajectory": [{"epoch", "step", "splits": {name: {"total", "right", "right_before", "learned", "forgotten"}},
"validation": {name: {"right_before", "forgotten"}}}], "right": {name: "0110.."}}``.

``status`` is finished, failed or pruned, with a ``reason`` for the latter two. ``validation`` counts among the items of a split to keep
those that serve the choice; the others are the test items. ``right`` are the verdicts at the end, an item a character, in the order of
``items.json``: ``{data: {split: {"kind": "inject"|"inject-heldout"|"A"|"B"|"C", "ids", "before": "0110..", "validation": "0010.."}}}``.
A data set whose files differ by seed stands there once a seed, as ``data@seed``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEPT = ("A", "B", "C")
SPLITS = {"inject": "inject", "inject-heldout": "inject-heldout", "retain": "A", "retain-heldout": "B"}


def kind_of(split: str) -> str:
    """inject, inject-heldout, A, B or C."""
    return SPLITS.get(split, "C")


def validation_marks(identities: Sequence[str], share: float) -> str:
    """Which items serve the choice: a character an item, 1 for that ``share`` of them whose ids have the smallest SHA-256.

    So decided by the ids alone, and the same in every run.
    """
    order = sorted(range(len(identities)), key=lambda index: hashlib.sha256(identities[index].encode()).digest())
    chosen = set(order[: round(share * len(order))])
    return "".join("01"[index in chosen] for index in range(len(order)))


def marks_by_share(identities: Sequence[str], share: float) -> str:
    """As `validation_marks`, but each id for itself: 1 where its SHA-256 is in the lowest ``share`` of all that there are.

    So an item that several seeds draw serves the choice in all of them or in none, whatever else each of them drew.
    """
    bound = int(share * 2**256)
    return "".join("01"[int.from_bytes(hashlib.sha256(one.encode()).digest()) < bound] for one in identities)


def own_items(row: Mapping[str, Any], items: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``items.json`` says of the questions of a row."""
    found: Mapping[str, Any] = items.get(f"{row['data']}@{row['seed']}") or items[row["data"]]
    return found


@dataclass(frozen=True, slots=True)
class Curve:
    """One training, scoring by scoring, from before it on.

    Attributes:
        epochs, steps: where each scoring stands.
        learned: the share of the unknown inject items that is right.
        kept: by kind, the forgotten share of the items known before; None where there are none.
        seconds: of training so far, or None where costs are not known.
    """

    epochs: list[int]
    steps: list[float]
    learned: list[float]
    kept: dict[str, list[float] | None]
    seconds: list[float] | None

    def reaches(self, level: float) -> bool:
        """Whether so much was learned at some scoring."""
        return max(self.learned) >= level

    def points(self) -> list[dict[str, Any]]:
        """The scorings, for JSON."""
        return [
            {
                "epoch": epoch,
                "step": int(self.steps[index]),
                "seconds": self.seconds[index] if self.seconds else None,
                "learned": self.learned[index],
                **{kind: values[index] if values else None for kind, values in self.kept.items()},
            }
            for index, epoch in enumerate(self.epochs)
        ]


def curve(row: Mapping[str, Any], cost: Mapping[str, Any] | None, items: Mapping[str, Any], part: str) -> Curve:
    """The curve of a finished row on the ``part`` (test or validation) of the items to keep."""
    told = row["trajectory"]
    kept: dict[str, list[float] | None] = {}
    for kind in KEPT:
        names = [name for name in items if items[name]["kind"] == kind]
        shares = [_share(point, names, part) for point in told]
        kept[kind] = [share for share in shares if share is not None] or None
    return Curve(
        epochs=[point["epoch"] for point in told],
        steps=[float(point["step"]) for point in told],
        learned=[_learned(point["splits"]["inject"]) for point in told],
        kept=kept,
        seconds=[float(value) for value in cost["seconds_at"]] if cost else None,
    )


def _learned(table: Mapping[str, int]) -> float:
    return table["learned"] / (table["total"] - table["right_before"])


def _share(point: Mapping[str, Any], names: Sequence[str], part: str) -> float | None:
    """The forgotten share of a part of the splits together, None where nothing in it was known."""
    known = lost = 0
    for name in names:
        whole, chosen = point["splits"][name], point["validation"][name]
        sign, base = (1, (0, 0)) if part == "validation" else (-1, (whole["right_before"], whole["forgotten"]))
        known += base[0] + sign * chosen["right_before"]
        lost += base[1] + sign * chosen["forgotten"]
    return lost / known if known else None


def forgotten_items(row: Mapping[str, Any], items: Mapping[str, Any], kind: str) -> dict[tuple[str, str], bool]:
    """For each test item of a kind that was known before, by split and id, whether it was forgotten at the end."""
    found = {}
    for name, part in items.items():
        if part["kind"] == kind:
            for one, before, chosen, after in zip(part["ids"], part["before"], part["validation"], row["right"][name], strict=True):
                if before == "1" and chosen == "0":
                    found[name, one] = after == "0"
    return found
