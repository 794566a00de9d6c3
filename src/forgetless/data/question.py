"""One question: the unit that is scored, learned, kept or forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Kind = Literal["choice", "open", "chat", "text"]


@dataclass(frozen=True, slots=True)
class Question:
    """One row of a question file.

    Attributes:
        id: unique in its file; made from its content where the file gives none.
        kind: ``choice`` (question, choices, answer), ``open`` (prompt, answer), ``chat`` (messages) or ``text``.
        prompt: the question or prompt; for ``text`` the text itself; for ``chat`` the last user turn.
        answers: the accepted answers, the first one being the one that is trained on; empty for ``text``.
        choices: the options of a ``choice`` question, else empty.
        label: the index of the right option of a ``choice`` question, else None.
        messages: the turns of a ``chat`` question (``{"role", "content"}``), without the final assistant turn.
        subject, lang, image: optional, as in the file.
        row: the row as it was read, so that it can be written again unchanged.
        where: ``file:line`` for messages.
    """

    id: str
    kind: Kind
    prompt: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    label: int | None = None
    messages: tuple[dict[str, str], ...] = field(default=(), hash=False)
    subject: str | None = None
    lang: str | None = None
    image: str | None = None
    row: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)
    where: str = field(default="", compare=False)
