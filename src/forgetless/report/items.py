"""The questions one by one: all of them as data for the script, and those that changed as a plain table for browsers without one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetless.report.run import Run

MOST_PLAIN = 2000
"""Rows of the plain table; the page says so where there are more."""
_LONG = 600


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one question in one run (or model): right before and after, and what was said."""

    place: int
    before: bool
    after: bool
    said_before: str | None
    said_after: str | None


@dataclass(frozen=True, slots=True)
class Asked:
    """One question with its outcomes."""

    split: str
    id: str
    subject: str | None
    lang: str | None
    prompt: str
    answer: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class ItemView:
    """What the page shows of the questions.

    Attributes:
        data: for the script.
        count: questions.
        runs: names of the runs; styles: the number of the series of each.
        what: what a split is called here.
        flipped: rows of text for a page without scripts; left_out: further ones.
    """

    data: Mapping[str, Any]
    count: int
    runs: Sequence[str]
    what: str
    flipped: Sequence[Sequence[str]]
    left_out: int


def of_runs(runs: Sequence[Run], names: Sequence[str], styles: Mapping[int, int]) -> ItemView:
    """The questions of some runs: one entry a question, with the outcome in each run that asked it."""
    entries: dict[tuple[str, str, str, str], list[Any]] = {}
    for index, run in enumerate(runs):
        for item in run.items:
            entry = entries.setdefault((item.split, item.id, item.prompt, item.answer), [item, []])
            entry[1].append(Outcome(index, item.before, item.after, item.said_before, item.said_after))
    asked = [
        Asked(item.split, item.id, item.subject, item.lang, item.prompt, item.answer, tuple(outcomes))
        for item, outcomes in entries.values()
    ]
    return item_view(asked, names, [styles[index] for index in range(len(runs))], what="split")


def item_view(asked: Sequence[Asked], runs: Sequence[str], styles: Sequence[int], *, what: str, single: bool = False) -> ItemView:
    """The view on ``asked``; ``runs`` name the places of the outcomes, ``styles`` are the numbers of their series.

    ``single``: there is one model, so before and after are the same and nothing changed.
    """
    splits, subjects, langs = (_numbered([getattr(one, name) for one in asked]) for name in ("split", "subject", "lang"))
    rows = [
        [
            splits[one.split],
            one.id,
            -1 if one.subject is None else subjects[one.subject],
            -1 if one.lang is None else langs[one.lang],
            one.prompt,
            one.answer,
            [[o.place, int(o.before), int(o.after), o.said_before, o.said_after] for o in one.outcomes],
        ]
        for one in asked
    ]
    data = {
        "runs": list(runs), "styles": list(styles), "splits": list(splits), "subjects": list(subjects), "langs": list(langs),
        "what": what, "single": single, "items": rows,
    }  # fmt: skip
    flipped = [
        [one.split, _short(one.prompt), _short(one.answer), runs[o.place], _short(o.said_before), _short(o.said_after), _change(o)]
        for one in asked
        for o in one.outcomes
        if o.before != o.after
    ]
    return ItemView(data, len(asked), runs, what, flipped[:MOST_PLAIN], max(0, len(flipped) - MOST_PLAIN))


def _numbered(values: Sequence[str | None]) -> dict[str, int]:
    return {value: index for index, value in enumerate(dict.fromkeys(value for value in values if value is not None))}


def _change(outcome: Outcome) -> str:
    return "learned" if outcome.after else "forgotten"


def _short(text: str | None) -> str:
    if text is None:
        return "not recorded"
    return text if len(text) <= _LONG else text[:_LONG] + " …"
