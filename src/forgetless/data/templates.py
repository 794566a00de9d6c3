"""How a question is put to a model. Templates have names, so that one can be trained on and another tested."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from forgetless.data.question import Question
from forgetless.errors import InputError

LETTERS = string.ascii_uppercase
OPTION_NAMES: dict[str, str] = {
    "letter": LETTERS,
    "letter-lower": string.ascii_lowercase,
    "letter-late": LETTERS[LETTERS.index("P") :],
    "letter-digit": string.digits[1:],
}
"""How the options of a question are named under the templates that list them: A B C, a b c, P Q R or 1 2 3."""
_UNSPACED = re.compile("[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u31a0-\u9fff\uf900-\ufaff\uff00-\uff9f\U00020000-\U0003ffff]")


@dataclass(frozen=True, slots=True)
class Wording:
    """How one question is asked.

    Attributes:
        before: the text that goes before an answer; it does not end in a space, which tokenizers join to the next word.
        gap: what stands between it and the answer.
        turns: the turns that a chat template made ``before`` of, else empty.
    """

    before: str
    gap: str
    turns: tuple[dict[str, str], ...] = ()


def _plain(question: Question, tokenizer: Any) -> Wording:
    before = question.prompt.rstrip(" ")
    if before == question.prompt and (not before or before[-1].isspace() or unspaced(before[-1]) or _opens(before[-1])):
        return Wording(before, "")
    return Wording(before, " ")


def _qa(question: Question, tokenizer: Any) -> Wording:
    return Wording(f"Question: {question.prompt}\nAnswer:", " ")


def _chat(question: Question, tokenizer: Any) -> Wording:
    return _as_chat(question, question.messages or ({"role": "user", "content": question.prompt},), tokenizer, "chat")


def _named(name: str) -> Callable[[Question, Any], Wording]:
    """The template ``name`` of `OPTION_NAMES`."""
    names, kind = OPTION_NAMES[name], "number" if name == "letter-digit" else "letter"

    def named(question: Question, tokenizer: Any) -> Wording:
        where = question.where or question.id
        if not question.choices:
            raise InputError(f"it has no choices, which the template {name!r} needs", where=where, mend="Use another template")
        if len(question.choices) > len(names):
            what = f"it has {len(question.choices)} choices, more than there are {kind}s"
            raise InputError(what, where=where, mend="Use another template")
        options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(names, question.choices, strict=False))
        text = f"{question.prompt}\n{options}\nAnswer with the {kind} of the right option."
        if getattr(tokenizer, "chat_template", None):
            return _as_chat(question, ({"role": "user", "content": text},), tokenizer, name)
        return Wording(f"{text}\nAnswer:", " ")

    return named


TEMPLATES: dict[str, Callable[[Question, Any], Wording]] = {
    "plain": _plain,
    "qa": _qa,
    "chat": _chat,
    **{name: _named(name) for name in OPTION_NAMES},
}
"""``plain``: the prompt, completed. ``qa``: Question/Answer. ``chat``: the model's chat template. ``letter``, ...: options by name."""


def wording(question: Question, tokenizer: Any, template: str | None = None) -> Wording:
    """The text before the answer of ``question``, and the gap between the two.

    ``plain`` puts a space between them, except after a line break, an opening bracket or a script written without spaces.

    Args:
        question: the question.
        tokenizer: its chat template is used by ``chat`` and by those of `OPTION_NAMES`.
        template: a name of `TEMPLATES`; None chooses ``qa`` for multiple choice, ``chat`` for chats, else ``plain``.

    Raises:
        InputError: the template is unknown or does not fit the question or the tokenizer.
    """
    name = template or {"choice": "qa", "chat": "chat"}.get(question.kind, "plain")
    check_template(name)
    return TEMPLATES[name](question, tokenizer)


def ending(words: Wording, answer: str, tokenizer: Any) -> str:
    """What a chat template writes after ``answer`` to end the turn, without blanks at its end; "" where no chat template is used.

    Where the template marks no end, or changes the answer, it is the tokenizer's end-of-text token.
    """
    if not words.turns:
        return ""
    whole = tokenizer.apply_chat_template([*words.turns, {"role": "assistant", "content": answer}], tokenize=False)
    head = words.before + answer
    written = whole[len(head) :].rstrip() if whole.startswith(head) else ""
    return written or tokenizer.eos_token or ""


def accepted(question: Question, template: str | None) -> tuple[str, ...]:
    """The answers that count: the name of the right option under a template of `OPTION_NAMES`, else those of the question."""
    if template in OPTION_NAMES and question.label is not None:
        return (OPTION_NAMES[template][question.label : question.label + 1],)
    return question.answers


def target(question: Question, template: str | None) -> str:
    """The answer that training on ``question`` teaches: the first accepted one; "" for plain text."""
    return next(iter(accepted(question, template)), "")


def check_template(name: str | None) -> None:
    """Raise `InputError` where there is no template ``name``."""
    if name is not None and name not in TEMPLATES:
        raise InputError(f"{name!r} is unknown", where="template", mend=f"Choose one of {', '.join(TEMPLATES)}")


def unspaced(character: str) -> bool:
    """Whether ``character`` is of a script that puts no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese, Tibetan)."""
    return _UNSPACED.match(character) is not None


def _opens(character: str) -> bool:
    return unicodedata.category(character) in ("Ps", "Pi")


def _as_chat(question: Question, turns: Sequence[dict[str, str]], tokenizer: Any, name: str) -> Wording:
    if not getattr(tokenizer, "chat_template", None):
        raise InputError(f"the tokenizer has no chat template, which {name!r} needs", where="template", mend="Use plain or qa")
    from jinja2 import TemplateError

    try:
        text: str = tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
    except TemplateError as error:  # many templates refuse a system turn, or turns that do not alternate
        what = f"the model's chat template refuses it ({' '.join(str(error).split())})"
        raise InputError(what, where=question.where or question.id, mend="Change the turns, or use --template qa") from error
    return Wording(text, "", tuple(turns))
