"""Which questions are the same: ids made from content, duplicates within a file, overlap between two."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from forgetless.data.options import show
from forgetless.data.question import Question
from forgetless.data.rows import auto_id, content_key
from forgetless.errors import InputError

_NAMED = 3


def with_ids(questions: Sequence[Question]) -> list[Question]:
    """Give each question without an id one made from its content; the second with the same content gets ``-2``, and so on."""
    used = {question.id for question in questions}
    result = []
    for question in questions:
        if not question.id:
            made = base = auto_id(question)
            number = 2
            while made in used:
                made, number = f"{base}-{number}", number + 1
            used.add(made)
            question = replace(question, id=made)
        result.append(question)
    return result


def has_auto_id(question: Question) -> bool:
    """Whether the id was made from the content, not given by the user."""
    return re.fullmatch(rf"{auto_id(question)}(-[0-9]+)?", question.id) is not None


def check_unique(questions: Sequence[Question], where: str) -> None:
    """Raise an `InputError` where two questions of one file have the same id; it names both lines."""
    first: dict[str, Question] = {}
    again = [question for question in questions if first.setdefault(question.id, question) is not question]
    if not again:
        return
    twice = again[0]
    earlier = first[twice.id].where
    what = f"the id {show(twice.id)} stands twice, first at {earlier}" if earlier else f"the id {show(twice.id)} stands twice"
    more = f" (and {len(again) - 1} more)" if len(again) > 1 else ""
    raise InputError(f"{what}{more}", where=twice.where or where, mend="Give every row its own id, or leave the ids out")


def check_text(questions: Sequence[Question], where: str) -> None:
    """Raise an `InputError` where a question has an image: for what would ask it without, and so ask something else."""
    seen = [question for question in questions if question.image is not None]
    if seen:
        more = f" (and {len(seen) - 1} more)" if len(seen) > 1 else ""
        mend = "forgetless eval asks with images; train such a model in a trainer under forgetless.protect"
        raise InputError(f"the question has an image, which is not looked at here{more}", where=seen[0].where or where, mend=mend)


def check_disjoint(a: Sequence[Question], b: Sequence[Question], *, names: tuple[str, str], where: str | None = None) -> None:
    """Raise an `InputError` where a question stands in both files.

    Two are the same by their id; where the id of either was made from its content, by what they ask (prompt, choices, messages,
    image). Two different ids that the user gave are believed to be two questions.

    Args:
        a, b: the questions of the two files.
        names: what to call the two files in the message.
        where: the option or file the message starts with; else the names alone are told.
    """
    by_id = {question.id: question for question in b}
    by_content: dict[str, list[Question]] = {}
    for question in b:
        by_content.setdefault(content_key(question), []).append(question)
    both: list[tuple[Question, Question]] = []
    for question in a:
        other = by_id.get(question.id)
        if other is None:
            same = by_content.get(content_key(question), ())
            other = next((item for item in same if has_auto_id(question) or has_auto_id(item)), None)
        if other is not None:
            both.append((question, other))
    if not both:
        return
    told = ", ".join(_told(*pair) for pair in both[:_NAMED]) + (", ..." if len(both) > _NAMED else "")
    count = "1 question stands" if len(both) == 1 else f"{len(both)} questions stand"
    mend = "Keep each in one of the two files; two different questions need different ids"
    raise InputError(f"{count} in both {names[0]} and {names[1]}: {told}", where=where, mend=mend)


def _told(one: Question, other: Question) -> str:
    places = " and ".join(place for place in (one.where, other.where) if place)
    return f"{show(one.id)} ({places})" if places else show(one.id)
