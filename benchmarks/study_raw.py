"""Raw results of the study: what a comparison (or several streams) left, reduced to what its figures need, without paths.

``docs/results/study/NAME.json`` is either

* ``{"kind": "comparison", "machine", "head", "items", "rows"}``: ``head`` and ``items`` as `forgetless.comparison.summary.summarize` takes
  them, and a row for each cell with its settings, its costs, ``"way": [[epoch, step, {split: [right, learned, forgotten, forgotten of
  the validation items]}]]``, and of CPL ``"signs"``: see `signs`; ``"renamed"``, where there is such, has by the label with which a method
  was run the one under which it is shown; or
* ``{"kind": "streams", "made", "runs": {name: settings, tasks and figures of each seed}}``; a name is LABEL or LABEL/DRAW of the facts, and
  the draws are the seeds in ``"made"``: see `raw`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import yaml

from forgetless.comparison.result import own_items
from forgetless.errors import InputError
from forgetless.evaluation.matrix import Matrix
from forgetless.files import read_jsonl, write_text
from raw import processor, without_paths

Row = dict[str, Any]
_HEAD = ("format", "title", "command", "commit", "versions", "model", "scorer", "template", "budget", "levels", "seeds", "validation")
_CELL = ("cell", "data", "label", "method", "options", "optimizer", "lr", "trial", "seed", "status", "reason", "steps", "epochs")
_COST = ("seconds", "eval_seconds", "peak_memory_bytes", "seconds_at")
_STREAM = ("method", "method_args", "tasks", "setting", "mean")
_CONFIG = ("lr", "epochs", "until_learned", "memory", "model", "versions", "git")


def keep(folder: Path, name: str, results: Path, labels: Mapping[str, str] | None = None) -> Path:
    """Write the raw result of a folder.

    Args:
        folder: of a comparison, or one with a folder for each of several streams.
        name: of the raw file, without suffix.
        results: where raw files stand.
        labels: by the label with which methods were run the one under which they are shown, since what a name stands for has changed.

    Raises:
        InputError: the folder holds neither, or nothing was run under such a label.
    """
    if (folder / "comparison.json").is_file():
        found = comparison(folder, labels)
    elif runs := sorted(folder.glob("**/matrix.json")):
        told = {str(run.parent.relative_to(folder)): _stream(run) for run in runs}
        made = {
            "commands": [f"sh benchmarks/study/{name}.sh STUDY"],
            "commits": sorted({run["git"] for run in told.values() if run["git"]}),
            "seeds": sorted({run["draw"] for run in told.values()}),
            "machines": [machine([])],
        }
        found = {"kind": "streams", "made": made, "runs": told}
    else:
        raise InputError("neither a comparison nor streams that have ended", where=str(folder))
    results.mkdir(parents=True, exist_ok=True)
    write_text(results / f"{name}.json", _text(found))
    return results / f"{name}.json"


def comparison(folder: Path, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The raw result of a comparison."""
    labels = labels or {}
    told = json.loads((folder / "comparison.json").read_text("utf-8"))
    costs = {cost["cell"]: cost for cost in read_jsonl(folder / "costs.jsonl")}
    items = json.loads((folder / "items.json").read_text("utf-8"))
    head = {key: told[key] for key in (*_HEAD, "baselines", "splits")}
    head |= {"commits": told.get("commits"), "command": without_paths(head["command"]), "model": Path(head["model"]).name}
    rows = [_reduced(row, costs.get(row["cell"])) for row in read_jsonl(folder / "results.jsonl")]
    for row in rows:
        file = folder / "cells" / row["cell"] / "metrics.jsonl"
        if row["method"] == "cpl" and file.is_file() and (told := signs(read_jsonl(file))):
            row["signs"] = told
    if missing := set(labels) - {row["label"] for row in rows}:
        raise InputError(f"nothing was run as {', '.join(sorted(missing))}", where=str(folder), mend="Name labels of its plan")
    rows = [row | {"label": labels.get(row["label"], row["label"])} for row in rows]
    renamed = {"renamed": dict(labels)} if labels else {}
    return {"kind": "comparison", "machine": machine(list(costs.values())), "head": head, **renamed, "items": items, "rows": rows}


def signs(lines: list[Row]) -> dict[str, float] | None:
    """Of a training by CPL, the shares of all weights that it reported, None where it reported none.

    ``conflicting``: held back at a step, in the mean over the steps; ``flipped``: whose reference has another sign than ``every`` steps
    before, in the mean over the refreshes.
    """
    steps = [line for line in lines if line["kind"] == "step" and "conflicting_fraction" in line["method"]]
    turned = [(line["step"], line["method"]["sign_flips"]) for line in steps if line["method"].get("refresh")]
    if not steps:
        return None
    found = {"conflicting": mean(line["method"]["conflicting_fraction"] for line in steps)}
    if len(turned) > 1:
        found |= {"flipped": mean(share for _, share in turned), "every": turned[1][0] - turned[0][0]}
    return found


