"""The options of a multiple-choice row, and which of them its answer means."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forgetless.errors import InputError

LETTERS = string.ascii_uppercase
_INDEX = re.compile(r"[0-9]{1,9}(\.0)?")
_COLUMN = re.compile(r"choice_([a-zA-Z])")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one row: their texts, their own labels (where given) and whether they were written as numbers."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()
    numeric: bool = False


def show(value: object, limit: int = 60) -> str:
    """``value`` for a message: on one line and not longer than ``limit``."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def filled(value: object) -> bool:
    """False for None, NaN, blank text and an empty list: what a table means by an empty cell."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, list | tuple | dict):
        return bool(value)
    return value is not None and value == value


def as_text(value: object, what: str) -> str:
    """Text or a number as text; anything else is an error about ``what``."""
    if isinstance(value, bool):
        raise InputError(f"{what} is the boolean {value}", mend='Write it as text, for example "True"')
    if isinstance(value, str | int | float) and filled(value):
        return value if isinstance(value, str) else str(value)
    if filled(value):
        raise InputError(f"{what} must be text, not {type(value).__name__} {show(value)}", mend="Write it as text in quotes")
    raise InputError(f"{what} is empty", mend="Fill it in, or delete the row")


def option_columns(row: Mapping[str, Any]) -> dict[str, str]:
    """Letter -> column name for rows that give options as ``choice_a, choice_b`` ... or ``A, B`` ..."""
    named = {match.group(1).upper(): key for key in row if (match := _COLUMN.fullmatch(key))}
    if named:
        return named
    return {letter: letter for letter in LETTERS if letter in row} if "A" in row and "B" in row else {}


def parsed(value: object) -> object:
    """A list or object written as JSON inside one text cell (as CSV has to); anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def read_options(row: Mapping[str, Any]) -> Options:
    """The options of ``row``: ``choices`` as a list or as ``{"text": [...], "label": [...]}``, ``options`` as ``{"A": ..., "B": ...}``
    or a list, or one column each."""
    columns = option_columns(row)
    given = parsed(row.get("choices"))
    if not filled(given) and not columns:
        given = _lettered(parsed(row.get("options")))
    labels: tuple[str, ...] = ()
    if filled(given) and any(column not in LETTERS and filled(row[column]) for column in columns.values()):
        raise InputError("the options are given twice, as choices and as choice_a, choice_b, ...", mend="Keep one of the two")
    if isinstance(given, dict):
        if not isinstance(given.get("text"), list) or not isinstance(given.get("label"), list):
            what = f"choices is an object with {show(sorted(given))}"
            raise InputError(what, mend="Write a list, or an object with the lists text and label")
        if len(given["text"]) != len(given["label"]):
            what = f"choices has {len(given['text'])} texts but {len(given['label'])} labels"
            raise InputError(what, mend="Give one label for each text")
        labels = tuple(as_text(label, f"label {n} of choices") for n, label in enumerate(given["label"], 1))
        if len(set(labels)) < len(labels):
            raise InputError(f"choices has the same label twice: {show(list(labels))}", mend="Give every option its own label")
        items = given["text"]
    elif isinstance(given, list):
        items = given
    elif filled(given):
        what = f"choices must be a list, not {type(given).__name__} {show(given)}"
        raise InputError(what, mend='Write ["one", "two"]; in a CSV cell that is a JSON list, or use columns choice_a, choice_b, ...')
    elif columns:
        items = _from_columns(row, columns)
    else:
        items = []
    if len(items) < 2:
        what = f"a question needs at least 2 choices, found {len(items)}"
        raise InputError(what, mend="Add choices, or name the column prompt instead of question if it is open-ended")
    texts = tuple(as_text(item, f"choice {n}") for n, item in enumerate(items, 1))
    return Options(texts, labels, numeric=any(not isinstance(item, str) for item in items))


def _lettered(options: object) -> object:
    """``{"A": ..., "B": ...}`` as texts and labels, without the empty ones; anything else as it is."""
    if not isinstance(options, dict):
        return options
    found = {str(letter): text for letter, text in options.items() if filled(text)}
    return {"text": list(found.values()), "label": list(found)}


def _from_columns(row: Mapping[str, Any], columns: dict[str, str]) -> list[Any]:
    """The filled option columns from A on; empty ones may only stand at the end."""
    last = max((letter for letter, column in columns.items() if filled(row[column])), default="")
    wanted = LETTERS[: LETTERS.index(last) + 1] if last else ""
    for letter in wanted:
        if letter not in columns or not filled(row[columns[letter]]):
            raise InputError(f"option {letter} is empty but option {last} is not", mend="Fill the options from A on without a gap")
    return [row[columns[letter]] for letter in wanted]


def find_label(answer: object, options: Options) -> int:
    """The index of the option that ``answer`` means.

    A number is an index from 0. Text is, in this order: one of the row's own labels; the text of an option (exactly,
    then without the blanks around it); a letter from A on, in either case; digits, an index from 0 (``2.0`` too).
    Where the options were written as numbers, a number that means one option as index and another as text is an error.
    """
    texts, count = options.texts, len(options.texts)
    if isinstance(answer, bool):
        raise InputError(f"the answer is the boolean {answer}", mend="Write the index (from 0), the letter or the text of the right choice")
    if isinstance(answer, int | float):
        written = str(answer)
        if written in options.labels:
            return options.labels.index(written)
        whole = isinstance(answer, int) or answer.is_integer()
        inside = whole and 0 <= answer < count
        if options.numeric and written in texts and not (inside and texts[int(answer)] == written):
            if not inside:
                return texts.index(written)
            raise InputError(
                f"answer {written} is the index of one choice and the text of another", mend="Write the letter of the right choice instead"
            )
        if inside:
            return int(answer)
        what = f"answer {show(answer, 30)} is outside the {count} choices"
        raise InputError(what, mend=f"Write an index from 0 to {count - 1}, a letter or the text of the right choice")
    if not isinstance(answer, str):
        what = f"the answer must be an index, a letter or a text, not {type(answer).__name__} {show(answer)}"
        raise InputError(what, mend="A multiple-choice question has one right choice")
    bare = answer.strip()
    for known in (options.labels, texts):
        if answer in known:
            if known.count(answer) > 1:
                what = f"the answer {show(answer)} is the text of {known.count(answer)} choices"
                raise InputError(what, mend="Write the letter or the index of the right choice instead")
            return known.index(answer)
    stripped = [text.strip() for text in texts]
    if bare in stripped:
        return stripped.index(bare)
    index = -1
    if len(bare) == 1 and bare.upper() in LETTERS:
        index = LETTERS.index(bare.upper())
    elif _INDEX.fullmatch(bare):
        index = int(float(bare))
    if 0 <= index < count:
        return index
    what = f"answer {show(answer)} is not one of the {count} choices"
    letter = LETTERS[min(count, 26) - 1]
    raise InputError(what, mend=f"Write the text of a choice, a letter from A to {letter} or an index from 0 to {count - 1}")
