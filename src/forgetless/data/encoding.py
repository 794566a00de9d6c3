"""Questions as tokens, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES, ending, target, wording
from forgetless.errors import InputError

if TYPE_CHECKING:
    import torch

__all__ = ["IGNORED", "Example", "collate", "encode", "pad_id", "target", "taught"]

IGNORED = -100
"""The label of a token that the loss leaves out."""


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids of what is given and of what must be answered."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.answer)


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
    where = question.where or question.id
    if question.kind == "text":
        ids = _ids(tokenizer, question.prompt, special=True)
        example = Example(tuple(ids[:1]), tuple(ids[1:]))
    else:
        words = wording(question, tokenizer, template)
        if not answer.strip():
            raise InputError("its answer is empty", where=where, mend="Fill it in, or delete the row")
        text = answer if answer[0].isspace() else words.gap + answer
        special = not words.turns  # a chat template writes its own
        prompt = _ids(tokenizer, words.before, special=special)
        whole = _ids(tokenizer, words.before + text, special=special)
        fits = len(whole) > len(prompt) and whole[: len(prompt)] == prompt
        rest = whole[len(prompt) :] if fits else _continuing(tokenizer, text)
        if end:
            rest = rest + _ids(tokenizer, ending(words, answer, tokenizer), special=False)
        example = Example(tuple(prompt), tuple(rest))
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
    return [encode(question, target(question, template), tokenizer, template, room=room, end=end) for question in questions]


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


def _ids(tokenizer: Any, text: str, *, special: bool) -> list[int]:
    """The tokens of ``text``; with ``special`` also those that the tokenizer puts before every text, never those it puts after."""
    found = tokenizer(text, add_special_tokens=special, return_special_tokens_mask=True)
    ids, added = list(found["input_ids"]), list(found["special_tokens_mask"])
    closing = next((n for n, mark in enumerate(reversed(added)) if not mark), max(0, len(ids) - 1)) if special else 0
    return ids[: len(ids) - closing]


def _continuing(tokenizer: Any, text: str) -> list[int]:
    """The tokens of ``text`` after other text: without the mark that some tokenizers put at the start of one."""
    for lead in ("\n", "a", "."):
        before, whole = _ids(tokenizer, lead, special=False), _ids(tokenizer, lead + text, special=False)
        if before and whole[: len(before)] == before:
            return whole[len(before) :]
    return _ids(tokenizer, text, special=False)
