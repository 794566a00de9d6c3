"""Read questions from a local file or a hub data set; every malformed row is reported, none is dropped."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from forgetless.data.hub import parse_hub_name, read_hub
from forgetless.data.identity import check_disjoint, check_text, check_unique, with_ids
from forgetless.data.options import show
from forgetless.data.question import Question
from forgetless.data.rows import question_from_row, to_row
from forgetless.data.tables import Record, one_line, read_csv, read_json, read_json_lines, read_parquet
from forgetless.errors import InputError

__all__ = ["check_disjoint", "check_text", "check_unique", "read_questions", "to_row"]

_READERS: dict[str, Callable[[Path, int | None], list[Record]]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
}
_OTHER_FILES = {".txt", ".md", ".xls", ".xlsx", ".ods", ".yaml", ".yml", ".toml", ".xml", ".arrow", ".feather", ".pkl", ".py"}
_PACKED = {".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"}
_SUFFIXES = ", ".join(_READERS)
_LISTED = 5


def read_questions(source: str | Path, *, limit: int | None = None, answers: bool = True) -> list[Question]:
    """The questions of a local file or a hub data set, in order.

    Args:
        source: a file ending in .jsonl, .ndjson, .json, .csv, .tsv or .parquet, or a hub data set as ``owner/name``,
            ``owner/name:split`` or ``owner/name/config:split``. What looks like a path is never sent to the hub.
        limit: read only the first so many rows; what follows them is not looked at.
        answers: False lets a ``prompt`` stand without an answer.

    Raises:
        InputError: naming the file, the line (row of a Parquet file or data set), what is wrong and how to mend it. Of several
            malformed rows the first is described and the others are counted.
    """
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise InputError(f"must be a whole number from 1 on, not {show(limit)}", where="limit", mend="Leave it out to read every row")
    if not isinstance(source, str | Path) or not str(source).strip():
        raise InputError(f"the source of the questions is {show(source)}", mend="Name a file or a hub data set owner/name")
    if isinstance(source, Path) or is_path(source):
        path = _expanded(source)
        unit = "row" if path.suffix.lower() == ".parquet" else "line"
        return _questions(_read_file(path, limit), str(path), unit, path.parent, answers)
    hub = parse_hub_name(source)
    if hub is None:
        mend = f"Name a file ending in {_SUFFIXES}, or a hub data set owner/name:split"
        raise InputError("neither a file nor the name of a hub data set", where=source, mend=mend)
    return _questions(read_hub(hub, limit), source, "row", None, answers)


def is_path(source: str) -> bool:
    """Whether ``source`` is meant as a file: by its suffix, by how it starts, or because it exists."""
    if source.startswith((".", "/", "~")) or "\\" in source or re.match(r"[A-Za-z]:", source):
        return True
    if Path(source.partition(":")[0]).suffix.lower() in {*_READERS, *_OTHER_FILES, *_PACKED}:
        return True
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False


def _expanded(source: str | Path) -> Path:
    try:
        return Path(source).expanduser()
    except RuntimeError:  # ~name of a user that does not exist
        return Path(source)


def _read_file(path: Path, limit: int | None) -> list[Record]:
    """The rows of ``path``; whatever the file system refuses is an `InputError`."""
    where = str(path)
    reader = _READERS.get(path.suffix.lower())
    try:
        if path.is_dir():
            raise InputError("is a folder", where=where, mend=f"Name a file in it that ends in {_SUFFIXES}")
        if not path.exists():
            raise InputError("no such file", where=where, mend="Check the path")
        if reader is None:
            ending = f"unknown suffix {path.suffix}" if path.suffix else "the name has no suffix"
            mend = "Unpack it first" if path.suffix.lower() in _PACKED else f"Save it as one of {_SUFFIXES}"
            raise InputError(ending, where=where, mend=mend)
        if path.stat().st_size == 0:
            raise InputError("the file is empty", where=where, mend="Write at least one question into it")
        return reader(path, limit)
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"cannot be read: {one_line(error)}", where=where, mend="Check the path and its permissions") from None


def _questions(records: list[Record], name: str, unit: str, folder: Path | None, answers: bool) -> list[Question]:
    """The questions of ``records``, with ids, or an error about all that are malformed."""
    if not records:
        raise InputError("there is no question in it", where=name, mend="Write at least one row")
    questions: list[Question] = []
    problems: list[tuple[int, InputError]] = []
    for record in records:
        if record.row is None:
            problems.append((record.number, record.problem or InputError("malformed row", where=f"{name}:{record.number}")))
            continue
        try:
            questions.append(question_from_row(record.row, where=f"{name}:{record.number}", folder=folder, answers=answers))
        except InputError as error:
            problems.append((record.number, error))
    if problems:
        raise _together(problems, unit)
    questions = with_ids(questions)
    check_unique(questions, name)
    return questions


def _together(problems: list[tuple[int, InputError]], unit: str) -> InputError:
    """One error: the first problem, and where the others are."""
    first, others = problems[0][1], [number for number, _ in problems[1:]]
    what = first.what
    if others:
        listed = ", ".join(map(str, others[:_LISTED])) + (", ..." if len(others) > _LISTED else "")
        several = f"{len(others)} more rows: {unit}s" if len(others) > 1 else f"1 more row: {unit}"
        what = f"{what} (and {several} {listed})"
    return InputError(what, where=first.where, mend=first.mend)
