"""A stream from a user's own question files: each one is a task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from forgetless.core.options import whole
from forgetless.data.identity import has_auto_id
from forgetless.data.question import Question
from forgetless.data.reading import check_text, read_questions
from forgetless.data.rows import content_key
from forgetless.errors import InputError
from forgetless.streams.builders import QUESTION_FILES
from forgetless.streams.stream import LanguageStream, LanguageTask

HELDOUT = "-heldout"


def from_files(files: Sequence[str | Path], *, limit: int | None = None) -> LanguageStream:
    """Question files in the order given, a task each, named after its file.

    A task's test questions are in ``NAME-heldout.SUFFIX`` beside ``NAME.SUFFIX``, if there is such a file, or in the file named after a
    colon: ``train.jsonl:test.jsonl``. A ``-heldout`` file that is in the list together with its own file (as ``*.jsonl`` gives both) is
    its test, not a task. Ids are made unique by the task's name in front: ``capitals/17``.

    Args:
        files: files or hub data sets, as `forgetless.data.reading.read_questions` takes them.
        limit: read only the first so many questions of each file.

    Raises:
        InputError: a file cannot be read, or the same question stands in two of them.
    """
    if isinstance(files, str | Path):
        files = [files]
    if limit is not None:
        whole("limit", limit)
    pairs = [_pair(str(file)) for file in files]
    tests = {test for _, test in pairs if test is not None}
    pairs = [pair for pair in pairs if pair[0] not in tests]
    if not pairs:
        raise InputError("no question file was named", where="--stream", mend="Name one file for each task")
    tasks: list[LanguageTask] = []
    seen: dict[str, list[tuple[Question, str]]] = {}
    names: set[str] = set()
    for train, test in pairs:
        if any(train == earlier for earlier, _ in pairs[: len(tasks)]):
            raise InputError("it was named twice", where=train, mend="Name every file once")
        name = _unused(_task_name(train), names)
        parts = []
        for source in (train, test):
            questions = () if source is None else tuple(read_questions(source, limit=limit))
            check_text(questions, source or "")
            _check_new(questions, source or "", seen)
            parts.append(questions)
        tasks.append(LanguageTask(name, _named(parts[0], name), _named(parts[1], f"{name}{HELDOUT}")))
    return LanguageStream("from_files", tuple(tasks), ", ".join(train for train, _ in pairs))


def _pair(entry: str) -> tuple[str, str | None]:
    """The train and the test file of one entry."""
    for place, letter in enumerate(entry):
        train, test = entry[:place], entry[place + 1 :]
        if letter == ":" and Path(train).suffix.lower() in QUESTION_FILES and test:
            return train, test
    path = Path(entry)
    beside = path.with_name(f"{path.stem}{HELDOUT}{path.suffix}") if path.suffix.lower() in QUESTION_FILES else None
    return entry, str(beside) if beside is not None and beside.expanduser().is_file() else None


def _task_name(source: str) -> str:
    path = Path(source)
    return path.stem if path.suffix.lower() in QUESTION_FILES else source


def _unused(name: str, names: set[str]) -> str:
    """``name``, or with a number behind it where another folder has a file of that name; remembered in ``names``."""
    made, number = name, 2
    while made in names:
        made, number = f"{name}-{number}", number + 1
    names.add(made)
    return made


def _named(questions: Sequence[Question], task: str) -> tuple[Question, ...]:
    return tuple(replace(question, id=f"{task}/{question.id}") for question in questions)


def _check_new(questions: Sequence[Question], source: str, seen: dict[str, list[tuple[Question, str]]]) -> None:
    """Raise `InputError` where a question stands in an earlier file too.

    As in `forgetless.data.identity.check_disjoint`, two that ask the same but have different ids of the user's are two questions.
    """
    for question in questions:
        same = seen.setdefault(content_key(question), [])
        for earlier, where in same:
            if where != source and (question.id == earlier.id or has_auto_id(question) or has_auto_id(earlier)):
                raise InputError(
                    f"the question stands in {where} too, at {earlier.where}",
                    where=question.where,
                    mend="Keep it in one file; two different questions need different ids",
                )
        same.append((question, source))
