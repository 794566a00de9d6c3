"""What a model knows and what it does not, each in two halves or whole."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgetless.data.question import Question
from forgetless.data.reading import to_row
from forgetless.data.rows import content_key
from forgetless.errors import InputError
from forgetless.evaluation.paired import share_interval
from forgetless.evaluation.score import Verdict
from forgetless.files import new_folder, write_json, write_jsonl

Halves = tuple[list[Question], list[Question]]
HELDOUT = ("both", "retain", "none")


def halve(questions: Sequence[Question], seed: int) -> Halves:
    """Two random halves, alike in every subject; questions of the same content stay together.

    Subjects with only one question (where each row names its own) are halved as if they were one.
    """
    contents: dict[str, list[Question]] = {}
    for question in questions:
        contents.setdefault(content_key(question), []).append(question)
    subjects: dict[str, list[list[Question]]] = {}
    for group in contents.values():
        subjects.setdefault(group[0].subject or "", []).append(group)
    alone = [subject for subject, groups in subjects.items() if len(groups) == 1 and subject]
    for subject in alone:
        subjects.setdefault("", []).extend(subjects.pop(subject))
    draw = random.Random(seed)
    halves: Halves = ([], [])
    for subject in sorted(subjects):
        here = [0, 0]
        for group in draw.sample(subjects[subject], len(subjects[subject])):
            half = 0 if (here[0], len(halves[0])) <= (here[1], len(halves[1])) else 1  # the one with fewer
            halves[half].extend(group)
            here[half] += len(group)
    return halves


def split(questions: Sequence[Question], verdicts: Sequence[Verdict], seed: int, heldout: str = "both") -> dict[str, list[Question]]:
    """``retain`` and ``retain-heldout``: the two halves of what is known; ``inject`` and ``inject-heldout``: of what is not.

    With ``heldout="retain"`` only what is known is halved (the out-of-set setting of arXiv 2601.21577), with ``"none"`` neither (its
    in-set setting); what is not halved stands whole in ``retain`` or ``inject``.

    Of questions with the same content but different answers all must be right to be known, so that no question stands in two parts.

    Raises:
        InputError: the scorer gave no right and wrong, or ``heldout`` is none of `HELDOUT`.
    """
    check_heldout(heldout)
    if any(verdict.right is None for verdict in verdicts):
        raise InputError("perplexity tells no right from wrong", where="scorer", mend="Use exact, letter, likelihood or generate")
    keys = [content_key(question) for question in questions]
    wrong = {key for key, verdict in zip(keys, verdicts, strict=True) if not verdict.right}
    parts: dict[str, list[Question]] = {}
    for name, halved in (("retain", heldout != "none"), ("inject", heldout == "both")):
        own = [question for key, question in zip(keys, questions, strict=True) if (key in wrong) == (name == "inject")]
        if halved:
            parts[name], parts[f"{name}-heldout"] = halve(own, seed)
        else:
            parts[name] = own
    return parts


def check_heldout(heldout: str) -> None:
    """Raise `InputError` where ``heldout`` is none of `HELDOUT`."""
    if heldout not in HELDOUT:
        raise InputError(f"{heldout!r} is not allowed", where="--heldout", mend=f"Give one of {', '.join(HELDOUT)}")


def counts(questions: Sequence[Question], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """How many are known, with a 95% exact interval, in all and by subject."""
    right = sum(bool(verdict.right) for verdict in verdicts)
    low, high = share_interval(right, len(verdicts))
    subjects: dict[str, dict[str, int]] = {}
    for question, verdict in zip(questions, verdicts, strict=True):
        own = subjects.setdefault(question.subject or "", {"total": 0, "known": 0})
        own["total"], own["known"] = own["total"] + 1, own["known"] + bool(verdict.right)
    return {"total": len(verdicts), "known": right, "known_share": right / len(verdicts), "low": low, "high": high, "subjects": subjects}


def check_new(out: Path) -> None:
    """Raise `InputError` where ``out`` is a file or a folder that holds something."""
    if out.is_file():
        raise InputError("it is a file", where=str(out), mend="Name a folder for --out")
    if out.is_dir() and any(out.iterdir()):
        raise InputError("the folder is not empty", where=str(out), mend="Name a new folder for --out")


def write_split(out: Path, parts: dict[str, list[Question]], about: dict[str, Any]) -> None:
    """Write the files and ``split.json`` into a new folder, all or nothing."""
    check_new(out)
    with new_folder(out) as folder:
        for name, questions in parts.items():
            write_jsonl(folder / f"{name}.jsonl", [to_row(question) for question in questions])
        write_json(folder / "split.json", about | {name: len(questions) for name, questions in parts.items()})
