"""Reading a run folder into plain typed values. Strict: what does not fit the format is an InputError with its line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from forgetless.errors import InputError
from forgetless.report.fields import Fields
from forgetless.report.run import (
    Epoch,
    GuardAct,
    GuardLook,
    Item,
    Paired,
    Probe,
    Promise,
    Run,
    SplitCount,
    Step,
    Summary,
    Watched,
    counts_before,
)


def read_run(folder: Path) -> Run:
    """Read the run folder ``folder``.

    A run without ``summary.json`` is unfinished and still read; a last line of ``metrics.jsonl`` that was cut off in such
    a run is left out and noted.

    Raises:
        InputError: the folder is missing, is no run folder, or one of its files does not fit the format.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(what, where=str(folder), mend="Give the folder that `forgetless train` wrote")
    config_path, metrics_path = folder / "config.yaml", folder / "metrics.jsonl"
    for path in (config_path, metrics_path):
        if not path.is_file():
            raise InputError(
                f"is no run folder: it has no {path.name}", where=str(folder), mend="Give the folder that `forgetless train` wrote"
            )
    notes: list[str] = []
    summary_path, items_path = folder / "summary.json", folder / "items.jsonl"
    steps: list[Step] = []
    epochs: list[Epoch] = []
    finished = summary_path.is_file()
    for row in _lines(metrics_path, notes, may_be_torn=not finished):
        kind = row.text("kind")
        if kind == "step":
            steps.append(_step(row))
        elif kind == "epoch":
            epochs.append(_epoch(row, counts_before(epochs)))
        else:
            raise row.wrong("kind", f"must be 'step' or 'epoch', not {kind!r}")
    summary = _summary(_json_file(summary_path), counts_before(epochs)) if finished else None
    items: list[Item] = []
    if items_path.is_file():
        items = [_item(row) for row in _lines(items_path, notes, may_be_torn=summary is None)]
    elif summary is not None:
        notes.append("items.jsonl is missing: no items are shown and runs cannot be compared item by item.")
    guard_path = folder / "budget.jsonl"
    watched = _watched(_lines(guard_path, notes, may_be_torn=summary is None)) if guard_path.is_file() else None
    if summary is None:
        notes.append("Unfinished: no summary.json. Figures are those of the last epoch recorded so far.")
    return Run(folder, _config(config_path), tuple(steps), tuple(epochs), tuple(items), summary, tuple(notes), watched)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"is not UTF-8 text ({error.reason} at byte {error.start})", where=str(path), mend="Restore the file or train again"
        ) from error


def _json_file(path: Path) -> Fields:
    return Fields(_json(_read_text(path), str(path)), str(path))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f":{error.lineno}" if "\n" in text else ""
        raise InputError(f"is not JSON ({error.msg})", where=f"{where}{line}", mend="Restore the file or train again") from error
    except RecursionError as error:
        raise InputError("is nested too deeply", where=where, mend="Restore the file or train again") from error


