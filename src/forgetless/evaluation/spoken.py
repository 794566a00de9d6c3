"""The scorers that let the model speak: greedy generation, and what its words are held against."""

from __future__ import annotations

from collections.abc import Sequence

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.templates import accepted
from forgetless.errors import InputError
from forgetless.evaluation.candidates import candidates
from forgetless.evaluation.free_text import exact_match, token_f1
from forgetless.evaluation.generate import generate_answers, generate_texts, generate_verdicts
from forgetless.evaluation.instructions import follows, read_checks
from forgetless.evaluation.refusal import is_refusal
from forgetless.evaluation.verdict import Verdict
from forgetless.progress import Advance

ANSWER_TOKENS = {"instructions": 256, "refuses": 48, "complies": 48}
"""The most tokens of an answer that has no accepted one to compare with: a refusal shows in its first words."""


def generate_scorer(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """Greedy generation, strictly matched: word boundaries, and an answer that stands in the question does not count."""
    candidates(language, questions, template, "generate", lambda question: accepted(question, template))
    found = generate_verdicts(language, questions, template, batch_size=batch_size, advance=advance)
    return [Verdict(right, float(right), said) for right, said in found]


def free_text_scorer(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """Greedy generation; right is SQuAD's normalised exact match with any accepted answer, the value its token F1."""
    candidates(language, questions, template, "free-text", lambda question: accepted(question, template))
    said = generate_answers(language, questions, template, batch_size=batch_size, advance=advance)
    golds = [accepted(question, template) for question in questions]
    return [
        Verdict(exact_match(text, gold, question.lang), token_f1(text, gold, question.lang), text)
        for question, gold, text in zip(questions, golds, said, strict=True)
    ]


def instructions_scorer(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """Greedy generation; right where the whole answer passes every check of the row, strictly."""
    checks = [read_checks(question) for question in questions]
    said = _unbounded(language, questions, template, "instructions", batch_size, advance)
    passed = [follows(text, own) for text, own in zip(said, checks, strict=True)]
    return [Verdict(all(own), sum(own) / len(own), text) for text, own in zip(said, passed, strict=True)]


def refuses_scorer(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """Greedy generation; right where the answer is a refusal by its words."""
    said = _unbounded(language, questions, template, "refuses", batch_size, advance)
    return [Verdict(is_refusal(text), float(is_refusal(text)), text) for text in said]


def complies_scorer(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """Greedy generation; right where the answer is no refusal by its words."""
    said = _unbounded(language, questions, template, "complies", batch_size, advance)
    return [Verdict(not is_refusal(text), float(not is_refusal(text)), text) for text in said]


def _unbounded(
    language: Language, questions: Sequence[Question], template: str | None, scorer: str, batch_size: int, advance: Advance
) -> list[str]:
    for question in questions:
        if question.kind == "text":
            where = question.where or question.id
            raise InputError(f"plain text cannot be answered, which {scorer} needs", where=where, mend="Use --scorer perplexity")
    budgets = [ANSWER_TOKENS[scorer]] * len(questions)
    return generate_texts(language, questions, template, budgets, batch_size=batch_size, advance=advance)
