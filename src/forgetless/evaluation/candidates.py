"""The answers of many questions as one list of examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forgetless.data.encoding import Example
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.vision import examples_of
from forgetless.progress import Advance

Flat = tuple[list[Example], list[int]]


def candidates(
    language: Language, questions: Sequence[Question], template: str | None, scorer: str, texts: Callable[[Question], Sequence[str]]
) -> Flat:
    """One example for each text of each question, and the question each belongs to."""
    pairs, owners = [], []
    for owner, question in enumerate(questions):
        if question.kind == "text":
            raise InputError(
                f"plain text has no answer to score by {scorer}", where=question.where or question.id, mend="Use --scorer perplexity"
            )
        wanted = texts(question)
        if not wanted:
            raise InputError("it has no answer", where=question.where or question.id, mend="Fill it in, or delete the row")
        for text in wanted:
            pairs.append((question, text))
            owners.append(owner)
    return examples_of(language, pairs, template), owners


def first_of(owners: Sequence[int]) -> dict[int, int]:
    """The index of the first example of each question."""
    return {owner: index for index, owner in reversed(list(enumerate(owners)))}


def sharing(advance: Advance, owners: Sequence[int]) -> Callable[[int], None]:
    """Counts a question as done when the last of its examples is."""
    left: dict[int, int] = {}
    for owner in owners:
        left[owner] = left.get(owner, 0) + 1

    def step(owner: int) -> None:
        left[owner] -= 1
        if not left[owner]:
            advance(1)

    return step
