"""The same question put otherwise: options in another order, another wording."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from forgetless.data.options import show
from forgetless.data.question import Question
from forgetless.errors import InputError

SLOT = "{prompt}"


def shuffled(questions: Sequence[Question], seed: int) -> list[Question]:
    """Each multiple-choice question with its options in a random order, never the one it had where that can be.

    The order hangs on the seed and the question's id alone, not on what else is asked. The id stays, so that verdicts pair.

    Raises:
        InputError: a question has no choices.
    """
    return [_shuffled(question, random.Random(f"{seed}/{question.id}")) for question in questions]


def _shuffled(question: Question, draw: random.Random) -> Question:
    where = question.where or question.id
    if not question.choices or question.label is None:
        raise InputError("it has no choices to shuffle", where=where, mend="Leave shuffle out of this part")
    kept = list(range(len(question.choices)))
    order = kept
    while order == kept:
        order = draw.sample(kept, len(kept))
    return replace(question, choices=tuple(question.choices[place] for place in order), label=order.index(question.label))


def reworded(questions: Sequence[Question], wording: str) -> list[Question]:
    """Each question with its prompt set into ``wording`` in the place of ``{prompt}``; of a chat, its last user turn.

    Raises:
        InputError: ``wording`` has not exactly one such place, or a row is plain text.
    """
    if not isinstance(wording, str) or wording.count(SLOT) != 1:
        raise InputError(f"{show(wording)} does not hold {SLOT} once", where="wording", mend=f'Write for example "Tell me: {SLOT}"')
    made = []
    for question in questions:
        if question.kind == "text":
            raise InputError("plain text has no wording", where=question.where or question.id, mend="Leave wording out of this part")
        prompt = wording.replace(SLOT, question.prompt)
        messages = list(question.messages)
        users = [place for place, turn in enumerate(messages) if turn["role"] == "user"]
        if users:
            messages[users[-1]] = {"role": "user", "content": prompt}
        made.append(replace(question, prompt=prompt, messages=tuple(messages)))
    return made
