"""Instructions whose following a program can verify: length, format, JSON, keywords (in the manner of IFEval, Zhou et al. 2023).

A row is ``{"prompt": ..., "checks": [{"type": "words", "at_most": 50}, ...]}``. Every check is strict: the answer as it was given.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from forgetless.data.options import filled, show
from forgetless.data.question import Question
from forgetless.errors import InputError

Check = Callable[[str, Mapping[str, Any]], bool]
_BOUNDS = ("at_least", "at_most")


def follows(text: str, checks: list[dict[str, Any]]) -> list[bool]:
    """For each of the ``checks`` (from `read_checks`) whether ``text`` passes it; an empty text passes none."""
    return [bool(text.strip()) and CHECKS[check["type"]][0](text, check) for check in checks]


def read_checks(question: Question) -> list[dict[str, Any]]:
    """The checks of a row, validated.

    Raises:
        InputError: there is none, or one is unknown or malformed.
    """
    where = question.where or question.id
    given = question.row.get("checks")
    if not filled(given) or not isinstance(given, list):
        raise InputError("the row has no list of checks", where=where, mend='Write "checks": [{"type": "words", "at_most": 50}]')
    return [_checked(check, f"check {number}", where) for number, check in enumerate(given, 1)]


def _checked(check: object, name: str, where: str) -> dict[str, Any]:
    if not isinstance(check, dict) or check.get("type") not in CHECKS:
        what = f"{name} is {show(check)}"
        raise InputError(what, where=where, mend=f"Give an object whose type is one of {', '.join(CHECKS)}")
    allowed, needs = CHECKS[check["type"]][1], CHECKS[check["type"]][2]
    unknown = [str(key) for key in check if key not in {"type", *allowed}]
    if unknown or (needs and not any(key in check for key in needs)):
        what = f"{name}, {check['type']}, has the keys {', '.join(sorted(map(str, check)))}"
        takes = f"It takes {' and '.join(allowed) or 'no further key'}" + (f", at least one of {', '.join(needs)}" if needs else "")
        raise InputError(what, where=where, mend=takes)
    for key, value in check.items():
        if key in _BOUNDS and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InputError(f"{name}: {key} is {show(value)}", where=where, mend="Give a whole number from 0 up")
        if key in ("all", "any", "none", "keys") and not _texts(value):
            raise InputError(f"{name}: {key} is {show(value)}", where=where, mend="Give a list of texts")
        if key in ("text", "pattern") and not (isinstance(value, str) and value):
            raise InputError(f"{name}: {key} is {show(value)}", where=where, mend="Give a text")
        if key == "pattern":
            try:
                re.compile(value)
            except re.error as error:
                raise InputError(f"{name}: {show(value)} is no regular expression ({error})", where=where, mend="Correct it") from error
    if check.get("at_least", 0) > check.get("at_most", float("inf")):
        raise InputError(f"{name}: at_least is above at_most", where=where, mend="Exchange the two")
    return check


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(part, str) and part for part in value)


def _within(count: int, check: Mapping[str, Any]) -> bool:
    return bool(check.get("at_least", 0) <= count <= check.get("at_most", float("inf")))


def _words(text: str, check: Mapping[str, Any]) -> bool:
    return _within(len(re.findall(r"\w+(?:[-'’]\w+)*", text)), check)


def _characters(text: str, check: Mapping[str, Any]) -> bool:
    return _within(len(text.strip()), check)


def _sentences(text: str, check: Mapping[str, Any]) -> bool:
    """A sentence ends in . ! ? or … followed by a blank or the end; what follows the last end counts as one."""
    return _within(len([part for part in re.split(r"(?<=[.!?…。！？])(?:\s+|$)", text.strip()) if part.strip()]), check)


def _paragraphs(text: str, check: Mapping[str, Any]) -> bool:
    return _within(len([part for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]), check)


def _lines(text: str, check: Mapping[str, Any]) -> bool:
    return _within(len([line for line in text.split("\n") if line.strip()]), check)


def _bullets(text: str, check: Mapping[str, Any]) -> bool:
    return _within(len(re.findall(r"^\s*(?:[-*•]|\d+[.)])\s+\S", text, re.MULTILINE)), check)


def _json(text: str, check: Mapping[str, Any]) -> bool:
    """The whole answer is JSON (a fence of three backticks around it is allowed); with ``keys``, an object that has all of them."""
    fenced = re.fullmatch(r"```(?:json)?\s*\n(.*?)\n?```", text.strip(), re.DOTALL | re.IGNORECASE)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError):
        return False
    keys = check.get("keys")
    return keys is None or (isinstance(value, dict) and all(key in value for key in keys))


def _keywords(text: str, check: Mapping[str, Any]) -> bool:
    """As whole words, in any case."""

    def held(word: str) -> bool:
        return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE) is not None

    return (
        all(map(held, check.get("all", ())))
        and (any(map(held, check["any"])) if "any" in check else True)
        and not any(map(held, check.get("none", ())))
    )


CHECKS: dict[str, tuple[Check, tuple[str, ...], tuple[str, ...]]] = {
    "words": (_words, _BOUNDS, _BOUNDS),
    "characters": (_characters, _BOUNDS, _BOUNDS),
    "sentences": (_sentences, _BOUNDS, _BOUNDS),
    "paragraphs": (_paragraphs, _BOUNDS, _BOUNDS),
    "lines": (_lines, _BOUNDS, _BOUNDS),
    "bullets": (_bullets, _BOUNDS, _BOUNDS),
    "json": (_json, ("keys",), ()),
    "keywords": (_keywords, ("all", "any", "none"), ("all", "any", "none")),
    "upper-case": (lambda text, check: text == text.upper() and text != text.lower(), (), ()),
    "lower-case": (lambda text, check: text == text.lower() and text != text.upper(), (), ()),
    "starts-with": (lambda text, check: text.strip().startswith(check["text"]), ("text",), ("text",)),
    "ends-with": (lambda text, check: text.strip().endswith(check["text"]), ("text",), ("text",)),
    "matches": (lambda text, check: re.fullmatch(check["pattern"], text.strip(), re.DOTALL) is not None, ("pattern",), ("pattern",)),
    "no-commas": (lambda text, check: "," not in text, (), ()),
}
"""Name -> what it checks, the keys it takes, and those of which it needs one."""
