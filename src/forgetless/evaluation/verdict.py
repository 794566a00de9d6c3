"""What a scorer found on one question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a scorer found on one question.

    Attributes:
        right: whether the answer was right; None under ``perplexity``, which knows no right and wrong.
            Under ``refuses`` it is right to refuse, under ``complies`` not to.
        value: under ``exact`` and ``likelihood`` the mean log-probability per token of the accepted answer (its best, of several);
            under ``letter`` the log-probability of the right letter among the letters; under ``generate``, ``refuses``
            and ``complies`` 1 or 0; under ``free-text`` token F1; under ``instructions`` the share of the checks passed; under
            ``perplexity`` the perplexity.
        said: what the model answered; under ``exact`` what it says, token by token, where it is shown the first accepted answer.
    """

    right: bool | None
    value: float
    said: str | None = None
