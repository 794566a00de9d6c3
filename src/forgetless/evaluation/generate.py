"""Greedy generation with strict matching."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import torch

from forgetless.data.encoding import Example, pad_id
from forgetless.data.model import Language, quiet
from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES, accepted, unspaced
from forgetless.evaluation.forward import NotNumbersError
from forgetless.evaluation.vision import Seen, examples_of, image_inputs
from forgetless.progress import Advance, silent

SLACK = 12
"""Tokens generated beyond the longest accepted answer."""


def matches(text: str, question: Question, template: str | None = None) -> bool:
    """Whether ``text`` gives an accepted answer, as whole words in any case.

    An answer that stands in the question does not count. A number is whole: neither 1.5 nor -5 gives the answer 5. In scripts
    without spaces between words no boundary can be seen, so there an answer may stand inside a longer text: 北京市 gives 北京.
    Under a template that names the options the text must start with the right letter alone, as in ``B``, ``(B)`` or ``B. Paris``.
    """
    if template in OPTION_NAMES:
        return any(re.match(rf"[^\w]*{answer}([^\w\s]|\s*$)", text) for answer in accepted(question, template) if answer)
    return any(_holds(text, answer) and not _holds(question.prompt, answer) for answer in question.answers)


def _holds(text: str, answer: str) -> bool:
    text, answer = unicodedata.normalize("NFC", text), unicodedata.normalize("NFC", answer)
    words = r"\s+".join(re.escape(word) for word in answer.split())
    if not words:
        return False
    spans = [found.span(1) for found in re.finditer(f"(?=({words}))", text, re.IGNORECASE)]
    return any(_starts(text, first) and _ends(text, last) for first, last in spans)


def _starts(text: str, first: int) -> bool:
    if not first:
        return True
    if text[first].isdigit() and re.search(r"(\d[.,]|(^|\W)[-−])$", text[:first]):
        return False
    return not _word(text[first - 1]) or unspaced(text[first - 1]) or unspaced(text[first])


def _ends(text: str, last: int) -> bool:
    if last == len(text):
        return True
    if text[last - 1].isdigit() and re.match(r"[.,]\d", text[last:]):
        return False
    return not _word(text[last]) or unspaced(text[last]) or unspaced(text[last - 1])


def _word(character: str) -> bool:
    r"""Letters, digits, ``_`` and also marks (the vowel signs of Hindi or Tamil), which ``\w`` leaves out."""
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def generate_answers(
    language: Language, questions: Sequence[Question], template: str | None, *, batch_size: int, advance: Advance = silent
) -> list[str]:
    """For each question the greedy answer: as many lines as an accepted answer has, and as many tokens and `SLACK` more."""
    budgets, lines = [], []
    known = [accepted(question, template) for question in questions]
    pairs = [(question, answer) for question, answers in zip(questions, known, strict=True) for answer in answers]
    lengths = iter([len(one.answer) for one in examples_of(language, pairs, template)])
    for answers in known:
        budgets.append(max(next(lengths) for _ in answers) + SLACK)
        lines.append(1 + max(answer.strip().count("\n") for answer in answers))
    texts = generate_texts(language, questions, template, budgets, batch_size=batch_size, advance=advance)
    return ["\n".join(text.split("\n")[:count]).strip() for text, count in zip(texts, lines, strict=True)]


def generate_verdicts(
    language: Language, questions: Sequence[Question], template: str | None, *, batch_size: int, advance: Advance = silent
) -> list[tuple[bool, str]]:
    """For each question whether its greedy answer holds an accepted one, and that answer."""
    texts = generate_answers(language, questions, template, batch_size=batch_size, advance=advance)
    return [(matches(text, question, template), text) for question, text in zip(questions, texts, strict=True)]


def generate_texts(
    language: Language,
    questions: Sequence[Question],
    template: str | None,
    budgets: Sequence[int],
    *,
    batch_size: int,
    advance: Advance = silent,
) -> list[str]:
    """For each question its greedy continuation of at most so many tokens, without blanks around it. No answer need be known.

    Raises:
        NotNumbersError: the model gives no numbers (NaN).
    """
    prompts = examples_of(language, [(question, "a") for question in questions], template)
    room = language.room
    most = [budget if room is None else min(budget, room - len(one.prompt)) for budget, one in zip(budgets, prompts, strict=True)]
    found: dict[int, str] = {}
    for own in ([n for n, one in enumerate(prompts) if isinstance(one, Seen) == seen] for seen in (False, True)):
        for places in _batches([prompts[n].prompt for n in own], [most[n] for n in own], batch_size, room):
            rows = [own[place] for place in places]
            made = _greedy(language, [prompts[index] for index in rows], max(most[index] for index in rows))
            for index, new in zip(rows, made, strict=True):
                found[index] = language.tokenizer.decode(new[: most[index]], skip_special_tokens=True).strip()
            advance(len(rows))
    return [found[index] for index in range(len(questions))]


def _batches(prompts: Sequence[Sequence[int]], budgets: Sequence[int], size: int, room: int | None) -> Iterator[list[int]]:
    """Indexes in order of length, at most ``size`` together; the longest prompt and the largest budget fit into ``room``."""
    rows: list[int] = []
    most = 0
    for index in sorted(range(len(prompts)), key=lambda index: (len(prompts[index]), budgets[index])):
        most = max(most, budgets[index])
        if rows and (len(rows) == size or (room is not None and len(prompts[index]) + most > room)):
            yield rows
            rows, most = [], budgets[index]
        rows.append(index)
    if rows:
        yield rows


class _Numbers:
    """Stops a generation whose logits are not numbers: their argmax would look like an answer."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        if scores.isnan().any():
            raise NotNumbersError(self.language)
        return scores


def _greedy(language: Language, prompts: Sequence[Example], budget: int) -> list[list[int]]:
    """At most ``budget`` tokens after each prompt, always the likeliest: the model's own sampling settings are left out."""
    from transformers import GenerationConfig, LogitsProcessorList

    model, pad, longest = language.model, pad_id(language.tokenizer), max(len(one.prompt) for one in prompts)
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    for row, one in enumerate(prompts):  # padding on the left: generation goes on at the right end
        ids[row, longest - len(one.prompt) :] = torch.tensor(one.prompt)
        mask[row, longest - len(one.prompt) :] = 1
    own = model.generation_config
    ends = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    stops = sorted({end for end in (*ends, language.tokenizer.eos_token_id) if end is not None})
    model.generation_config = GenerationConfig(eos_token_id=stops or None, pad_token_id=pad)
    try:
        with torch.no_grad(), quiet():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                do_sample=False,
                max_new_tokens=budget,
                logits_processor=LogitsProcessorList([_Numbers(language)]),
                **image_inputs(language, prompts, longest, left=True),
            )
    finally:
        model.generation_config = own
    return [row[longest:].tolist() for row in out]
