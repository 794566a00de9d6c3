"""The page of a diagnosis: where new and old data pull against each other, which questions do harm, how far that can be predicted."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetless.errors import InputError
from forgetless.files import write_json, write_text
from forgetless.report.diagnosis_charts import (
    curve_charts,
    drift_charts,
    histogram_charts,
    item_chart,
    layer_chart,
    validation_charts,
)
from forgetless.report.export import write_figures
from forgetless.report.frame import render_page
from forgetless.report.numbers import MINUS, NONE, percent, plain
from forgetless.report.tables import Table

SHOWN = 20
"""Questions of the ranking that stand in the open; the others are folded away."""


def write_diagnosis(report: Mapping[str, Any], out: Path, *, png: bool = False) -> list[Path]:
    """Write ``diagnosis.json``, ``report.html`` and, with ``png``, the plots as PNG into the folder ``out``; each file whole or not at all.

    Raises:
        InputError: ``report`` is not a diagnosis, or matplotlib is missing for ``png``.
    """
    page = render(report)
    write_json(out / "diagnosis.json", report)
    write_text(out / "report.html", page)
    return [out / "diagnosis.json", out / "report.html", *(write_plots(report, out) if png else [])]


def read_diagnosis(path: Path) -> dict[str, Any]:
    """Read a ``diagnosis.json``, or the one in a folder.

    Raises:
        InputError: it is none.
    """
    file = path / "diagnosis.json" if path.is_dir() else path
    mend = "Give a folder that `forgetless diagnose` wrote"
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"it holds no diagnosis ({error})", where=str(path), mend=mend) from error
    if not isinstance(found, dict) or found.get("kind") != "diagnosis":
        raise InputError("its diagnosis.json is not one of forgetless", where=str(path), mend=mend)
    return found


def is_diagnosis(folder: Path) -> bool:
    """Whether ``folder`` holds a diagnosis."""
    return (folder / "diagnosis.json").is_file()


def write_plots(report: Mapping[str, Any], out: Path) -> list[Path]:
    """Every chart of the page as a PNG file of its own in ``out``.

    Raises:
        InputError: matplotlib is missing.
    """
    return write_figures(all_charts(report), out, kind="png")


def all_charts(report: Mapping[str, Any]) -> list[tuple[Any, Sequence[str]]]:
    """The charts, each with the names of its series."""
    found: list[tuple[Any, Sequence[str]]] = [(layer_chart(report), ["conflicting share"])]
    found += [(chart, SIGNS) for chart in histogram_charts(report)]
    found += [(item_chart(report), ["inject questions"])]
    found += [(chart, names) for chart, names in curve_charts(report)]
    found += [(chart, names) for chart, names in validation_charts(report)]
    return found + drift_charts(report)


SIGNS = ("conflicting, s < 0", "collaborative, s > 0")


def render(report: Mapping[str, Any], *, title: str | None = None) -> str:
    """The page as HTML."""
    items = report["items"]
    curves, drift = curve_charts(report), drift_charts(report)
    parts = [("conflict", "Conflict", True), ("harm", "Harm", True), ("curve", "Prediction", curves)]
    parts += [("validation", "Validation", "validation" in report), ("drift", "Drift", drift)]
    return render_page(
        "diagnosis.html.j2",
        title=title or f"{report['model']}: what would be forgotten, and why",
        sections=[(id, name) for id, name, there in parts if there],
        report=report,
        sentences=sentences(report),
        advice=report["suggestion"],
        command=command(report["suggestion"]),
        layers=layer_chart(report),
        kinds=kind_table(report),
        layer_table=rows_table("Conflict by layer", "layer", report["conflict"]["by_layer"]),
        tensors=rows_table("Every tensor", "tensor", report["conflict"]["tensors"]),
        histograms=histogram_charts(report),
        signs=SIGNS,
        ranking=item_chart(report),
        shown=items_table(report, items[:SHOWN], "The most harmful inject questions"),
        rest=items_table(report, items[SHOWN:], "All others") if len(items) > SHOWN else None,
        curves=curves,
        curve_table=curve_table(report),
        turns=report["refresh"],
        validation=validation_charts(report),
        validation_table=validation_table(report),
        drift=drift,
    )


def sentences(report: Mapping[str, Any]) -> list[str]:
    """What it comes to, in words."""
    whole, similarity, n = report["conflict"]["all"], report["similarity"], report["n"]
    low, high = report["top"]["carry"]
    direction = "the same way as" if similarity["inner"] >= 0 else "against"
    found = [
        f"As a whole the inject set pulls {direction} the retain set: cosine {_signed(similarity['cosine'])}, "
        f"S = {_signed(similarity['inner'])}.",
        f"{_share(whole['share'])} of {n['weights']:,} weights conflict; the top {percent(report['top']['share'])} of all weights carry "
        f"{percent((low + high) / 2)} of the sum of |s|.",
        f"{report['against']} of {n['inject']} inject questions pull against the retain set of {n['retain']}.",
    ]
    for step, rate in report["trusted"].items():
        up_to = "at none of the rates tried" if rate is None else f"up to a learning rate of {rate:g}"
        found.append(f"What one step of {NAMES[step]} on a question does to the retain loss can be predicted (R² at least 0.9) {up_to}.")
    check = report["ranking"]["fast_against_exact"]
    if check["spearman"] is not None:
        what = "The ranking was made by" if report["ranking"]["mode"] != "exact" else "A ranking by"
        found.append(
            f"{what} the last layers alone ({percent(report['ranking']['fast_weights'])} of the weights): rank correlation "
            f"{check['spearman']:.2f} with the exact one (n = {check['n']})."
        )
    return found


NAMES = {"sgd": "gradient descent", "adamw": "AdamW"}


def command(advice: Mapping[str, Any]) -> str:
    """The flags of ``forgetless train`` that are suggested."""
    return f"--method {advice['method']}" + ("" if advice["lr"] is None else f" --lr {advice['lr']:g}")


def kind_table(report: Mapping[str, Any]) -> Table:
    """Conflict by kind of tensor."""
    return rows_table("Conflict by kind of tensor", "kind", [report["conflict"]["all"], *report["conflict"]["by_kind"]])


def rows_table(caption: str, head: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Conflict of some tensors or groups of them."""
    cells = [
        [
            str(row["name"]),
            f"{row['weights']:,}",
            _share(row["share"]),
            _share(row["share_of_nonzero"]),
            _signed(row["inner"]),
            plain(row["abs"]),
        ]
        for row in rows
    ]
    return Table(caption, [head, "weights", "conflicting", "of those with a gradient", "sum of s", "sum of |s|"], cells)


