"""Free answers against accepted ones: normalised exact match and token F1, as in SQuAD's official script."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

from forgetless.data.templates import unspaced

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def normalised(text: str, lang: str | None = None) -> str:
    """``text`` in lower case, without punctuation, articles and superfluous blanks.

    In English (or where no language is named) this is ``normalize_answer`` of SQuAD's official script (Rajpurkar et al. 2016), to
    the letter: ASCII punctuation and ``a, an, the``. Deviation for other languages: Unicode is brought to the form NFC, all that
    Unicode calls punctuation goes, and articles stay, since which words are articles differs.
    """
    if lang is None or lang.partition("-")[0] == "en":
        bare = "".join(character for character in text.lower() if character not in _PUNCTUATION)
        return " ".join(_ARTICLES.sub(" ", bare).split())
    whole = unicodedata.normalize("NFC", text).lower()
    return " ".join("".join(c for c in whole if c not in _PUNCTUATION and unicodedata.category(c)[0] != "P").split())


def tokens(text: str, lang: str | None = None) -> list[str]:
    """The words of the normalised text; in scripts without spaces between words every character is one (as in MLQA's script)."""
    if lang is None or lang.partition("-")[0] == "en":
        return normalised(text, lang).split()
    return "".join(f" {c} " if unspaced(c) else c for c in normalised(text, lang)).split()


def exact_match(said: str, accepted: Sequence[str], lang: str | None = None) -> bool:
    """Whether ``said`` equals one of the accepted answers once both are normalised.

    Raises:
        ValueError: no answer is accepted.
    """
    if not accepted:
        raise ValueError("no accepted answer")
    return any(normalised(said, lang) == normalised(answer, lang) for answer in accepted)


def token_f1(said: str, accepted: Sequence[str], lang: str | None = None) -> float:
    r"""The largest over the accepted answers of :math:`F_1 = 2PR / (P + R)`, over bags of tokens; in [0, 1].

    Where an answer or ``said`` has no tokens left, F1 is 1 if neither has, else 0 (as in the script for SQuAD 2.0).

    Raises:
        ValueError: no answer is accepted.
    """
    if not accepted:
        raise ValueError("no accepted answer")
    return max(_f1(tokens(said, lang), tokens(answer, lang)) for answer in accepted)


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    same = sum((Counter(said) & Counter(gold)).values())
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(gold)
    return 2 * precision * recall / (precision + recall)