def _lines(path: Path, notes: list[str], *, may_be_torn: bool) -> list[Fields]:
    lines = _read_text(path).split("\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value = _json(line, f"{path}:{number}")
        except InputError:
            if may_be_torn and number == len(lines):  # no newline after it: the run was stopped while writing
                notes.append(f"The last line of {path.name} was cut off and is left out.")
                continue
            raise
        rows.append(Fields(value, f"{path}:{number}"))
    return rows


def _config(path: Path) -> dict[str, Any]:
    try:
        value = yaml.safe_load(_read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"is not YAML ({str(error).splitlines()[0]})", where=str(path), mend="Restore the file or train again") from error
    fields = Fields(value, str(path))
    fields.text("method")
    return dict(fields.mapping)


def _step(row: Fields) -> Step:
    method, first_order = row.part("method"), row.maybe_part("first_order")
    return Step(
        row.whole("step"),
        row.whole("epoch"),
        row.number("loss"),
        row.number("lr"),
        row.number("seconds"),
        method.maybe_number("conflicting_fraction"),
        method.maybe_number("sign_flips"),
        first_order.number("predicted") if first_order else None,
        first_order.number("real") if first_order else None,
    )


def _epoch(row: Fields, start: Mapping[str, SplitCount]) -> Epoch:
    """``start``: the counts before training, beyond which nothing can be learned or forgotten."""
    splits = {}
    for name, part in row.parts("splits"):
        total, first = part.whole("total"), start.get(name)
        wrong, right = (first.total - first.right, first.right) if first else (total, total)
        splits[name] = SplitCount(total, part.count("right", total), part.count("learned", wrong), part.count("forgotten", right))
    layers = row.maybe_part("layers")
    return Epoch(
        row.whole("epoch"),
        row.whole("step"),
        row.number("seconds"),
        splits,
        _by_name(layers),
        {name: _both_ways(part) for name, part in row.parts("kl")},
        _by_name(row.maybe_part("moved")),
        _by_name(row.maybe_part("flips")),
        row.maybe_number("circuit"),
        tuple(row.texts("warnings")),
    )


def _by_name(fields: Fields | None) -> dict[str, float]:
    return {name: fields.number(name) for name in fields.mapping} if fields else {}


def _both_ways(fields: Fields) -> tuple[float, float]:
    return fields.part("forward").number("mean"), fields.part("reverse").number("mean")


def _item(row: Fields) -> Item:
    return Item(
        row.text("id"),
        row.text("split"),
        row.maybe_text("subject"),
        row.text("prompt"),
        row.text("answer"),
        row.flag("before"),
        row.flag("after"),
        row.maybe_text("said_before"),
        row.maybe_text("said_after"),
        row.maybe_text("lang"),
    )


def _watched(rows: list[Fields]) -> Watched | None:
    """The lines of ``budget.jsonl``; None before the first."""
    allowed: float | None = None
    looks: list[GuardLook] = []
    acts: list[GuardAct] = []
    for row in rows:
        kind = row.text("kind")
        if kind == "start":
            allowed = row.number("allowed")
        elif kind == "look":
            total, low, high = row.whole("total"), row.number("low"), row.number("high")
            rest = row.maybe_number("expected"), row.maybe_flag("good"), row.maybe_number("seconds")
            looks.append(GuardLook(row.whole("step"), row.count("forgotten", total), total, low, high, *rest))
        elif kind == "act":
            acts.append(GuardAct(row.whole("step"), row.text("act"), row.maybe_text("what") or "", row.maybe_text("reason") or ""))
        else:
            raise row.wrong("kind", f"must be 'start', 'look' or 'act', not {kind!r}")
    return None if allowed is None else Watched(allowed, tuple(looks), tuple(acts))


def _promise(row: Fields) -> Promise | None:
    """The budget of a summary: a mapping, or the allowed share alone."""
    if not isinstance(row.mapping.get("budget"), dict):
        allowed = row.maybe_number("budget")
        return None if allowed is None else Promise(allowed)
    part = row.part("budget")
    total = part.maybe_whole("total")
    return Promise(
        allowed=part.number("allowed"),
        kept=part.maybe_flag("kept"),
        forgotten=part.maybe_count("forgotten", total),
        total=total,
        low=part.maybe_number("low"),
        high=part.maybe_number("high"),
        upper=part.maybe_number("upper"),
        confidence=part.maybe_number("confidence"),
        acts=part.maybe_whole("acts"),
        blend=part.maybe_number("blend"),
    )


def _summary(row: Fields, start: Mapping[str, SplitCount]) -> Summary:
    """``start``: the counts before training; of a probe no more can be forgotten than was right then."""
    probes = {}
    for name, part in row.parts("probes"):
        total, first = part.whole("total"), start.get(name)
        probes[name] = Probe(total, part.count("forgotten", first.right if first else total))
    inject, heldout = row.whole("inject_total"), row.maybe_whole("inject_heldout_total")
    retain, retain_heldout = row.maybe_whole("retain_total"), row.maybe_whole("retain_heldout_total")
    paired = {
        name: Paired(
            part.whole("n"),
            part.whole("learned"),
            part.whole("forgotten"),
            part.number("p_value"),
            part.number("difference"),
            part.number("low"),
            part.number("high"),
        )
        for name, part in row.parts("paired")
    }
    return Summary(
        method=row.text("method"),
        model=row.text("model"),
        seed=row.maybe_whole("seed"),
        epochs_run=row.whole("epochs_run"),
        steps=row.whole("steps"),
        seconds=row.number("seconds"),
        eval_seconds=row.maybe_number("eval_seconds"),
        peak_memory_bytes=row.maybe_whole("peak_memory_bytes"),
        stopped_because=row.maybe_text("stopped_because"),
        inject_total=inject,
        learned=row.count("learned", inject),
        inject_heldout_total=heldout,
        learned_heldout=row.maybe_count("learned_heldout", heldout),
        retain_total=retain,
        forgotten=row.maybe_count("forgotten", retain),
        retain_heldout_total=retain_heldout,
        forgotten_heldout=row.maybe_count("forgotten_heldout", retain_heldout),
        probes=probes,
        conflicting_fraction=row.maybe_number("conflicting_fraction"),
        constraint_violation=row.maybe_number("constraint_violation"),
        budget=_promise(row),
        verdict=row.maybe_text("verdict"),
        paired=paired,
    )