def items_table(report: Mapping[str, Any], items: Sequence[Mapping[str, Any]], caption: str) -> Table:
    """Inject questions with what one step on each would do, and the cosine with each retain group."""
    groups = list(report["n"]["groups"])
    head = ["rank", "question", "answer", "predicted change", "cosine", *(f"with {name}" for name in groups if len(groups) > 1)]
    cells = [
        [
            str(item["rank"]),
            item["prompt"],
            item["answer"],
            _signed(item["predicted_change"]),
            _cosine(item["cosine"]),
            *(_cosine(item["groups"][name]["cosine"]) for name in groups if len(groups) > 1),
        ]
        for item in items
    ]
    step = f"one step of {NAMES[report['ranking']['optimizer']]} at {report['ranking']['lr']:g}"
    return Table(f"{caption}. Change of the mean retain loss in nats, {step}", head, cells)


def curve_table(report: Mapping[str, Any]) -> Table | None:
    """R² and rank correlation by optimizer and rate."""
    rows = [
        [
            NAMES[step],
            f"{point['rate']:g}",
            plain(point["r2"]),
            plain(point["spearman"]),
            percent(point["moved"]),
            "yes" if point["trusted"] else "no",
        ]
        for step, points in report["curve"].items()
        for point in points
    ]
    head = ["step of", "learning rate", "R²", "rank correlation", "weights that moved", "trustworthy"]
    return Table("Predicted against real change of the retain loss, one step on one question", head, rows) if rows else None


def validation_table(report: Mapping[str, Any]) -> Table | None:
    """Training on the most against the least harmful questions, where a benchmark recorded it."""
    if "validation" not in report:
        return None
    rows = []
    for optimizer, measures in report["validation"]["compared"].items():
        for name, row in measures.items():
            if "seeds" in row:
                worst, best = row["most harmful"], row["least harmful"]
                told = [f"{plain(one['mean'])} ± {plain(one['sd'])}" for one in (worst, best)]
                rows.append(
                    [
                        NAMES.get(optimizer, optimizer),
                        name.replace("_", " "),
                        *told,
                        f"{row['more']} of {row['seeds']}",
                        f"{row['fewer']} of {row['seeds']}",
                    ]
                )
    head = ["step of", "measure", "after the most harmful", "after the least harmful", "seeds with more", "seeds with less"]
    return Table("Mean ± standard deviation over seeds", head, rows)


def _share(value: float | None) -> str:
    """Shares that differ little from each other, in percent."""
    return NONE if value is None else f"{100 * value:.1f}%"


def _cosine(value: float) -> str:
    return f"{value:+.3f}".replace("-", MINUS)


def _signed(value: float) -> str:
    return plain(value) if value < 0 or not math.isfinite(value) or value == 0 else f"+{plain(value)}"
