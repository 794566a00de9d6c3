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
    found: list[tuple[str, Mapping[str, Any]]] = []
    for part in report["parts"]:
        if "tasks" in part:
            found += [(f"{part['name']}: {task['task']}, {task['metric']}", task) for task in part["tasks"]]
        else:
            found.append((str(part["name"]), part))
    return found


def words(report: Mapping[str, Any]) -> Words:
    """The verdict on an evaluation."""
    own = rows(report)
    paired = [(name, part) for name, part in own if part.get("paired")]
    if report.get("after") is None:
        told = [f"{name} {percent(part['models'][0]['accuracy'])}" for name, part in own if "accuracy" in part["models"][0]]
        return Words(f"{report['model']} on {report['suite']}: {', '.join(told) or 'see below'}.", [], [])
    learned, forgotten, n = (sum(part["paired"][key] for _, part in paired) for key in ("learned", "forgotten", "n"))
    headline = f"{report['after']} against {report['model']}: {learned} of {n} questions learned, {forgotten} forgotten"
    fell = [name for name, part in paired if part["paired"]["p_value"] < SIGNIFICANT and part["paired"]["difference"] < 0]
    rose = [name for name, part in paired if part["paired"]["p_value"] < SIGNIFICANT and part["paired"]["difference"] > 0]
    if len(own) > 1:
        headline += f". Of {len(own)} parts {len(rose)} rose and {len(fell)} fell beyond noise"
        headline += f": worse on {', '.join(fell)}" if fell else ""
    sentences = [_sentence(name, part) for name, part in own]
    limits = ["One training: how another seed would turn out is not known."]
    if len(paired) > 1:
        limits.append(f"The {len(paired)} tests are not corrected for their number.")
    return Words(f"{headline}.", [one for one in sentences if one], limits)


def _sentence(name: str, part: Mapping[str, Any]) -> str:
    if not (paired := part.get("paired")):
        moved = part.get("log_perplexity_change") or part.get("change")
        if not moved:
            return ""
        what = "log perplexity changed" if "log_perplexity_change" in part else "changed"
        return f"{name}: {what} by {plain(moved['mean'])} (95% interval {plain(moved['low'])} to {plain(moved['high'])})."
    before, after = (percent(model["accuracy"]) for model in part["models"])
    certain = paired["p_value"] < SIGNIFICANT
    text = f"{name}: {before} {RATES.get(str(part.get('scorer')), 'right')} before, {after} after "
    text += f"({points(paired['difference'])} points, 95% interval {points(paired['low'])} to {points(paired['high'])}, "
    return text + f"{p_value(paired['p_value'])}{'' if certain else ', within noise'})."