def restored(raw: dict[str, Any]) -> tuple[dict[str, Any], list[Row], list[Row], dict[str, Any]]:
    """Of a raw comparison what `forgetless.comparison.summary.summarize` takes: head, rows, costs and items."""
    rows = [_whole(row, own_items(row, raw["items"])) for row in raw["rows"]]
    costs = [{"cell": row["cell"], **row["cost"]} for row in raw["rows"] if row["cost"]]
    return raw["head"], rows, costs, raw["items"]


def machine(costs: list[Row]) -> dict[str, Any]:
    """The processor of this machine and its cores, or of those on which the cells ran where they say so."""
    cores = {cost["machine"]["cores"] for cost in costs if cost.get("machine")} or {os.cpu_count()}
    gpus = sorted({cost["machine"]["gpu"] for cost in costs if cost.get("machine") and cost["machine"]["gpu"]})
    return {"cpu": processor(), "cores": sorted(cores), "gpus": gpus}


def _reduced(row: Row, cost: Row | None) -> Row:
    way = [
        [
            point["epoch"],
            point["step"],
            {
                name: [told["right"], told["learned"], told["forgotten"], point["validation"].get(name, {}).get("forgotten", 0)]
                for name, told in point["splits"].items()
            },
        ]
        for point in row["trajectory"]
    ]
    found = {key: row[key] for key in _CELL} | {"stopped_because": row["stopped_because"], "right": row["right"], "way": way}
    if found["reason"]:
        found["reason"] = re.sub(r"(/[\w.@+-]+)+/", "", found["reason"])
    return found | {"cost": {key: cost[key] for key in _COST} if cost else None}


def _whole(row: Row, items: dict[str, Any]) -> Row:
    trajectory = []
    for epoch, step, splits in row["way"]:
        tables, chosen = {}, {}
        for name, (right, learned, forgotten, of_chosen) in splits.items():
            part = items[name]
            known = part["before"].count("1")
            tables[name] = {"total": len(part["before"]), "right": right, "right_before": known, "learned": learned, "forgotten": forgotten}
            if part["kind"] in ("A", "B", "C"):
                both = [before == mark == "1" for before, mark in zip(part["before"], part["validation"], strict=True)]
                chosen[name] = {"right_before": sum(both), "forgotten": of_chosen}
        trajectory.append({"epoch": epoch, "step": step, "splits": tables, "validation": chosen})
    own = {key: value for key, value in row.items() if key not in ("way", "cost")}
    return own | {"trajectory": trajectory}


def _stream(matrix: Path) -> dict[str, Any]:
    told = json.loads(matrix.read_text("utf-8"))
    config = yaml.safe_load((matrix.parent / "config.yaml").read_text("utf-8"))
    kept = {key: told[key] for key in _STREAM} | {key: config[key] for key in _CONFIG} | {"model": Path(config["model"]).name}
    return kept | {"draw": config["stream_args"].get("seed", 0), "seeds": [_passed(seed) for seed in told["seeds"]]}


def _passed(seed: dict[str, Any]) -> dict[str, Any]:
    """The figures of one seed of a stream; of each probe how many questions were known before, and the share forgotten after each task."""
    tasks = range(len(seed["baseline"]))
    heldout = [value for value in (seed["heldout"] or [[]])[-1] if value is not None]
    after = [
        {name: [1 - mean(right[task] for right in known.values()) for task in tasks]}
        for name, known in seed.get("probes", {}).items()
        if known
    ]
    return {
        "seed": seed["seed"],
        **Matrix(seed["accuracy"], seed["baseline"]).figures(),
        "learned": mean(seed["accuracy"][task][task] for task in tasks),
        "heldout": mean(heldout) if heldout else None,
        "probes": {name: shares for one in after for name, shares in one.items()},
        "known": {name: len(known) for name, known in seed.get("probes", {}).items()},
        "steps": sum(seed["steps"]),
        "seconds": sum(seed["seconds"]),
    }


def _text(found: dict[str, Any]) -> str:
    """JSON with one cell, run or set of items a line."""
    lines = []
    for key, value in found.items():
        if key in ("rows", "items", "runs"):
            own = [json.dumps(one, ensure_ascii=False) for one in value] if isinstance(value, list) else []
            if isinstance(value, dict):
                own = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in value.items()]
            opening, closing = "[]" if isinstance(value, list) else "{}"
            text = f"{opening}\n" + ",\n".join(own) + f"\n{closing}"
        else:
            text = json.dumps(value, ensure_ascii=False)
        lines.append(f"{json.dumps(key)}: {text}")
    return "{" + ",\n".join(lines) + "}\n"
