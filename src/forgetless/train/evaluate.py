"""Verdicts on the splits of a run, and what changed between two sets of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.evaluation.paired import compare
from forgetless.evaluation.score import score
from forgetless.progress import bar
from forgetless.train.settings import INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT, Settings

Verdicts = dict[str, list[tuple[bool, str | None]]]
"""By split, for each question in order: whether the answer was right, and what it was."""


def evaluate(language: Language, splits: dict[str, list[Question]], settings: Settings, title: str, *, show: bool) -> Verdicts:
    """Score every question of every split."""
    found: Verdicts = {}
    with bar(title, sum(map(len, splits.values())), show=show) as advance:
        for name, questions in splits.items():
            verdicts = score(
                language,
                questions,
                scorer=settings.scorer,
                template=settings.template,
                batch_size=settings.eval_batch_size,
                advance=advance,
            )
            found[name] = [(bool(verdict.right), verdict.said) for verdict in verdicts]
    return found


def as_verdicts(kept: dict[str, Any]) -> Verdicts:
    """What was read back from JSON, which knows no tuples."""
    return {name: [(right, said) for right, said in rows] for name, rows in kept.items()}


def changes(before: Verdicts, after: Verdicts) -> dict[str, dict[str, int]]:
    """By split that ``after`` has: how many items there are, are right now, were learned and were forgotten."""
    table = {}
    for name, new in after.items():
        pairs = list(zip([right for right, _ in before[name]], [right for right, _ in new], strict=True))
        table[name] = {
            "total": len(pairs),
            "right": sum(now for _, now in pairs),
            "right_before": sum(was for was, _ in pairs),
            "learned": sum(now and not was for was, now in pairs),
            "forgotten": sum(was and not now for was, now in pairs),
        }
    return table


def marks(verdicts: Verdicts) -> dict[str, str]:
    """By split, a character for each question in order: 1 where its answer is right, else 0."""
    return {name: "".join("01"[right] for right, _ in found) for name, found in verdicts.items()}


def learned_share(table: dict[str, dict[str, int]]) -> float:
    """The share of the inject items that were wrong before and are right now."""
    unknown = table[INJECT]["total"] - table[INJECT]["right_before"]
    return table[INJECT]["learned"] / unknown if unknown else 1.0


def item_rows(splits: dict[str, list[Question]], before: Verdicts, after: Verdicts) -> list[dict[str, Any]]:
    """A row for each question of each split, for ``items.jsonl``."""
    return [
        {
            "id": question.id,
            "split": name,
            "subject": question.subject,
            "lang": question.lang,
            "prompt": question.prompt,
            "answer": question.answers[0] if question.answers else "",
            "before": old[0],
            "after": new[0],
            "said_before": old[1],
            "said_after": new[1],
        }
        for name, questions in splits.items()
        for question, old, new in zip(questions, before[name], after[name], strict=True)
    ]


def outcome(before: Verdicts, after: Verdicts) -> dict[str, Any]:
    """The counts, paired tests and intervals of ``summary.json``."""
    table = changes(before, after)
    paired = {
        name: compare([right for right, _ in before[name]], [right for right, _ in after[name]]).to_dict()
        for name in before
        if before[name]
    }

    def of(name: str, key: str) -> int | None:
        return table[name][key] if name in table else None

    unknown = {name: row["total"] - row["right_before"] for name, row in table.items()}
    return {
        "inject_total": unknown[INJECT],
        "learned": table[INJECT]["learned"],
        "inject_heldout_total": unknown.get(INJECT_HELDOUT),
        "learned_heldout": of(INJECT_HELDOUT, "learned"),
        "retain_total": of(RETAIN, "right_before"),
        "forgotten": of(RETAIN, "forgotten"),
        "retain_heldout_total": of(RETAIN_HELDOUT, "right_before"),
        "forgotten_heldout": of(RETAIN_HELDOUT, "forgotten"),
        "probes": {
            name: {"total": row["right_before"], "forgotten": row["forgotten"], "learned": row["learned"]}
            for name, row in table.items()
            if name not in (INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT)
        },
        "paired": paired,
    }


def verdict(found: dict[str, Any], method: Sequence[str]) -> str:
    """The outcome in a sentence."""
    parts = [f"{','.join(method)} learned {found['learned']} of {found['inject_total']}"]
    kept = [("retained", found["forgotten"], found["retain_total"])]
    kept.append(("held-out retained", found["forgotten_heldout"], found["retain_heldout_total"]))
    kept += [(name, probe["forgotten"], probe["total"]) for name, probe in found["probes"].items()]
    parts += [f"forgot {lost} of {total} {name}" for name, lost, total in kept if total is not None]
    return ", ".join(parts)
