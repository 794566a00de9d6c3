"""One row of a question file -> `Question`, and back.

A row is one of four formats, told apart by its leading key: ``question`` (with ``choices`` and ``answer`` or ``answerKey``),
``prompt`` (with ``answer`` or ``completion``), ``messages``, ``text``. ``id``, ``subject``, ``lang`` and ``image`` may stand
beside any; other keys are kept but not read. None, NaN, blank text and empty lists count as absent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from forgetless.data.options import as_text, filled, find_label, option_columns, parsed, read_options, show
from forgetless.data.question import Question
from forgetless.errors import InputError

LEADING = ("question", "prompt", "messages", "text")
FORMATS = "question + choices + answer, or prompt + answer, or messages, or text"
ROLES = ("system", "developer", "user", "assistant", "tool")
_KNOWN = {*LEADING, "choices", "answer", "answerKey", "completion", "id", "subject", "lang", "image"}


def question_from_row(row: Mapping[str, Any], *, where: str = "", folder: Path | None = None, answers: bool = True) -> Question:
    """The question that ``row`` describes; its ``id`` is "" where the row gives none.

    Args:
        row: the row as read.
        where: ``file:line`` for messages.
        folder: the folder that ``image`` must stay in, links resolved; None checks the path by its letters alone.
        answers: False lets a ``prompt`` stand without an answer (what is judged by other means needs none).
    """
    try:
        common: dict[str, Any] = {
            "id": read_id(row),
            "subject": _optional_text(row, "subject"),
            "lang": _optional_text(row, "lang"),
            "image": _image(row, folder),
            "row": dict(row),
            "where": where,
        }
        read = {"question": _choice, "prompt": _open if answers else _prompt, "messages": _chat, "text": _text}
        return Question(**common, **read[_leading(row)](row))
    except InputError as error:
        raise InputError(error.what, where=where or None, mend=error.mend) from None


def to_row(question: Question) -> dict[str, Any]:
    """A row that reads to the same question: the row it was read from with its id, or one made from its fields.

    Where the question no longer matches its row (a changed copy), the row's unknown keys are kept and the rest is made anew.
    """
    row = {"id": None, **question.row}
    try:
        if read_id(row) != question.id:
            row["id"] = question.id
        if question_from_row(row) == question:
            return row
    except InputError:
        pass
    dropped = _KNOWN | set(option_columns(row).values())
    made: dict[str, Any] = {"id": question.id}
    answers: Any = question.answers[0] if len(question.answers) == 1 else list(question.answers)
    if question.kind == "choice":
        made |= {"question": question.prompt, "choices": list(question.choices), "answer": question.label}
    elif question.kind == "open":
        made |= {"prompt": question.prompt, "answer": answers}
    elif question.kind == "chat":
        made |= {"messages": [*map(dict, question.messages), {"role": "assistant", "content": question.answers[0]}]}
    else:
        made |= {"text": question.prompt}
    made |= {key: getattr(question, key) for key in ("subject", "lang", "image") if getattr(question, key) is not None}
    return made | {key: value for key, value in row.items() if key not in dropped}


def content_key(question: Question) -> str:
    """The same for two questions that ask the same: prompt, choices, messages and image; not the answer, nor the id."""
    content = [question.prompt, question.choices, [[turn["role"], turn["content"]] for turn in question.messages], question.image]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def auto_id(question: Question) -> str:
    """The id of a question whose row gives none: made from its content, so the same in every file."""
    return f"auto-{content_key(question)[:16]}"


def read_id(row: Mapping[str, Any]) -> str:
    """The id of ``row`` as text, or "" where it gives none."""
    value = row.get("id")
    if not filled(value):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return str(int(value))
    raise InputError(f"id must be text or a whole number, not {type(value).__name__} {show(value)}", mend="Write the id as text in quotes")


def _leading(row: Mapping[str, Any]) -> str:
    """The key that tells the format of ``row``; exactly one must be filled."""
    found = [key for key in LEADING if filled(row.get(key))]
    if len(found) > 1:
        raise InputError(f"the row has {' and '.join(found)}, so its format is ambiguous", mend=f"Keep one of: {FORMATS}")
    if found:
        return found[0]
    if empty := [key for key in LEADING if key in row]:
        raise InputError(f"{empty[0]} is empty", mend="Fill it in, or delete the row")
    raise InputError(f"the row has only {show(sorted(row)) if row else 'no keys'}", mend=f"Expected {FORMATS}")


def _choice(row: Mapping[str, Any]) -> dict[str, Any]:
    options = read_options(row)
    if filled(row.get("options")) and filled(row.get("answer_idx")) and not filled(row.get("choices")):  # MedQA's columns
        label = find_label(row["answer_idx"], options)
        if filled(row.get("answer")) and row["answer"] != options.texts[label]:
            raise InputError("answer and answer_idx mean two different options", mend="Keep one of the two")
    else:
        label = find_label(_answer(row, ("answer", "answerKey")), options)
    prompt, answers = _text_of(row, "question"), (options.texts[label],)
    return {"kind": "choice", "prompt": prompt, "choices": options.texts, "label": label, "answers": answers}


def _open(row: Mapping[str, Any]) -> dict[str, Any]:
    if filled(row.get("choices")) or any(key.startswith("choice_") for key in option_columns(row).values() if filled(row[key])):
        raise InputError("the row has choices beside prompt", mend="Name the column question if it is multiple choice, or drop the choices")
    given = _answer(row, ("answer", "completion"))
    several = isinstance(given, list)
    items = [as_text(item, f"answer {n}" if several else "the answer") for n, item in enumerate(given if several else [given], 1)]
    return {"kind": "open", "prompt": _text_of(row, "prompt"), "answers": tuple(items)}


def _prompt(row: Mapping[str, Any]) -> dict[str, Any]:
    if any(filled(row.get(key)) for key in ("answer", "completion")):
        return _open(row)
    return {"kind": "open", "prompt": _text_of(row, "prompt"), "answers": ()}


def _chat(row: Mapping[str, Any]) -> dict[str, Any]:
    given = parsed(row["messages"])
    if not isinstance(given, list):
        what = f"messages must be a list, not {type(given).__name__} {show(given)}"
        raise InputError(what, mend='Write [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]')
    turns = [_turn(item, n) for n, item in enumerate(given, 1)]
    *asked, last = turns
    if last["role"] != "assistant":
        raise InputError(f"the last turn of messages is by {last['role']}, so there is no answer", mend="End with an assistant turn")
    if not filled(last["content"]):
        raise InputError("the last turn of messages is empty, so there is no answer", mend="Fill it in, or delete the row")
    prompts = [turn["content"] for turn in asked if turn["role"] == "user"]
    if not prompts or not filled(prompts[-1]):
        raise InputError("messages has no user turn with text before the answer", mend="Put the user's question before the assistant turn")
    return {"kind": "chat", "prompt": prompts[-1], "messages": tuple(asked), "answers": (last["content"],)}


def _turn(item: object, n: int) -> dict[str, str]:
    if not isinstance(item, dict):
        raise InputError(f"turn {n} of messages is {show(item)}", mend='Write each turn as {"role": "user", "content": "..."}')
    role, content = item.get("role"), item.get("content")
    if role not in ROLES:
        raise InputError(f"turn {n} of messages has the role {show(role)}", mend=f"Use one of {', '.join(ROLES)}")
    if not isinstance(content, str):
        raise InputError(f"turn {n} of messages has {type(content).__name__} as content", mend="Write content as text")
    return {"role": role, "content": content}


def _text(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "text", "prompt": _text_of(row, "text")}


def _answer(row: Mapping[str, Any], keys: tuple[str, str]) -> Any:
    found = [key for key in keys if filled(row.get(key))]
    if len(found) > 1:
        raise InputError(f"the row has both {keys[0]} and {keys[1]}", mend="Keep one of the two")
    if not found:
        raise InputError("the row has no answer", mend=f"Fill in {keys[0]} (or {keys[1]}), or delete the row")
    return row[found[0]]


def _text_of(row: Mapping[str, Any], key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise InputError(f"{key} must be text, not {type(value).__name__} {show(value)}", mend="Write it as text in quotes")
    return value


def _optional_text(row: Mapping[str, Any], key: str) -> str | None:
    return as_text(row[key], key) if filled(row.get(key)) else None


def _image(row: Mapping[str, Any], folder: Path | None) -> str | None:
    value = row.get("image")
    if not filled(value):
        return None
    if not isinstance(value, str):
        what = f"image must be the path of a file, not {type(value).__name__}"
        raise InputError(what, mend="Save the images beside the question file and give their relative paths")
    mend = "Give a path relative to the question file, without .."
    windows = PureWindowsPath(value)
    if "://" in value or "\0" in value or value.startswith("~") or windows.drive or windows.root or PurePosixPath(value).is_absolute():
        raise InputError(f"image {show(value)} is not a relative path", mend=mend)
    if ".." in windows.parts or ".." in PurePosixPath(value).parts:
        raise InputError(f"image {show(value)} leaves the folder of the question file", mend=mend)
    if folder is not None and not _inside(folder, value):
        raise InputError(f"image {show(value)} leads through a link out of the folder of the question file", mend=mend)
    return value


def _inside(folder: Path, value: str) -> bool:
    """Whether ``value`` stays in ``folder`` once links are followed; a circle of links does not."""
    try:
        return (folder / value).resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False
