"""The folder of a comparison: its plan, its lock, the cells in it, and the files that follow from them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from forgetless.comparison.cells import Cell
from forgetless.comparison.plan import Plan
from forgetless.comparison.result import kind_of, marks_by_share, validation_marks
from forgetless.comparison.worker import MACHINE
from forgetless.errors import InputError
from forgetless.files import check_writable, read_jsonl, write_json, write_jsonl, write_text
from forgetless.train.folder import lock_file

MEND = "Name a new folder for --out"
FREE = {"title", "data", "methods", "rates", "optimizers", "seeds", "levels", "validation", "trials", "baselines"}
FREE |= {"keep_models", "out", "jobs", "ray", "prune"}
"""Keys of a plan that may differ from those the folder began with: they only add cells, or change what is worked out from them."""

EARLY = {"logs", "questions"}
"""What a comparison that was killed before it had settled its plan leaves, beside its lock."""

Row = dict[str, Any]


class Study:
    """``plan.yaml``, ``cells/``, ``before/``, ``failed/``, ``logs/``, and what follows from them.

    What a cell gave stands in its own folder; ``items.json``, ``results.jsonl``, ``costs.jsonl`` and ``comparison.json``
    are written anew from those, so that none can be out of step.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.plan_file = path, path / "plan.yaml"
        self._lock: int | None = None
        self._made: list[Path] = []
        self._had_questions = False
        self._settled = ""

    def open(self) -> None:
        """Make the folder or take up the comparison in it, and hold it against other processes.

        Raises:
            InputError: it holds something else, cannot be written, or another comparison works in it.
        """
        if self.path.is_dir() and not _ours(self.plan_file):
            others = {entry.name for entry in self.path.iterdir() if not entry.name.startswith(".")}
            if others - (EARLY if (self.path / ".lock").is_file() else set()):
                raise InputError("the folder is not empty and holds no comparison", where=str(self.path), mend=MEND)
        check_writable(self.path, folder=True)
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self._had_questions = (self.path / "questions").exists()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / ".lock"
        lock.touch()
        try:
            self._lock = lock_file(lock)
        except InputError as error:
            mend = "Wait for its end, or stop it"
            raise InputError("another comparison works in it", where=str(self.path), mend=mend) from error

    def take_back(self) -> None:
        """After a refusal, where nothing was scored or trained: remove the questions that were made for it."""
        if not self._begun() and not self._had_questions:
            shutil.rmtree(self.path / "questions", ignore_errors=True)

    def close(self) -> None:
        """Let other processes have the folder; where nothing has come of the comparison, leave nothing behind but questions."""
        if self._lock is None:
            return
        if not self._begun():
            self.plan_file.unlink(missing_ok=True)
            if not (self.path / "questions").exists():
                self._clear()
        os.close(self._lock)
        self._lock = None

    def _clear(self) -> None:
        for name in ("logs", "failed"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        (self.path / ".lock").unlink(missing_ok=True)
        with suppress(OSError):  # not empty: then it is somebody else's
            for folder in self._made:
                folder.rmdir()

    def _begun(self) -> bool:
        """Whether something was scored or trained: another plan cannot do without that."""
        return any((self.path / name).exists() for name in ("cells", "before"))

    def settle_plan(self, plan: Plan, cells: Sequence[Cell], files: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
        """Check that the plan goes on with what is in the folder; write it down, where nothing was trained yet, already here.

        Scores of questions that no plan was settled with are removed: they are of data that were refused, and may be others now.

        Raises:
            InputError: it differs in more than further cells; says in what.
        """
        settled = {"plan": plan.model_dump(mode="json"), "files": dict(files), "cells": [cell.id for cell in cells]}
        settled["described"] = {cell.id: _described(cell) for cell in cells}
        if self.plan_file.is_file() and self._begun():
            self._same(settled)
        self._settled = yaml.safe_dump({**settled, **provenance}, sort_keys=False, allow_unicode=True)
        if self._trained():
            self.forget_scores()
        else:
            self.write_plan()

    def write_plan(self) -> None:
        """Write the plan down that was settled: from now on the comparison is held to it."""
        write_text(self.plan_file, self._settled)

    def stamp(self) -> tuple[Path, str]:
        """The plan's file and what it holds, by which another machine sees that it has the folder."""
        return self.plan_file.absolute(), self.plan_file.read_text("utf-8")

    def _same(self, new: Mapping[str, Any]) -> None:
        where, old = str(self.plan_file), yaml.safe_load(self.plan_file.read_text("utf-8"))
        plan, files, described = old["plan"], old["files"], old["described"]
        for key in sorted((set(plan) | set(new["plan"])) - FREE):
            if plan.get(key) != new["plan"].get(key):
                what = f"the comparison in it has {key.replace('_', '-')} = {plan.get(key)!r}, this plan {new['plan'].get(key)!r}"
                raise InputError(what, where=where, mend=f"Go on with the same plan, or {MEND[0].lower()}{MEND[1:]}")
        mend = f"A plan may only be added to; take it back, or {MEND[0].lower()}{MEND[1:]}"
        gone = [cell for cell in described if cell not in new["described"]]
        if gone:
            more = f" (and {len(gone) - 1} more cells)" if len(gone) > 1 else ""
            raise InputError(f"the comparison in it has {described[gone[0]]}, this plan has not{more}", where=where, mend=mend)
        for data, splits in files.items():
            now = new["files"].get(data)
            if now is None:
                raise InputError(f"the comparison in it has questions {data!r}, this plan has not", where=where, mend=mend)
            for name in sorted(set(splits) | set(now)):
                was, is_now = splits.get(name), now.get(name)
                if was is None or is_now is None:
                    had = "no " if was is None else ""
                    raise InputError(f"the data set {data!r} of the comparison in it has {had}{name}", where=where, mend=mend)
                if was["sha256"] != is_now["sha256"] or (was["sha256"] is None and was["path"] != is_now["path"]):
                    raise InputError(f"{name} of {data!r} ({is_now['path']}) is not what it was", where=where, mend=mend)

    def cell(self, cell: Cell) -> Path:
        """The run folder of a cell."""
        return self.path / "cells" / cell.id

    def before(self, data: str) -> Path:
        """The file with the scores before training on the questions of a data set, at a seed where they differ by it."""
        return self.path / "before" / f"{data}.json"

    def scores(self, data: str) -> dict[str, Any]:
        """The scores on a data set before training."""
        file = self.before(data)
        try:
            found: dict[str, Any] = json.loads(file.read_text("utf-8"))
        except ValueError as error:
            raise InputError("it cannot be read", where=str(file), mend="Delete it; the model is then scored again") from error
        return found

    def forget_scores(self) -> None:
        """Remove the scores before training of data that have to be others: all where nothing was trained, else those not in the plan."""
        if not self._trained():
            shutil.rmtree(self.path / "before", ignore_errors=True)
            return
        kept = {self.before(data) for data in yaml.safe_load(self.plan_file.read_text("utf-8"))["files"]}
        for file in (self.path / "before").glob("*.json"):
            if file not in kept:
                file.unlink()

    def _trained(self) -> bool:
        return (self.path / "cells").exists()

    def fail(self, cell: Cell, why: Mapping[str, Any]) -> None:
        """Note why a cell has no result: ``status``, ``reason`` and, where it was stopped, the last ``epoch`` that counts."""
        write_json(self.path / "failed" / f"{cell.id}.json", why)

    def forgive(self, cell: Cell) -> None:
        """Forget that a cell failed: it is tried again."""
        (self.path / "failed" / f"{cell.id}.json").unlink(missing_ok=True)

    def row(self, cell: Cell, items: Mapping[str, Any]) -> tuple[Row | None, Row | None]:
        """What ``results.jsonl`` and ``costs.jsonl`` say of a cell; None where there is nothing yet.

        Raises:
            InputError: its folder holds something that no run left.
        """
        try:
            return self._row(cell, items)
        except (ValueError, KeyError, IndexError, FileNotFoundError) as error:
            mend = "Delete it; the cell is then trained again"
            raise InputError(f"it is not what a run leaves ({error})", where=str(self.cell(cell)), mend=mend) from error

    def _row(self, cell: Cell, items: Mapping[str, Any]) -> tuple[Row | None, Row | None]:
        failed = self.path / "failed" / f"{cell.id}.json"
        folder = self.cell(cell)
        if failed.is_file():
            found = json.loads(failed.read_text("utf-8"))
            last = found.pop("epoch", 0)
            lines = [line for line in _epochs(folder) if line["epoch"] <= last] if last else []
            ended = {"steps": lines[-1]["step"] if lines else None, "epochs": lines[-1]["epoch"] if lines else None}
            return cell.told() | found | ended | {"stopped_because": None} | _course(lines, items), None
        if not (folder / "summary.json").is_file():
            return None, None
        summary, lines = json.loads((folder / "summary.json").read_text("utf-8")), _to_the_end(folder, items)
        row = cell.told() | {"status": "finished", "reason": None, "steps": summary["steps"], "epochs": summary["epochs_run"]}
        row |= {"stopped_because": summary["stopped_because"], **_course(lines, items)}
        cost = {"cell": cell.id} | {key: summary[key] for key in ("seconds", "eval_seconds", "peak_memory_bytes")}
        machine = folder / MACHINE
        cost["machine"] = json.loads(machine.read_text("utf-8")) if machine.is_file() else None
        cost["commit"] = yaml.safe_load((folder / "config.yaml").read_text("utf-8")).get("git")
        return row, cost | {"seconds_at": [line.get("seconds", summary["seconds"]) for line in lines]}

    def course(self, cell: Cell, items: Mapping[str, Any]) -> dict[str, Any]:
        """The trajectory so far of a cell that has not ended."""
        return _course(_epochs(self.cell(cell)), items)

    def write(self, rows: Sequence[Row], costs: Sequence[Row]) -> None:
        """Write the rows that there are, whole."""
        write_jsonl(self.path / "results.jsonl", rows)
        write_jsonl(self.path / "costs.jsonl", costs)


def _ours(file: Path) -> bool:
    """Whether ``file`` is a plan that a comparison wrote down, not one that somebody wrote for it."""
    try:
        found = yaml.safe_load(file.read_text("utf-8")) if file.is_file() else None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, dict) and {"plan", "files", "cells", "described"} <= set(found)


def _described(cell: Cell) -> str:
    options = "".join(f" {name}.{key}={value}" for name, own in cell.options.items() for key, value in own.items())
    return f"{cell.label}{options}, {cell.optimizer} at lr {cell.lr:g}, seed {cell.seed}, on {cell.data}"


def _epochs(folder: Path) -> list[dict[str, Any]]:
    metrics = folder / "metrics.jsonl"
    whole = metrics.read_bytes().split(b"\n")[:-1] if metrics.is_file() else []  # a line being written has no end yet
    return [line for line in map(json.loads, whole) if line["kind"] == "epoch"]


def _to_the_end(folder: Path, items: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The scorings of a finished run. Of one whose model was changed after the last epoch (a blend, say): before it and of what it left.

    What stood in between is no state that the method gives, so nothing is read off it.
    """
    lines, left = _epochs(folder), dict[str, str]()
    for item in read_jsonl(folder / "items.jsonl"):
        left[item["split"]] = left.get(item["split"], "") + "01"[item["after"]]
    if left == lines[-1].get("right", left):
        return lines
    splits = {}
    for name, part in items.items():
        pairs = list(zip(part["before"], left[name], strict=True))
        splits[name] = {"total": len(pairs), "right": left[name].count("1"), "right_before": part["before"].count("1")}
        splits[name] |= {"learned": pairs.count(("0", "1")), "forgotten": pairs.count(("1", "0"))}
    return [lines[0], {"epoch": lines[-1]["epoch"], "step": lines[-1]["step"], "splits": splits, "right": left}]


def _course(lines: Sequence[Mapping[str, Any]], items: Mapping[str, Any]) -> dict[str, Any]:
    """The trajectory of a run, and its verdicts at the end."""
    told = []
    right = {name: part["before"] for name, part in items.items()}
    for line in lines:
        right = line.get("right", right)
        chosen = {}
        for name, part in items.items():
            if part["kind"] in ("A", "B", "C"):
                known = [index for index, (b, v) in enumerate(zip(part["before"], part["validation"], strict=True)) if b == v == "1"]
                chosen[name] = {"right_before": len(known), "forgotten": sum(right[name][index] == "0" for index in known)}
        told.append({"epoch": line["epoch"], "step": line["step"], "splits": line["splits"], "validation": chosen})
    return {"trajectory": told, "right": dict(right) if told else {}}


def items_of(splits: Mapping[str, Sequence[Any]], before: Mapping[str, Sequence[Any]], share: float, *, by_seed: bool) -> dict[str, Any]:
    """What ``items.json`` says of some questions: ids, verdicts before training, and which items serve the choice.

    Args:
        splits: questions by split.
        before: the content of ``before.json``.
        share: of the items to keep that serve the choice.
        by_seed: other seeds have other items, and some of these.
    """
    marked, found = marks_by_share if by_seed else validation_marks, {}
    for name, questions in splits.items():
        ids, kind = [question.id for question in questions], kind_of(name)
        marks = marked(ids, share) if kind in ("A", "B", "C") else "0" * len(ids)
        found[name] = {"kind": kind, "ids": ids, "before": "".join("01"[right] for right, _ in before[name]), "validation": marks}
    return found
