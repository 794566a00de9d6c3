"""Questions as tokens, and batches of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES, Wording, ending, target, wording
from forgetless.data.tokens import Text, tokenized
from forgetless.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["IGNORED", "Example", "collate", "encode", "encode_all", "pad_id", "target", "taught"]

IGNORED = -100
"""The label of a token that the loss leaves out."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of what is given and of what must be answered."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What of a question and an answer goes to the tokenizer: what stands before the answer ("" for plain text), both, and the end."""

    question: Question
    before: str
    text: str
    special: bool
    end: str = ""

    @property
    def texts(self) -> tuple[Text, ...]:
        ends: tuple[Text, ...] = ((self.end, False),) if self.end else ()
        return ((self.before, self.special), (self.before + self.text, self.special), *ends)


def encode(
    question: Question, answer: str, tokenizer: Any, template: str | None = None, *, room: int | None = None, end: bool = False
) -> Example:
    """The tokens of a question and of one answer to it.

    The prompt has the tokens that it has alone, as when the model is used. The answer is tokenized in its place where that
    leaves the prompt's tokens as they are, else by itself. An answer that starts with a blank brings its own gap.

    Args:
        question: what is asked.
        answer: the text to answer with; unused for plain text, whose first token is given and whose others are the answer.
        tokenizer: a Hugging Face tokenizer.
        template: a name of `forgetless.data.templates.TEMPLATES`.
        room: the longest sequence the model takes, in tokens.
        end: add what ends an assistant's turn, under a chat template, so that training teaches to stop; scoring leaves it out.

    Raises:
        InputError: there is nothing to predict, or the sequence is longer than ``room``.
    """
    return encode_all([(question, answer)], tokenizer, template, room=room, end=end)[0]


def encode_all(
    pairs: Iterable[tuple[Question, str]], tokenizer: Any, template: str | None = None, *, room: int | None = None, end: bool = False
) -> list[Example]:
    """What `encode` makes of each question and answer: all go to the tokenizer in one call, and to one that has seen them none.

    Args and errors are those of `encode`.
    """
    asked: list[_Asked] = []
    last, words = None, None
    for question, answer in pairs:
        if question.kind == "text":
            asked.append(_Asked(question, "", question.prompt, True))
            continue
        if words is None or question is not last:  # the answers of one question follow each other
            last, words = question, wording(question, tokenizer, template)
        asked.append(_with_answer(question, answer, words, ending(words, answer, tokenizer) if end else ""))
    ids = tokenized(tokenizer, (text for one in asked for text in one.texts))
    return [_example(one, ids, tokenizer, room) for one in asked]


def _with_answer(question: Question, answer: str, words: Wording, end: str) -> _Asked:
    if not answer.strip():
        raise InputError("its answer is empty", where=question.where or question.id, mend="Fill it in, or delete the row")
    text = answer if answer[0].isspace() else words.gap + answer
    return _Asked(question, words.before, text, special=not words.turns, end=end)  # a chat template writes its own special tokens


def _example(asked: _Asked, ids: Mapping[Text, tuple[int, ...]], tokenizer: Any, room: int | None) -> Example:
    prompt, whole, *ends = (ids[text] for text in asked.texts)
    if asked.question.kind == "text":
        example = Example(whole[:1], whole[1:])
    else:
        fits = len(whole) > len(prompt) and whole[: len(prompt)] == prompt
        rest = whole[len(prompt) :] if fits else _continuing(tokenizer, asked.text)
        example = Example(prompt, sum(ends, rest))
    where = asked.question.where or asked.question.id
    if not example.prompt or not example.answer:
        raise InputError("it has fewer than two tokens", where=where, mend="Give a longer text")
    if room is not None and len(example) > room:
        raise InputError(f"it has {len(example)} tokens, the model takes {room}", where=where, mend="Shorten or split the row")
    return example


def taught(questions: Sequence[Question], tokenizer: Any, template: str | None = None, *, room: int | None = None) -> list[Example]:
    """The questions with the answers that training teaches: with their end, but the names of options, on which alone the paper's loss is.

    Args and errors are those of `encode`.
    """
    end = template not in OPTION_NAMES
    return encode_all(((question, target(question, template)) for question in questions), tokenizer, template, room=room, end=end)


def collate(examples: Sequence[Example], pad: int) -> dict[str, torch.Tensor]:
    """A batch padded on the right: ``input_ids``, ``attention_mask``, ``labels`` (answers only), each of shape (n, longest)."""
    import torch

    longest = max(len(example) for example in examples)
    ids = torch.full((len(examples), longest), pad)
    labels = torch.full((len(examples), longest), IGNORED)
    mask = torch.zeros((len(examples), longest), dtype=torch.long)
    for row, example in enumerate(examples):
        tokens = torch.tensor(example.prompt + example.answer)
        ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        labels[row, len(example.prompt) : len(tokens)] = tokens[len(example.prompt) :]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def pad_id(tokenizer: Any) -> int:
    """The token to pad with: any will do, since padding is masked."""
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if value is not None:
            return int(value)
    return 0


def _continuing(tokenizer: Any, text: str) -> tuple[int, ...]:
    """The tokens of ``text`` after other text: without the mark that some tokenizers put at the start of one."""
    leads = ("\n", "a", ".")
    ids = tokenized(tokenizer, [(text, False), *((lead, False) for lead in leads), *((lead + text, False) for lead in leads)])
    for lead in leads:
        before, whole = ids[lead, False], ids[lead + text, False]
        if before and whole[: len(before)] == before:
            return whole[len(before) :]
    return ids[text, False]
