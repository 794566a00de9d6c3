"""The verdict on a comparison, in words; whichever method wins or loses, it is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetless.report.numbers import p_value, percent, points

KINDS = {"B": "held-out items of the same kinds", "C": "items of other kinds", "A": "items of the reference"}
"""What is forgotten, that which decides first."""
SIGNIFICANT = 0.05


@dataclass(frozen=True, slots=True)
class Words:
    """The verdict in parts: a headline for each data set, the entries one by one, what the figures cannot tell."""

    headlines: Sequence[str]
    entries: Sequence[str]
    limits: Sequence[str]


def chosen_trial(entry: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The trial of an entry that was chosen on validation items; None where none finished."""
    chosen = entry["chosen"]
    return next((trial for trial in entry["trials"] if trial["trial"] == chosen["trial"]), None) if chosen else None


def level_of(entries: Sequence[Mapping[str, Any]], levels: Sequence[float]) -> str | None:
    """The level of learning that most chosen trials reach in every seed, of equals the highest; None where none does."""
    best: tuple[int, float] | None = None
    for level in sorted(levels):
        reached = sum(reaches(trial, f"{level:g}") for entry in entries if (trial := chosen_trial(entry)))
        if reached and (best is None or reached >= best[0]):
            best = (reached, level)
    return None if best is None else f"{best[1]:g}"


def reaches(trial: Mapping[str, Any], level: str) -> bool:
    """Whether every seed of a trial reaches a level of learning."""
    return bool(trial["seeds"]) and trial["at"][level]["reached"] == len(trial["seeds"])


def words(report: Mapping[str, Any]) -> Words:
    """The verdict on the content of a ``comparison.json``."""
    sets = list(dict.fromkeys(entry["data"] for entry in report["entries"]))
    found = [_one_set(report, data, named=len(sets) > 1) for data in sets]
    sentences = [sentence for one in found for sentence in one[1]]
    return Words([one[0] for one in found] or ["Nothing was compared."], sentences, _limits(report))


def _one_set(report: Mapping[str, Any], data: str, *, named: bool) -> tuple[str, list[str]]:
    entries = [entry for entry in report["entries"] if entry["data"] == data]
    start = f"On {data}: " if named else ""
    level = level_of(entries, report["levels"])
    if level is None:
        least = percent(min(report["levels"]))
        return f"{start}No method reached {least} learned in all of its seeds, so none can be compared at equal learning.", []
    pairs = [(entry, trial) for entry in entries if (trial := chosen_trial(entry)) and reaches(trial, level)]
    kind = next((kind for kind in KINDS if all(trial["at"][level][kind] for _, trial in pairs)), None)
    if kind is None:
        return f"{start}What was forgotten was not measured for all methods alike.", []
    ranked = sorted(pairs, key=lambda pair: pair[1]["at"][level][kind]["mean"])
    best, trial = ranked[0]
    headline = f"{start}At {percent(float(level))} learned, {best['label']} forgot least of the {KINDS[kind]}: "
    headline += f"{_share(trial['at'][level][kind])}"
    others = [f"{entry['label']} {percent(own['at'][level][kind]['mean'])}" for entry, own in ranked[1:]]
    headline += f"; {', '.join(others)}." if others else "."
    headline += _proof(best, level, kind)
    short = [entry["label"] for entry in entries if not any(entry is one for one, _ in pairs)]
    if short:
        headline += f" {' and '.join(short)} did not reach it in every seed."
    return headline, [sentence for entry, _ in ranked for sentence in _against(entry, level, kind, start)]


def _proof(best: Mapping[str, Any], level: str, kind: str) -> str:
    """Whether the best one's lead over each baseline is more than noise between seeds.

    A baseline that reaches the level in some seeds only may be ahead in these.
    """
    told = []
    for baseline, found in best["against"].items():
        one = found["at"][level][kind]
        if one["p"] is None:
            continue
        noise = f"{'more than noise' if one['p'] < SIGNIFICANT else 'within noise'} ({p_value(one['p'])})"
        if one["difference"] < 0:
            told.append(f"its lead over {baseline} is {noise}")
        else:
            stands = "it is behind" if one["difference"] > 0 else "it is level with"
            told.append(f"{stands} {baseline} in the {one['n']} seeds where both reach it, which is {noise}")
    text = ", ".join(told)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def _against(entry: Mapping[str, Any], level: str, kind: str, start: str) -> list[str]:
    sentences = []
    for baseline, found in entry["against"].items():
        one, items = found["at"][level][kind], found["items"][kind]
        if one["difference"] is None:
            continue
        certain = one["p"] is not None and one["p"] < SIGNIFICANT
        less = "less" if one["difference"] < 0 else "more"
        gap = f"{points(one['difference'])} points"
        if one["low"] is not None:
            gap += f", 95% interval {points(one['low'])} to {points(one['high'])}"
        gap += f", {p_value(one['p'])}" if one["p"] is not None else ", not tested"
        said = f"forgot {less} than {baseline}" if certain else f"showed no proven difference to {baseline}"
        by_item = f"; by item, over the whole run, {p_value(items['p'])}" if items["p"] is not None else ""
        sentences.append(f"{start}{entry['label']} {said} at {percent(float(level))} learned ({gap}, {one['n']} seeds{by_item}).")
    return sentences


def _limits(report: Mapping[str, Any]) -> list[str]:
    found = []
    if (n := len(report["seeds"])) < 2:
        found.append("One seed: how another seed would turn out is not known.")
    elif n < 6:
        found.append(f"{n} seeds: intervals over so few are wide, and only large differences can be proven.")
    trials = {len(entry["trials"]) for entry in report["entries"]}
    if len(trials) == 1:
        count = trials.pop()
        where = "chosen on items that no figure here is of" if report["validation"] else "chosen on the same items, which flatters them all"
        told = "one trial, so nothing was tuned" if count == 1 else f"{count} trials, {where}"
        found.append(f"Every method had {told}.")
    else:
        found.append("The methods did not have the same number of trials.")
    cells = report["cells"]
    if cells["finished"] < cells["total"]:
        left = cells["total"] - cells["finished"] - cells["failed"] - cells["pruned"]
        more = [f"{cells['failed']} failed"] * bool(cells["failed"]) + [f"{cells['pruned']} were pruned"] * bool(cells["pruned"])
        more += [f"{left} are not there yet"] * (left > 0)
        found.append(f"{cells['finished']} of {cells['total']} runs finished: {', '.join(more)}.")
    tests = sum(
        one["p"] is not None for e in report["entries"] for a in e["against"].values() for at in a["at"].values() for one in at.values()
    )
    if tests > 1:
        found.append("The tests are not corrected for their number.")
    return found


def _share(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return percent(found["mean"])
    return f"{percent(found['mean'])} ({percent(found['low'])} to {percent(found['high'])} over {found['n']} seeds)"
