"""Scoring questions with a language model: one function, nine scorers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from forgetless.data.encoding import target
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES, accepted, check_template
from forgetless.errors import InputError
from forgetless.evaluation.candidates import candidates, first_of, sharing
from forgetless.evaluation.forward import answer_logits, evaluating, log_probability
from forgetless.evaluation.spoken import (
    complies_scorer,
    free_text_scorer,
    generate_scorer,
    instructions_scorer,
    refuses_scorer,
)
from forgetless.evaluation.verdict import Verdict
from forgetless.evaluation.vision import example, examples_of
from forgetless.progress import Advance, silent

__all__ = ["SCORERS", "WITHOUT_ANSWERS", "Verdict", "asked_with", "check_scorer", "score"]

MOST_NATS = 700.0
"""The largest loss that perplexity, its exponential, tells apart: beyond it would not be a finite number."""


def score(
    language: Language,
    questions: Sequence[Question],
    *,
    scorer: str = "exact",
    template: str | None = None,
    batch_size: int = 32,
    advance: Advance = silent,
) -> list[Verdict]:
    """Score every question, in the order given.

    Args:
        language: model and tokenizer; the model is put into evaluation mode for the time being.
        questions: what to ask.
        scorer: a name of `SCORERS`.
        template: a name of `forgetless.data.templates.TEMPLATES`; None takes the one that fits.
        batch_size: sequences in one forward pass; the verdicts do not depend on it.
        advance: told of every question done.

    Raises:
        InputError: the scorer or template is unknown, or does not fit a question.
        ForgetlessError: the model gives no numbers (NaN).
    """
    check_scorer(scorer)
    check_template(template)
    if not questions:
        return []
    with evaluating(language.model):
        return SCORERS[scorer](language, questions, asked_with(scorer, template), batch_size, advance)


def check_scorer(name: str, *, right_and_wrong: bool = False) -> None:
    """Raise `InputError` where there is no scorer ``name``, or where it must tell right from wrong and does not."""
    if name not in SCORERS:
        raise InputError(f"{name!r} is unknown", where="scorer", mend=f"Choose one of {', '.join(SCORERS)}")
    if right_and_wrong and name == "perplexity":
        raise InputError("perplexity tells no right from wrong", where="scorer", mend="Use exact, letter, likelihood or generate")


def asked_with(scorer: str, template: str | None) -> str | None:
    """The template that ``scorer`` asks with where ``template`` is wanted: ``letter`` takes those that name the options alone.

    Raises:
        InputError: another one is wanted from the scorer ``letter``.
    """
    if scorer != "letter":
        return template
    if template is not None and template not in OPTION_NAMES:
        mend = f"Leave --template out, or take one of {', '.join(OPTION_NAMES)}"
        raise InputError(f"it asks with its own template, not {template!r}", where="scorer letter", mend=mend)
    return template or "letter"


def _exact(language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance) -> list[Verdict]:
    """Every token of an accepted answer is the argmax under teacher forcing: strict greedy decoding, in one pass.

    What the model would go on to say after the answer is not looked at.
    """
    examples, owners = candidates(language, questions, template, "exact", lambda question: accepted(question, template))
    best: dict[int, Verdict] = {}
    said: dict[int, str] = {}
    first = first_of(owners)
    step = sharing(advance, owners)
    for index, logits in answer_logits(language, examples, batch_size=batch_size):
        picked = logits.argmax(-1).tolist()
        value = log_probability(logits, examples[index].answer)
        owner = owners[index]
        found = best.get(owner)
        right = picked == list(examples[index].answer) or bool(found and found.right)
        if first[owner] == index:
            said[owner] = language.tokenizer.decode(picked).strip()
        best[owner] = Verdict(right, max(value, found.value) if found else value)
        step(owner)
    return [replace(best[owner], said=said[owner]) for owner in range(len(questions))]


def _likelihood(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """The option with the highest mean log-probability per token is the answer; the earlier one where two are equal."""

    def options(question: Question) -> Sequence[str]:
        choices = _choices(question)
        return OPTION_NAMES[template][: len(choices)] if template in OPTION_NAMES else choices

    examples, owners = candidates(language, questions, template, "likelihood", options)
    values = [0.0] * len(examples)
    step = sharing(advance, owners)
    for index, logits in answer_logits(language, examples, batch_size=batch_size):
        values[index] = log_probability(logits, examples[index].answer)
        step(owners[index])
    first = first_of(owners)
    verdicts = []
    for owner, question in enumerate(questions):
        own = values[first[owner] : first[owner] + len(question.choices)]
        label = _label(question)
        said = question.choices[own.index(max(own))]
        verdicts.append(Verdict(said == question.choices[label], own[label], said))  # of two options with the same text both are right
    return verdicts


def _letter(language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance) -> list[Verdict]:
    """The paper's: the largest logit over the option letters at the last token of the prompt."""

    def right_letter(question: Question) -> Sequence[str]:
        _choices(question)
        return accepted(question, template)

    names = OPTION_NAMES[template or "letter"]
    examples, _ = candidates(language, questions, template, "letter", right_letter)
    letters: dict[str, int] = {}
    for question in questions:
        for letter in names[: len(question.choices)]:
            if letter not in letters:
                letters[letter] = _letter_token(language, question, letter, template)
    verdicts: dict[int, Verdict] = {}
    for index, logits in answer_logits(language, examples, batch_size=batch_size, advance=advance):
        question = questions[index]
        among = logits[0, [letters[letter] for letter in names[: len(question.choices)]]].log_softmax(-1)
        choice, label = int(among.argmax()), _label(question)
        verdicts[index] = Verdict(choice == label, float(among[label]), names[choice])
    return [verdicts[index] for index in range(len(questions))]


def _letter_token(language: Language, question: Question, letter: str, template: str | None) -> int:
    answer = example(language, question, letter, template).answer
    if len(answer) != 1:
        what = f"the tokenizer writes the letter {letter} in {len(answer)} tokens"
        raise InputError(what, where="scorer letter", mend="Use --scorer likelihood")
    return answer[0]


def _perplexity(
    language: Language, questions: Sequence[Question], template: str | None, batch_size: int, advance: Advance
) -> list[Verdict]:
    """Perplexity of the text, or of the first answer given its question."""
    examples = examples_of(language, [(question, target(question, template)) for question in questions], template)
    verdicts: dict[int, Verdict] = {}
    for index, logits in answer_logits(language, examples, batch_size=batch_size, advance=advance):
        loss = -log_probability(logits, examples[index].answer)
        verdicts[index] = Verdict(None, math.exp(min(loss, MOST_NATS)))
    return [verdicts[index] for index in range(len(questions))]


SCORERS: dict[str, Callable[[Language, Sequence[Question], str | None, int, Advance], list[Verdict]]] = {
    "exact": _exact,
    "letter": _letter,
    "likelihood": _likelihood,
    "generate": generate_scorer,
    "free-text": free_text_scorer,
    "instructions": instructions_scorer,
    "refuses": refuses_scorer,
    "complies": complies_scorer,
    "perplexity": _perplexity,
}
WITHOUT_ANSWERS = ("instructions", "refuses", "complies")
"""The scorers that need no accepted answer."""


def _choices(question: Question) -> tuple[str, ...]:
    if not question.choices:
        raise InputError("it has no choices", where=question.where or question.id, mend="Use --scorer exact or generate for open questions")
    return question.choices


def _label(question: Question) -> int:
    if question.label is None:
        raise InputError("it has choices but no right one", where=question.where or question.id, mend="Fill in its answer")
    return question.label
