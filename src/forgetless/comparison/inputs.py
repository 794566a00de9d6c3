"""The data of a comparison, read and checked before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetless.comparison.cells import Cell, settings_of
from forgetless.comparison.plan import Plan
from forgetless.core.checks import check_method
from forgetless.core.method import Chain, Method
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.methods.null_space import NullSpace
from forgetless.train.settings import build_method
from forgetless.train.splits import NAMED, check_retain, read_splits

DEMO = ("inject", "inject-heldout", "retain", "retain-heldout", "other-kinds")


@dataclass(frozen=True, slots=True)
class Ready:
    """A data set whose files were read: files and questions by split."""

    files: dict[str, str]
    splits: dict[str, list[Question]]


def read(plan: Plan, data: str, cells: Sequence[Cell], folder: Path, known: Mapping[str, type[Method]]) -> Ready | None:
    """Read the files of a data set, at one seed, and check each method against them.

    Where it is built in and its questions are not made yet, check what can be checked without them, and give None.

    Args:
        plan: of the comparison.
        data: the name of the data set.
        cells: those that see these files.
        folder: of the comparison, in which the questions of built-in data sets stand.
        known: methods by name.

    Raises:
        InputError: a file is wrong, or a method needs one that is not there.
    """
    one, found = plan.data[data].at(cells[0].seed), None
    files = one.files() if one.builtin is None else {name: str(folder / "questions" / data / f"{name}.jsonl") for name in DEMO}
    made = one.builtin is None or (folder / "questions" / data / "questions.json").is_file()
    for cell in {(cell.label, cell.trial): cell for cell in cells}.values():
        try:
            method = build_method(cell.method, cell.options, known)
            check_method(method, processes=1, sharded=False)
            settings = settings_of(cell, plan, files, 1)
            if made:
                found = read_splits(settings, method)
            else:
                check_retain(settings, method, shown=cell.old_data)
            _check_memory(cell, method, files)
        except InputError as error:
            what = f"data {data}, {cell.label}" + (f", {error.where}" if error.where else "")
            where = plan.told(_place(error.where or "", data, files), what)
            raise InputError(error.what, where=where, mend=error.mend) from error
    return Ready(files, found) if found is not None else None


def _place(where: str, data: str, files: Mapping[str, str]) -> list[str]:
    """The keys in the plan of what an error is about: a file, a setting, else the data set."""
    for name, file in files.items():
        if where == file or where.startswith(f"{file}:"):
            return ["data", data, *([] if name in NAMED else ["probes"]), name]
    setting = where.removeprefix("--").replace("-", "_")
    return [setting] if setting in Plan.model_fields else ["data", data]


def _check_memory(cell: Cell, method: Method, files: Mapping[str, str]) -> None:
    """Refuse what replays old data where there is none: it would be plain training under another name."""
    parts = method.methods if isinstance(method, Chain) else (method,)
    made_up = any(isinstance(part, NullSpace) and part.makes_up for part in parts)
    if any(part.keeps_examples for part in parts) and not made_up and (not cell.old_data or "retain" not in files):
        what = f"{cell.label} has no old data to replay"
        raise InputError(what, mend="Name a file of questions to keep, as retain, or leave the method out")


def check_items(data: str, items: Mapping[str, Any], *, choosing: bool) -> None:
    """Refuse data on which nothing can be learned, or a kind of item that the choice or the report would lack.

    Args:
        data: the name of the data set.
        items: what ``items.json`` says of it.
        choosing: items are kept for the choice of trials.
    """
    where = f"data {data}"
    if "0" not in items["inject"]["before"]:
        raise InputError("the model knows every inject question already", where=where, mend="Name questions that it does not know")
    for kind in ("A", "B", "C"):
        parts = [part for part in items.values() if part["kind"] == kind]
        known = [mark for part in parts for b, mark in zip(part["before"], part["validation"], strict=True) if b == "1"]
        if not parts:
            continue
        if not known:
            raise InputError(f"the model knows nothing of {kind} before training", where=where, mend="Name questions that it knows")
        if choosing and not {"0", "1"} <= set(known):
            what = f"the {len(known)} known items of {kind} cannot be shared between choosing and reporting"
            raise InputError(what, where=where, mend="Give more questions, or validation: 0")


def kinds(ready: Mapping[str, Ready]) -> dict[str, Any]:
    """Which splits A, B and C are."""
    names = list(dict.fromkeys(name for one in ready.values() for name in one.files))
    probes = [name for name in names if name not in ("inject", "inject-heldout", "retain", "retain-heldout")]
    return {"A": "retain" if "retain" in names else None, "B": "retain-heldout" if "retain-heldout" in names else None, "C": probes}
