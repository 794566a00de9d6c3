"""``comparison.json``: all that the table and the page show, worked out from ``results.jsonl``, ``costs.jsonl`` and ``items.json``.

Its form (format 1). ``I`` is ``{"mean", "low", "high", "n"}``: mean and 95% Student-t interval over ``n`` seeds (low and high null with
one seed), or null where no seed has a value. Shares are in [0, 1]. A is the retain set, B its held-out part, C all probes together.
**All figures are of test items**; validation items serve the choice of a trial alone.

```
{"format": 1, "title", "command", "commit", "versions", "model", "scorer", "template",
 "commits": [of the program, when the cells were trained],
 "budget": {"epochs", "steps", "seconds", "until_learned"},        # one of the first three is a number, the others null
 "levels": [0.5, 0.8, 0.9], "seeds": [0, 1, 2], "validation": 0.3, "baselines": ["none", "replay"],
 "splits": {"A": "retain"|null, "B": "retain-heldout"|null, "C": [names of probes]},
 "items": {data: {"inject": n, "inject-heldout": n|null, "A": {"test": n, "validation": n}|null, "B": .., "C": ..}},
                                                      # to learn: unknown before; to keep: known before; by "data@seed" where it differs
 "cells": {"total", "finished", "failed", "pruned"}, "problems": [{"cell", "status", "reason"}],
 "entries": [                                         # one for each data set x label, in the plan's order
   {"data", "label", "method": "replay,cpl", "baseline": bool,
    "trials": [                                       # every combination of options, optimizer and rate that was tried
      {"trial": 0, "options": {"cpl": {"refresh": 4}}, "optimizer", "lr", "seeds": [finished ones], "failed": n, "pruned": bool,
       "final": {"learned": I, "learned_heldout": I, "A": I, "B": I, "C": I},
       "at": {"0.5": {"reached": seeds that reach it, "A": I, "B": I, "C": I, "seconds": I, "steps": I}, ..},
       "area": {"reached": seeds, "A": I, "B": I, "C": I},          # up to the largest level; lower is better
       "seconds": I, "eval_seconds": I, "steps": I, "peak_memory_bytes": I,
       "validation": {"at": {"0.5": objective|null, ..}},           # mean forgotten share of B and C (of A without them)
       "trajectory": [{"epoch", "learned", "A", "B", "C", "n"}],    # means over the n seeds that came so far
       "trajectories": [{"seed", "points": [{"epoch", "step", "seconds", "learned", "A", "B", "C"}]}]}],
    "chosen": {"trial", "level", "value", "why"}|null,
    "frontier": {"A": [{"learned", "forgotten", "trial"}], "B": [..], "C": [..]},   # means at levels and at the end that none beats, of the
                                                      # trials with the most finished seeds
    "against": {                                      # the chosen trial against the chosen trial of a baseline; not for itself
      "none": {"trial", "seeds": [common ones],
               "at": {"0.9": {"A": D, "B": D, "C": D}, ..},         # D = {"difference", "low", "high", "p", "n"}: paired by seed
               "items": {"A": T, "B": T, "C": T}}}}]}               # T = {"difference", "p", "n", "worse", "better"}: at the end, by item
```

``difference`` is the method's forgotten share minus the baseline's: negative is better. At a level only the seeds count in which both
reach it. See `forgetless.comparison.intervals` for the tests, `forgetless.comparison.choice` for the choice. None is corrected for the
number of comparisons. A row of ``results.jsonl`` is described in `forgetless.comparison.result`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.comparison.choice import Candidate, choose
from forgetless.comparison.curves import area, at_level, frontier
from forgetless.comparison.intervals import AMOUNT, SHARE, item_difference, over_seeds, seed_difference
from forgetless.comparison.result import KEPT, Curve, curve, forgotten_items, own_items

Row = dict[str, Any]


def summarize(head: Mapping[str, Any], rows: Sequence[Row], costs: Sequence[Row], items: Mapping[str, Any]) -> dict[str, Any]:
    """The content of ``comparison.json``.

    Args:
        head: what does not follow from the rows: format, title, command, commit, versions, model, budget, levels, seeds, baselines, ...
        rows: of ``results.jsonl``.
        costs: of ``costs.jsonl``.
        items: the content of ``items.json``.
    """
    spent = {cost["cell"]: cost for cost in costs}
    levels, names = list(head["levels"]), list(dict.fromkeys((row["data"], row["label"]) for row in rows))
    entries = [_entry([row for row in rows if (row["data"], row["label"]) == name], spent, items, levels) for name in names]
    chosen = {(entry["data"], entry["label"]): entry for entry in entries}
    for entry in entries:
        entry["baseline"] = entry["label"] in head["baselines"]
        for baseline in head["baselines"]:
            other = chosen.get((entry["data"], baseline))
            if other is not None and other is not entry and entry["chosen"] and other["chosen"]:
                entry["against"][baseline] = _against(entry, other, rows, items, levels)
    done = [row["status"] for row in rows]
    counted = {"total": len(rows), "finished": done.count("finished"), "failed": done.count("failed"), "pruned": done.count("pruned")}
    problems = [{key: row[key] for key in ("cell", "status", "reason")} for row in rows if row["status"] != "finished"]
    sizes = {data: {name: _sizes(found, name) for name in ("inject", "inject-heldout", *KEPT)} for data, found in items.items()}
    return {**head, "items": sizes, "cells": counted, "problems": problems, "entries": entries}


def _sizes(found: Mapping[str, Any], name: str) -> Any:
    """How many items there are to learn, or to keep in each part."""
    if name not in KEPT:
        return found[name]["before"].count("0") if name in found else None
    parts = [part for part in found.values() if part["kind"] == name]
    if not parts:
        return None
    pairs = [(part["before"], part["validation"]) for part in parts]
    chosen = sum(known == mark == "1" for before, marks in pairs for known, mark in zip(before, marks, strict=True))
    return {"test": sum(before.count("1") for before, _ in pairs) - chosen, "validation": chosen}


def _entry(rows: Sequence[Row], spent: Mapping[str, Row], items: Mapping[str, Any], levels: Sequence[float]) -> dict[str, Any]:
    numbers = sorted({row["trial"] for row in rows})
    groups = [[row for row in rows if row["trial"] == number] for number in numbers]
    trials = [_trial(group, spent, items, levels) for group in groups]
    candidates = [candidate(group, spent, items, levels) for group in groups if any(row["status"] == "finished" for row in group)]
    found = choose(candidates)
    first = rows[0]
    return {
        "data": first["data"],
        "label": first["label"],
        "method": first["method"],
        "trials": trials,
        "chosen": found and {"trial": found.trial, "level": found.level, "value": found.value, "why": found.why},
        "frontier": {kind: _frontier(trials, kind) for kind in KEPT},
        "against": {},
    }


def _curves(rows: Sequence[Row], spent: Mapping[str, Row], items: Mapping[str, Any], part: str) -> list[Curve]:
    return [curve(row, spent.get(row["cell"]), own_items(row, items), part) for row in rows if row["status"] == "finished"]


def _trial(rows: Sequence[Row], spent: Mapping[str, Row], items: Mapping[str, Any], levels: Sequence[float]) -> dict[str, Any]:
    done, curves = [row for row in rows if row["status"] == "finished"], _curves(rows, spent, items, "test")
    first = rows[0]
    found: dict[str, Any] = {key: first[key] for key in ("trial", "options", "optimizer", "lr")}
    found["seeds"] = [row["seed"] for row in done]
    found["failed"] = sum(row["status"] == "failed" for row in rows)
    found["pruned"] = any(row["status"] == "pruned" for row in rows)
    found["final"] = {"learned": over_seeds([one.learned[-1] for one in curves], SHARE)}
    found["final"]["learned_heldout"] = over_seeds([_heldout(row) for row in done], SHARE)
    found["final"] |= {kind: over_seeds([_last(one.kept[kind]) for one in curves], SHARE) for kind in KEPT}
    found["at"] = {f"{level:g}": _at(curves, level) for level in levels}
    top = max(levels)
    found["area"] = {"reached": sum(one.reaches(top) for one in curves)}
    found["area"] |= {kind: over_seeds([_area(one, one.kept[kind], top) for one in curves], SHARE) for kind in KEPT}
    for key in ("seconds", "eval_seconds", "peak_memory_bytes"):
        found[key] = over_seeds([spent[row["cell"]][key] for row in done if row["cell"] in spent], AMOUNT)
    found["steps"] = over_seeds([float(row["steps"]) for row in done], AMOUNT)
    found["validation"] = {"at": {f"{level:g}": _objective(rows, spent, items, level) for level in levels}}
    found["trajectory"] = _mean_trajectory(curves)
    found["trajectories"] = [{"seed": row["seed"], "points": one.points()} for row, one in zip(done, curves, strict=True)]
    return found


def _heldout(row: Row) -> float | None:
    table = row["trajectory"][-1]["splits"].get("inject-heldout")
    unknown = table["total"] - table["right_before"] if table else 0
    return table["learned"] / unknown if table and unknown else None


def _last(values: Sequence[float] | None) -> float | None:
    return values[-1] if values else None


def _area(one: Curve, values: Sequence[float] | None, top: float) -> float | None:
    return None if values is None else area(one.learned, values, top)


def _level(one: Curve, values: Sequence[float] | None, level: float) -> float | None:
    return None if values is None else at_level(one.learned, values, level)


def _at(curves: Sequence[Curve], level: float) -> dict[str, Any]:
    found: dict[str, Any] = {"reached": sum(one.reaches(level) for one in curves)}
    found |= {kind: over_seeds([_level(one, one.kept[kind], level) for one in curves], SHARE) for kind in KEPT}
    found["seconds"] = over_seeds([_level(one, one.seconds, level) for one in curves], AMOUNT)
    return found | {"steps": over_seeds([_level(one, one.steps, level) for one in curves], AMOUNT)}


def _objective(rows: Sequence[Row], spent: Mapping[str, Row], items: Mapping[str, Any], level: float) -> float | None:
    """The mean over seeds of the forgotten share on validation items, of B and C alike (of A without them); None if a seed stays below.

    Where the plan keeps no item for the choice, test items serve.
    """
    chosen = any("1" in found["validation"] for row in rows for found in own_items(row, items).values())
    values, part = [], "validation" if chosen else "test"
    for one in _curves(rows, spent, items, part):
        found = [_level(one, one.kept[kind], level) for kind in ("B", "C") if one.kept[kind] is not None]
        found = found or [_level(one, one.kept["A"], level)]
        if not one.reaches(level):
            return None
        shares = [value for value in found if value is not None]
        values.append(sum(shares) / len(shares) if shares else 0.0)
    return sum(values) / len(values) if values else None


def candidate(rows: Sequence[Row], spent: Mapping[str, Row], items: Mapping[str, Any], levels: Sequence[float]) -> Candidate:
    """What the choice of a trial needs to know of it.

    Args:
        rows: of all its seeds that count, one at least finished.
        spent: rows of ``costs.jsonl`` by cell; steps count here, seconds do not.
        items: the content of ``items.json``.
        levels: those of the plan.
    """
    curves = _curves(rows, spent, items, "validation")
    steps = {level: [at_level(one.learned, one.steps, level) for one in curves] for level in levels}
    return Candidate(
        trial=rows[0]["trial"],
        complete=len(curves) == len(rows),
        objective={level: _objective(rows, spent, items, level) for level in levels},
        steps={level: sum(v for v in found if v is not None) / len(found) for level, found in steps.items()},
        learned=sum(one.learned[-1] for one in curves) / len(curves),
    )


def _mean_trajectory(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    points = []
    for index in range(max((len(one.learned) for one in curves), default=0)):
        here = [one for one in curves if len(one.learned) > index]
        point: dict[str, Any] = {
            "epoch": max(one.epochs[index] for one in here),
            "learned": sum(one.learned[index] for one in here) / len(here),
        }
        for kind in KEPT:
            values = [one.kept[kind] for one in here]
            point[kind] = sum(v[index] for v in values if v is not None) / len(here) if all(v is not None for v in values) else None
        points.append(point | {"n": len(here)})
    return points


def _frontier(trials: Sequence[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Of the trials' means at the end, and at the levels that all of their seeds reach, the points that none beats.

    A trial with fewer finished seeds than another, as one that was pruned after the first, gives none: one seed may be lucky.
    """
    points, seeds = [], max(len(trial["seeds"]) for trial in trials)
    for trial in trials:
        if not seeds or len(trial["seeds"]) < seeds:
            continue
        if trial["final"][kind]:
            points.append((trial["final"]["learned"]["mean"], trial["final"][kind]["mean"], trial["trial"]))
        for level, found in trial["at"].items():
            if found[kind] and found["reached"] == seeds:
                points.append((float(level), found[kind]["mean"], trial["trial"]))
    return [{"learned": learned, "forgotten": lost, "trial": trial} for learned, lost, trial in frontier(points)]


