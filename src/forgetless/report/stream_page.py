"""The page on streams: heat maps of accuracy, figures side by side, and each item of the first task as it fades."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forgetless.errors import InputError
from forgetless.files import read_jsonl, write_text
from forgetless.report.charts import Chart, Point, Series, axis, draw
from forgetless.report.frame import render_page
from forgetless.report.numbers import percent, points

MOST_ITEMS = 240
"""Items drawn one by one; of more, this many are taken at even distances, and the page says so."""


@dataclass(frozen=True, slots=True)
class StreamRun:
    """A folder that ``forgetless stream`` wrote."""

    folder: Path
    matrix: dict[str, Any]
    items: list[dict[str, Any]]


def is_stream_run(folder: Path) -> bool:
    """Whether ``folder`` holds a run through a stream."""
    return (folder / "matrix.json").is_file()


def read_stream_run(folder: Path) -> StreamRun:
    """Read a folder.

    Raises:
        InputError: it is no finished run through a stream.
    """
    mend = "Give a folder that `forgetless stream` finished"
    try:
        matrix = json.loads((folder / "matrix.json").read_text("utf-8"))
        items = read_jsonl(folder / "items.jsonl")
    except (OSError, ValueError) as error:
        raise InputError(f"it holds no run through a stream ({error})", where=str(folder), mend=mend) from error
    if not isinstance(matrix, dict) or not {"tasks", "mean", "figures", "method", "stream"} <= matrix.keys():
        raise InputError("its matrix.json is not one of forgetless", where=str(folder), mend=mend)
    return StreamRun(folder, matrix, items)


def write_stream_report(folders: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write one page on runs through one stream in one setting to ``out`` and return it.

    Raises:
        InputError: a folder is no such run, or they went through different streams.
    """
    write_text(out, render(read_stream_runs(folders), title=title))
    return out


def read_stream_runs(folders: Sequence[Path]) -> list[StreamRun]:
    """The runs in ``folders``.

    Raises:
        InputError: a folder is no such run, or they went through different streams.
    """
    runs = [read_stream_run(folder) for folder in folders]
    if len({_kind(run.matrix) for run in runs}) != 1:
        told = dict.fromkeys(f"{run.matrix['stream']} {run.matrix['setting']} ({run.matrix.get('source')})" for run in runs)
        raise InputError(
            f"they are of different streams, settings or tasks: {'; '.join(told)}", where="runs", mend="Make one page for each"
        )
    return runs


def _kind(matrix: dict[str, Any]) -> tuple[object, ...]:
    """What runs must share to stand side by side; streams from question files have one name, whatever is in them."""
    return matrix["stream"], matrix["setting"], tuple(matrix["tasks"]), matrix.get("source")


def render(runs: Sequence[StreamRun], *, title: str | None = None) -> str:
    """The page as HTML."""
    first = runs[0].matrix
    names = _names(runs)
    probed = [run.matrix.get("probes", {}) for run in runs]
    return render_page(
        "stream.html.j2",
        title=title or f"{first['stream']}, {first['setting']} setting: {', '.join(names)}",
        sections=[
            ("figures", "Figures"),
            ("first", "First task"),
            ("heat", "Heat maps"),
            *([("known", "Known before")] if any(probed) else []),
            ("items", "Items"),
        ],
        names=names,
        runs=[run.matrix for run in runs],
        sentences=[_sentence(name, run.matrix) for name, run in zip(names, runs, strict=True)],
        figures=[_figures(run.matrix) for run in runs],
        first_task=first_task(runs, names),
        probed=[(name, probes) for name, probes in zip(names, probed, strict=True) if probes],
        items=[fading(run) for run in runs],
        most=MOST_ITEMS,
    )


def stream_charts(runs: Sequence[StreamRun]) -> list[tuple[Chart, Sequence[str]]]:
    """Every chart of the page, each with the names of its series."""
    names = _names(runs)
    return [(first_task(runs, names), names)]


def fading(run: StreamRun) -> dict[str, Any]:
    """The items of the first task that were right after it, in the first seed: after which tasks they still were.

    Sorted by when they were first lost, the ones that stayed first.
    """
    task, seed = run.matrix["tasks"][0], min((item["seed"] for item in run.items), default=0)
    learned = [item for item in run.items if item["seed"] == seed and item["task"] == task and item["right"][0]]
    learned.sort(key=lambda item: (-item["right"].index(False) if False in item["right"] else -len(item["right"]) - 1, item["item"]))
    total = len(learned)
    shown = learned if total <= MOST_ITEMS else [learned[index * total // MOST_ITEMS] for index in range(MOST_ITEMS)]
    kept = [sum(item["right"][after] for item in learned) for after in range(len(run.matrix["tasks"]))] if learned else []
    return {"total": total, "seed": seed, "rows": shown, "kept": kept}


def _names(runs: Sequence[StreamRun]) -> list[str]:
    plain = [run.matrix["method"] for run in runs]
    return [name if plain.count(name) == 1 else f"{name} ({run.folder.name})" for name, run in zip(plain, runs, strict=True)]


def _figures(matrix: dict[str, Any]) -> dict[str, str]:
    def told(name: str, shown: Any) -> str:
        value = matrix["figures"][name]
        error = "" if value["se"] is None else f" ± {100 * value['se']:.1f}"
        return "–" if value["mean"] is None else f"{shown(value['mean'])}{error}"

    seconds = matrix["seconds"]
    return {
        "ACC": told("acc", percent),
        "BWT": told("bwt", points),
        "FWT": told("fwt", points),
        "forgetting": told("forgetting", points),
        "seconds": f"{seconds['mean']:.1f}" + ("" if seconds["se"] is None else f" ± {seconds['se']:.1f}"),
        "kept by the method": f"{matrix['state_bytes'] / 1e6:.2f} MB",
        "model": f"{matrix['model_bytes'] / 1e6:.2f} MB",
    }


def _sentence(name: str, matrix: dict[str, Any]) -> str:
    figures, count = matrix["figures"], len(matrix["tasks"])
    text = f"{name}: after {count} tasks {percent(figures['acc']['mean'])} right over all of them"
    if figures["forgetting"]["mean"] is not None:
        text += f"; of what it once could, {points(figures['forgetting']['mean']).lstrip('+')} points are gone"
    return f"{text} (mean of {matrix['n_seeds']} seed{'s' if matrix['n_seeds'] != 1 else ''})."


def first_task(runs: Sequence[StreamRun], names: Sequence[str]) -> Chart:
    """Accuracy on the first task after each task."""
    tasks = runs[0].matrix["tasks"]
    series = []
    for index, run in enumerate(runs):
        marks = []
        for after, row in enumerate(run.matrix["mean"]):
            error = run.matrix["se"][after][0] or 0.0
            tip = f"{names[index]}, after {tasks[after]}: {percent(row[0])}"
            marks.append(Point(after + 1, row[0], tip, max(0.0, row[0] - error), min(1.0, row[0] + error)))
        series.append(Series(index, marks))
    x = axis("tasks trained", [1, len(tasks)], lambda value: f"{value:g}", whole=True, start=1, end=max(2, len(tasks)))
    y = axis("accuracy", [0, 1], percent, start=0, end=1)
    return draw("first-task", f"Accuracy on the first task ({tasks[0]})", x, y, series, "Accuracy on the first task after each task")
