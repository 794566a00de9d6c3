"""The same facts in several languages: does what was learned or lost in one cross into the others?"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.paired import share_interval

_TWO_LETTERS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo es et eu fa ff fi "
    "fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg ki kj kk kl km kn ko kr ks ku kv "
    "kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm "
    "rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo "
    "wa wo xh yi yo za zh zu"
)
_TAG = re.compile(r"([a-z]{2,3})(-[A-Za-z0-9]{2,8})*")


def check_language(tag: object, where: str) -> str:
    """``tag`` where it is a language tag as in ``de``, ``pt-BR`` or ``yue`` (BCP 47; two letters must be of ISO 639-1).

    Raises:
        InputError: it is none.
    """
    found = _TAG.fullmatch(tag) if isinstance(tag, str) else None
    if found is None or (len(found.group(1)) == 2 and found.group(1) not in _TWO_LETTERS.split()):
        raise InputError(f"{tag!r} is an unknown language", where=where, mend="Give a code such as en, de or pt-BR")
    return str(tag)


def in_languages(questions: Sequence[Question], wanted: Sequence[str], where: str) -> list[Question]:
    """The questions in the languages ``wanted``, of which each must be there.

    Raises:
        InputError: one of them is an unknown language, or no question is in it.
    """
    there = {question.lang for question in questions}
    for tag in wanted:
        check_language(tag, where)
        if tag not in there:
            told = ", ".join(sorted(lang for lang in there if lang)) or "none"
            raise InputError(f"no question has lang {tag!r}", where=where, mend=f"The languages there are: {told}")
    return [question for question in questions if question.lang in wanted]


def fact_table(questions: Sequence[Question], before: Sequence[bool], after: Sequence[bool] | None) -> list[dict[str, Any]]:
    """A row for each fact: ``fact``, ``subject``, and for each language ``[right before]`` or ``[right before, right after]``.

    A fact is what rows with the same key ``fact`` ask.

    Raises:
        InputError: a row has no ``fact`` or no ``lang``, or two rows ask the same fact in the same language.
    """
    rows: dict[str, dict[str, Any]] = {}
    for number, question in enumerate(questions):
        where, fact = question.where or question.id, question.row.get("fact")
        if not isinstance(fact, str | int) or question.lang is None:
            missing = "lang" if question.lang is None else "fact"
            raise InputError(
                f"the row has no {missing}", where=where, mend="Give every row lang, and the same fact to rows that ask the same"
            )
        row = rows.setdefault(str(fact), {"fact": str(fact), "subject": question.subject, "languages": {}})
        if question.lang in row["languages"]:
            raise InputError(f"the fact {fact!r} is asked twice in {question.lang}", where=where, mend="Keep one of the two")
        row["languages"][question.lang] = [bool(before[number])] + ([] if after is None else [bool(after[number])])
    return list(rows.values())


def crossing(table: Sequence[dict[str, Any]], source: str) -> dict[str, Any]:
    """For each other language: is a fact likelier to be learned (or lost) there where it was in ``source``?

    Only facts that could are counted: for learning those wrong before in the other language, for losing those right before in it.

    Returns:
        For each language ``learned`` and ``lost``: ``with_source`` and ``without_source`` (``count``, ``n``, ``share`` and 95% exact
        interval, of the facts where the source language changed so, and where not) and ``p_value`` of Fisher's exact test, two-sided.
    """
    others = sorted({lang for row in table for lang in row["languages"]} - {source})
    return {lang: {"learned": _crossed(table, source, lang, 0), "lost": _crossed(table, source, lang, 1)} for lang in others}


def _crossed(table: Sequence[dict[str, Any]], source: str, lang: str, was: int) -> dict[str, Any]:
    from scipy.stats import fisher_exact

    counts = {True: [0, 0], False: [0, 0]}  # source changed -> [changed here as well, could have]
    for row in table:
        here, there = row["languages"].get(lang), row["languages"].get(source)
        if here is None or there is None or here[0] != bool(was):
            continue
        own = counts[there[0] == bool(was) and there[1] != there[0]]
        own[0] += here[1] != here[0]
        own[1] += 1
    p = float(fisher_exact([[c, n - c] for c, n in counts.values()]).pvalue) if all(n for _, n in counts.values()) else None
    return {"with_source": _share(*counts[True]), "without_source": _share(*counts[False]), "p_value": p}


def _share(count: int, n: int) -> dict[str, Any]:
    if not n:
        return {"count": 0, "n": 0, "share": None, "low": None, "high": None}
    low, high = share_interval(count, n)
    return {"count": count, "n": n, "share": count / n, "low": low, "high": high}
