"""The page of a comparison: methods × rates × seeds under one budget, from ``comparison.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetless.errors import InputError
from forgetless.files import write_text
from forgetless.report.charts import Chart
from forgetless.report.comparison_charts import against_charts, cost_charts, frontier_charts, trajectory_charts
from forgetless.report.comparison_tables import against_table, board, frontier_table, level_table, problem_table, trial_table
from forgetless.report.comparison_words import Words, level_of, words
from forgetless.report.frame import render_page
from forgetless.report.numbers import duration, percent

FILE = "comparison.json"
_MEND = "Give a folder that `forgetless compare` wrote"


def write_comparison(folder: Path) -> Path:
    """Write ``report.html`` into the comparison's ``folder`` and return it.

    Raises:
        InputError: it holds no ``comparison.json``, or one of another format.
    """
    return write_comparison_page(folder, folder / "report.html")


def write_comparison_page(path: Path, out: Path, *, title: str | None = None) -> Path:
    """Write the page on the comparison at ``path`` (its folder or its ``comparison.json``) to the file ``out`` and return it.

    Raises:
        InputError: there is none, or it is of another format.
    """
    write_text(out, render(read_comparison(path), title=title, where=str(path)))
    return out


def is_comparison(path: Path) -> bool:
    """Whether ``path`` is a comparison's folder, or a JSON file with the form of a ``comparison.json``."""
    if path.is_dir():
        return (path / FILE).is_file()
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except ValueError:  # not JSON; what it is else, is for others to say
        return False
    return isinstance(found, dict) and "entries" in found


def read_comparison(path: Path) -> dict[str, Any]:
    """The content of a ``comparison.json``.

    Raises:
        InputError: there is none, or it is of another format.
    """
    file = path / FILE if path.is_dir() else path
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"it holds no comparison ({error})", where=str(path), mend=_MEND) from error
    if not isinstance(found, dict) or found.get("format") != 1 or not isinstance(found.get("entries"), list):
        raise InputError("it is no comparison of format 1", where=str(file), mend=_MEND)
    return found


def data_sets(report: Mapping[str, Any]) -> list[str]:
    """The names of the data sets, in the order of the plan."""
    return list(dict.fromkeys(entry["data"] for entry in report["entries"]))


def labels(report: Mapping[str, Any]) -> list[str]:
    """The labels of the methods, each once: their places give the colours, the same in every data set."""
    return list(dict.fromkeys(entry["label"] for entry in report["entries"]))


def render(report: Mapping[str, Any], *, title: str | None = None, where: str = FILE) -> str:
    """The page as HTML.

    Raises:
        InputError: something that every comparison has is missing; ``where`` is named.
    """
    try:
        names = labels(report)
        views = [_view(report, data, names, index) for index, data in enumerate(data_sets(report))]
        told = words(report)
        return render_page(
            "comparison.html.j2",
            title=title or report["title"],
            sections=_sections(views, report),
            names=names,
            report=report,
            verdict=told,
            views=views,
            budget=budget_words(report["budget"]),
            problems=problem_table(report["problems"]) if report["problems"] else None,
            facts=facts(report),
        )
    except (KeyError, TypeError, IndexError) as error:
        what = f"it does not fit the format of a comparison ({type(error).__name__}: {error})"
        raise InputError(what, where=where, mend="Make it again with `forgetless compare`") from error


def comparison_charts(report: Mapping[str, Any]) -> list[tuple[Chart, Sequence[str]]]:
    """Every chart of the page, each with the names of its series."""
    names = labels(report)
    found: list[tuple[Chart, Sequence[str]]] = []
    for index, data in enumerate(data_sets(report)):
        view = _view(report, data, names, index)
        drawn = [view["hero"][0], *view["small"], *view["trajectories"], *view["cost"]] if view["hero"] else [*view["trajectories"]]
        found += [(chart, names) for chart in (*drawn, *view["against"])]
    return found


def budget_words(budget: Mapping[str, Any]) -> str:
    """What every cell may spend, in words."""
    parts = [f"{budget[key]:,} {key}" for key in ("epochs", "steps") if budget.get(key) is not None]
    parts += [duration(budget["seconds"])] if budget.get("seconds") is not None else []
    until = budget.get("until_learned")
    return (" and ".join(parts) or "no limit") + (f", or until {percent(until)} is learned" if until is not None else "")


def facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the comparison was set up, in lines."""
    splits = report["splits"]
    seeds, cells = report["seeds"], report["cells"]
    sizes = [
        f"{data}: {own['inject']} to learn; "
        + ", ".join(f"{kind} {own[kind]['test']}" for kind in "ABC" if own.get(kind))
        + " to keep (test)"
        for data, own in report["items"].items()
    ]
    return [
        ("Model", str(report["model"])),
        ("Budget of each cell", budget_words(report["budget"])),
        ("A, which a method may use", str(splits["A"] or "none")),
        ("B, held out, of the same kinds", str(splits["B"] or "none")),
        ("C, other kinds", ", ".join(splits["C"]) or "none"),
        ("Items", "; ".join(sizes)),
        ("Seeds", ", ".join(str(seed) for seed in seeds)),
        ("Cells", f"{cells['finished']} of {cells['total']} finished, {cells['failed']} failed, {cells['pruned']} pruned"),
        ("Kept for choosing", f"{percent(report['validation'])} of the items to keep; figures are of the others"),
        ("Scorer", str(report.get("scorer") or "exact")),
        ("Commit", ", ".join(report.get("commits") or [str(report.get("commit") or "unknown")])),
        ("Versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())),
    ]


def _sections(views: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> list[tuple[str, str]]:
    if len(views) == 1:
        view = views[0]
        there = {
            "results": True,
            "frontier": view["hero"],
            "against": view["against"],
            "by-epoch": view["trajectories"],
            "cost": view["cost"],
        }
        names = {"results": "Results", "frontier": "Frontier", "against": "Against", "by-epoch": "Epochs", "cost": "Cost"}
        found = [(f"{id}-0", name) for id, name in names.items() if there[id]]
    else:
        found = [(f"results-{index}", view["data"]) for index, view in enumerate(views)]
    return [*found, *([("problems", "Problems")] if report["problems"] else []), ("settings", "Reproduce")]


def _view(report: Mapping[str, Any], data: str, names: Sequence[str], index: int) -> dict[str, Any]:
    entries = [entry for entry in report["entries"] if entry["data"] == data]
    level = level_of(entries, report["levels"])
    frontier = frontier_charts(entries, names, index)
    return {
        "data": data,
        "level": level,
        "board": board(entries, names, level),
        "levels": level_table(entries, names, report["levels"]),
        "hero": frontier[0] if frontier else None,
        "small": [narrow for _, narrow in frontier[1:]],
        "frontier": frontier_table(entries),
        "trajectories": trajectory_charts(entries, names, index),
        "against": against_charts(entries, names, report["baselines"], level, index),
        "against_table": against_table(entries, report["baselines"]),
        "cost": cost_charts(entries, names, level, index),
        "trials": trial_table(entries),
    }


__all__ = ["Words", "comparison_charts", "is_comparison", "read_comparison", "render", "write_comparison", "write_comparison_page"]
