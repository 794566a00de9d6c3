"""How far the recipe, ``auto``, reaches the goals that were set for it, setting by setting.

With a retain set: at most half of what tuned replay forgets of B and of what tuned plain fine-tuning forgets of C, in at most one and
a half times plain fine-tuning's time. Without one: at most half of what tuned plain fine-tuning forgets of B and C together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forgetless.comparison.curves import at_level
from forgetless.comparison.intervals import seed_difference
from forgetless.report.comparison_words import chosen_trial
from study_choose import time_ratio

LEVEL, HALF, TIME, CHANCE, SEEDS = 0.9, 0.5, 1.5, 0.05, 5
GOALS = (("auto", "replay", "B"), ("auto", "none", "C"), ("auto-no-data", "none", "BC"))
"""By what, against what, and the kinds whose forgotten shares are added up."""
HEAD = ("setting", "method", "goal", "reached", "it", "the other", "difference, points", "p", "seeds", "met")


def table(sets: Mapping[str, Any]) -> list[str]:
    """Lines of Markdown, a row for each goal in each setting with the recipe; none where there is none."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for name, found in sets.items():
        for data in dict.fromkeys(entry["data"] for entry in found["entries"]):
            trials = {entry["label"]: chosen_trial(entry) for entry in found["entries"] if entry["data"] == data}
            for ours, other, kinds in GOALS:
                own, rival = trials.get(ours), trials.get(other)
                if own and rival and len(found["seeds"]) > 1:
                    lines.append(_row(name, ours, other, kinds, _lost(own, kinds), _lost(rival, kinds)))
                    if kinds == "C":
                        lines += _time(name, ours, other, time_ratio(own, rival, f"{LEVEL:g}"))
    return lines[2:] and lines


def _lost(trial: Mapping[str, Any], kinds: str) -> dict[int, float]:
    """By seed the sum of the shares forgotten of the kinds at `LEVEL`, of those that reach it."""
    found = {}
    for one in trial["trajectories"]:
        learned = [point["learned"] for point in one["points"]]
        values = [at_level(learned, [point[kind] for point in one["points"]], LEVEL) for kind in kinds]
        if None not in values:
            found[one["seed"]] = sum(value or 0.0 for value in values)
    return found


def _row(name: str, ours: str, other: str, kinds: str, own: dict[int, float], rival: dict[int, float]) -> str:
    seeds = [seed for seed in own if seed in rival]
    one, two = [own[seed] for seed in seeds], [rival[seed] for seed in seeds]
    told = seed_difference(one, two)
    goal = f"{' + '.join(kinds)} at most {HALF:g} of `{other}`"
    if not seeds or not sum(two):
        return f"| {name} | `{ours}` | {goal} | | | | | | {len(seeds)} | not to be told |"
    ratio, p = sum(one) / sum(two), told["p"]
    met = ratio <= HALF and p is not None and p < CHANCE
    why = "no" if ratio > HALF else "the ratio, not the test" if not met else "yes" if len(seeds) >= SEEDS else "with too few seeds"
    wide = "" if told["low"] is None else f" [{100 * told['low']:+.1f}, {100 * told['high']:+.1f}]"
    cells = [f"{ratio:.3f}", f"{100 * sum(one) / len(one):.1f}%", f"{100 * sum(two) / len(two):.1f}%"]
    cells += [f"{100 * told['difference']:+.1f}{wide}", "" if p is None else f"{p:.2g}", str(told["n"]), why]
    return f"| {name} | `{ours}` | {goal} | " + " | ".join(cells) + " |"


def _time(name: str, ours: str, other: str, ratio: float | None) -> list[str]:
    met = "" if ratio is None else "yes" if ratio <= TIME else "no"
    told = "" if ratio is None else f"{ratio:.2f}"
    return [f"| {name} | `{ours}` | time at most {TIME:g} of `{other}` | {told} | | | | | | {met} |"]
