"""What an evaluation comes to, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetless.report.numbers import p_value, percent, plain, points

SIGNIFICANT = 0.05
RATES = {"refuses": "refused", "complies": "answered"}
"""What a share means under these scorers; under all others it is that of right answers."""


@dataclass(frozen=True, slots=True)
class Words:
    """The verdict in parts: the headline, what was proven part by part, what the figures cannot tell."""

    headline: str
    parts: Sequence[str]
    limits: Sequence[str]


def rows(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, figures) of every part; the tasks of a part with ``lm_eval`` one by one."""
    return [row for part in report["parts"] for row in _rows(part)]


def _rows(part: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    if "tasks" not in part:
        return [(str(part["name"]), part)]
    return [(f"{part['name']}: {task['task']}, {task['metric']}", task) for task in part["tasks"]]


def words(report: Mapping[str, Any]) -> Words:
    """The verdict on an evaluation; the headline counts every question once."""
    own = rows(report)
    if report.get("after") is None:
        told = [f"{name} {percent(part['models'][0]['accuracy'])}" for name, part in own if "accuracy" in part["models"][0]]
        return Words(f"{report['model']} on {report['suite']}: {', '.join(told) or 'see below'}.", [], [])
    counted = _counted(report)
    learned, forgotten, n = (sum(part["paired"][key] for _, part in counted) for key in ("learned", "forgotten", "n"))
    headline = f"{report['after']} against {report['model']}: "
    if n:
        headline += f"{learned} of {n} questions learned, {forgotten} forgotten"
    else:
        headline += "no question was scored right or wrong, so none counts as learned or forgotten"
    proven = [(name, part["paired"]["difference"]) for name, part in counted if part["paired"]["p_value"] < SIGNIFICANT]
    fell, rose = [name for name, gap in proven if gap < 0], [name for name, gap in proven if gap > 0]
    parts = sum(len({row.get("task") for _, row in _rows(part)}) for part in report["parts"])
    if parts > 1 and n:
        headline += f". Of {parts} parts {len(rose)} rose and {len(fell)} fell beyond noise"
        headline += f": worse on {', '.join(fell)}" if fell else ""
    sentences = [_sentence(name, part) for name, part in own]
    limits = ["One training: how another seed would turn out is not known."]
    tests = sum(bool(part.get("paired")) for _, part in own)
    if tests > 1:
        limits.append(f"The {tests} tests are not corrected for their number.")
    return Words(f"{headline}.", [one for one in sentences if one], limits)


def _counted(report: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """What the headline counts: the parts with right and wrong; of several metrics on the same questions the first, as the gate does."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    for part in report["parts"]:
        first: dict[object, tuple[str, Mapping[str, Any]]] = {}
        for name, row in _rows(part):
            if row.get("paired") and row.get("higher_is_better") is not False:
                first.setdefault(row.get("task"), (name, row))
        found += first.values()
    return found


def _sentence(name: str, part: Mapping[str, Any]) -> str:
    if not (paired := part.get("paired")):
        moved = part.get("log_perplexity_change") or part.get("change")
        if not moved:
            return ""
        what = "log perplexity changed" if "log_perplexity_change" in part else "changed"
        return f"{name}: {what} by {plain(moved['mean'])} (95% interval {plain(moved['low'])} to {plain(moved['high'])})."
    before, after = (percent(model["accuracy"]) for model in part["models"])
    certain = paired["p_value"] < SIGNIFICANT
    said = "" if part.get("higher_is_better") is False else f" {RATES.get(str(part.get('scorer')), 'right')}"
    text = f"{name}{'' if said else ' (lower is better)'}: {before}{said} before, {after} after "
    text += f"({points(paired['difference'])} points, 95% interval {points(paired['low'])} to {points(paired['high'])}, "
    return text + f"{p_value(paired['p_value'])}{'' if certain else ', within noise'})."