def _against(
    entry: Mapping[str, Any], other: Mapping[str, Any], rows: Sequence[Row], items: Mapping[str, Any], levels: Sequence[float]
) -> dict[str, Any]:
    """The chosen trials of two entries, seed by seed and item by item."""
    own, theirs = (_finished(rows, one) for one in (entry, other))
    seeds = [seed for seed in own if seed in theirs]
    pairs = [tuple(curve(one[seed], None, own_items(one[seed], items), "test") for one in (own, theirs)) for seed in seeds]
    at: dict[str, Any] = {}
    for level in levels:
        at[f"{level:g}"] = {}
        for kind in KEPT:
            found = [(_level(a, a.kept[kind], level), _level(b, b.kept[kind], level)) for a, b in pairs]
            both = [(a, b) for a, b in found if a is not None and b is not None]
            at[f"{level:g}"][kind] = seed_difference([a for a, _ in both], [b for _, b in both])
    lost = {
        kind: [[forgotten_items(one[seed], own_items(one[seed], items), kind) for seed in seeds] for one in (own, theirs)] for kind in KEPT
    }
    return {
        "trial": other["chosen"]["trial"],
        "seeds": seeds,
        "at": at,
        "items": {kind: item_difference(one, two) for kind, (one, two) in lost.items()},
    }


def _finished(rows: Sequence[Row], entry: Mapping[str, Any]) -> dict[int, Row]:
    key = (entry["data"], entry["label"], entry["chosen"]["trial"])
    return {row["seed"]: row for row in rows if (row["data"], row["label"], row["trial"]) == key and row["status"] == "finished"}
