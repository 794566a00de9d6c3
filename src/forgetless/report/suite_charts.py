"""The charts of an evaluation: every part before and after, groups, KL by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forgetless.report.charts import SMALL, Axis, Chart, Frame, Point, Series, axis, categories, draw
from forgetless.report.numbers import percent, plain
from forgetless.report.suite_words import rows

SIDES = ("before", "after")


def part_chart(report: Mapping[str, Any]) -> Chart | None:
    """The share right in every part, before and after, with exact intervals; None where no part has one."""
    return _sides("parts", "Every part", rows(report))


def group_charts(report: Mapping[str, Any]) -> list[Chart]:
    """The groups of each part that has some."""
    found = []
    for index, part in enumerate(report["parts"]):
        own = [(str(value), group) for value, group in part.get("groups", {}).items()]
        chart = _sides(f"groups-{index}", f"{part['name']}, by group", own) if own else None
        found += [chart] if chart else []
    return found


def position_charts(report: Mapping[str, Any]) -> list[tuple[Chart, Sequence[str]]]:
    """KL between the models at each token of a response, with its band; all parts on one scale."""
    parts = [part for part in report["parts"] if part.get("by_position")]
    highest = [row["high"] for part in parts for row in part["by_position"]["positions"]]
    last = max((row["position"] for part in parts for row in part["by_position"]["positions"]), default=1)
    found: list[tuple[Chart, Sequence[str]]] = []
    for index, part in enumerate(parts):
        own = part["by_position"]
        marks = [
            Point(
                row["position"],
                row["mean"],
                f"token {row['position']}: {plain(row['mean'])} nats (n = {row['n']})",
                row["low"],
                row["high"],
            )
            for row in own["positions"]
        ]
        x = axis("token of the response", [], plain, whole=True, start=0.0, end=float(max(1, last)))
        y = axis("KL(before || after), nats", [0.0, *highest], plain, start=0.0)
        early = own.get("early_share")
        note = f"{percent(early)} of all of it at the first {own['early_tokens']} tokens" if early is not None else None
        summary = f"KL by position, {part['name']}. " + (f"{note}." if note else "")
        chart = draw(
            f"positions-{index}", f"{part['name']}", x, y, [Series(0, marks, band=True)], summary, note, frame=replace(SMALL, height=250.0)
        )
        found.append((chart, [str(part["name"])]))
    return found


def _sides(id: str, title: str, own: Sequence[tuple[str, Mapping[str, Any]]]) -> Chart | None:
    shown = [(name, part["models"]) for name, part in own if all("accuracy" in model for model in part["models"])]
    if not shown:
        return None
    series = []
    for side in range(max(len(models) for _, models in shown)):
        marks = []
        for row, (name, models) in enumerate(shown):
            if side < len(models):
                model = models[side]
                tip = f"{name}, {SIDES[side]}: {percent(model['accuracy'])} ({percent(model['low'])} to {percent(model['high'])})"
                place = -row - (0.14 if side else -0.14) * (len(models) > 1)
                marks.append(Point(model["accuracy"], place, tip, x_low=model["low"], x_high=model["high"]))
        series.append(Series(side, marks, joined=False))
    names = [name if len(name) <= 18 else f"{name[:17]}…" for name, _ in shown]
    frame = Frame(width=480.0, height=64.0 + 34.0 * len(shown), left=132.0, right=26.0, bottom=44.0, text=13.0)
    x, y = axis("share", [0.0, 1.0], percent, start=0.0, end=1.0), _nearest(categories("", names))
    summary = f"{title}: " + "; ".join(point.tip for one in series for point in one.points)
    return draw(id, title, x, y, series, f"{summary}.", "Bars: exact 95% intervals", frame=frame)


def _nearest(axis: Axis) -> Axis:
    """The two sides of a row stand a little above and below its place, and bear its name."""
    return replace(axis, text=lambda place: axis.text(float(round(place))))
