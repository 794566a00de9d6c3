"""The claims of the CPL paper (arXiv 2601.21577, versions 1 and 2) beside what the raw results of the study say of each.

A claim that no committed figure speaks of is 'not measured'.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import raw
from forgetless.report.comparison_words import chosen_trial
from study_choose import time_ratio
from transfer import SECOND

Found = Mapping[str, Any]
Sets = Mapping[str, Found]
"""Summaries of comparisons by the name of their raw file."""
NEGLIGIBLE, LESS, FIXED, ENOUGH = 0.01, 0.59, "cpl-task", 0.9
"""A share of B forgotten that counts as none; the least gain that the paper claims out of set; the label of CPL with one mask a task; the
share of what a task's own mask does that another is to do."""
SEVEN = ("l2sp", "ewc", "mas", "lwf", "replay", "agem", "gem", "lora", "lora-16", "osf", "kl")
"""Baselines of the study among which the claims on learning, memory and time are looked at, as far as they were run."""
UNTIMED = ("screen", "german")
"""Comparisons beside which other work ran."""
PAIRS = {"SGD": ("cpl-sgd", "sgd"), "SGD with momentum": ("cpl-momentum", "momentum"), "AdamW": ("cpl-2", "none")}
"""By optimizer the labels of CPL and of plain fine-tuning."""


def table(sets: Sets, results: Path) -> list[str]:
    """Lines of a Markdown table: claim, holds here or not, what was found."""
    lines = ["| claim | here | found |", "|---|---|---|"]
    for claim, look in CLAIMS:
        verdict, found = look(sets, results)
        lines.append(f"| {claim} | {verdict} | {found} |")
    return lines


Verdict = tuple[str, str]
NOT: Verdict = ("not measured", "")


def conflicting(_: Sets, results: Path) -> Verdict:
    """The share of weights with opposed signs, from the diagnosis, and at the steps of trainings by CPL."""
    told = []
    if (file := results / "diagnosis.json").is_file():
        one = json.loads(file.read_text("utf-8"))
        share, n = one["conflict"]["all"]["share"], one["n"]
        told.append(
            (share, f"{share:.1%} of {n['weights']:,} weights, {n['retain']} facts against {n['inject']} airport questions, one draw")
        )
    for name, found in _signs(results):
        shares = [signs["conflicting"] for signs in found]
        told.append((mean(shares), f"{name} (n = {len(found)}): {mean(shares):.1%} of the weights at a step, {_range(shares)}"))
    if not told:
        return NOT
    held = [0.5 <= share <= 0.75 for share, _ in told]
    return "holds" if all(held) else "does not hold", "; ".join(text for _, text in told)


def flips(_: Sets, results: Path) -> Verdict:
    """How many signs of the reference turn between two refreshes."""
    told = []
    for name, found in _signs(results):
        for every in sorted({signs["every"] for signs in found if "every" in signs}):
            shares = [signs["flipped"] for signs in found if signs.get("every") == every]
            told.append(f"{name} (n = {len(shares)}): {mean(shares):.1%} of all signs in {every} steps, {_range(shares)}")
    return ("measured", "; ".join(told) + "; where a refresh looks at other batches than the one before, these differ too") if told else NOT


def _signs(results: Path) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """By comparison and label what finished trainings by CPL say of signs."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for file in sorted((results / "study").glob("*.json")):
        for row in json.loads(file.read_text("utf-8")).get("rows", ()):
            if row["status"] == "finished" and row.get("signs") and not _control(row):
                found.setdefault(f"{file.stem}, {row['label']} at {row['lr']:g}", []).append(row["signs"])
    return list(found.items())


def _range(shares: list[float]) -> str:
    return f"{min(shares):.1%} to {max(shares):.1%}"


def inside(sets: Sets, _: Path) -> Verdict:
    """What CPL forgot of A at the highest level that it reaches in all seeds."""
    return _each(sets, _inside)


def outside(sets: Sets, _: Path) -> Verdict:
    """How much less of B CPL forgot than plain fine-tuning, both tuned, at the highest level that both reach in all seeds."""
    return _each(sets, _outside)


def more_learned(sets: Sets, _: Path) -> Verdict:
    """What was learned at most while no more than `NEGLIGIBLE` of B was forgotten, by CPL and by the best baseline."""
    early = []

    def look(found: Found, data: str) -> tuple[bool, str] | None:
        most = {entry["label"]: _most(entry) for entry in _entries(found, data) if _is_cpl(entry) or entry["label"] in SEVEN}
        own, others = _divided(most, found, data)
        if not own or not others:
            return None
        best, rival = max(own.items(), key=lambda pair: pair[1]), max(others.items(), key=lambda pair: pair[1])
        if not best[1] and not rival[1]:
            early.append(found)
            return None
        return best[1] > rival[1], f"{best[0]} {best[1]:.0%}, {rival[0]} {rival[1]:.0%} (best of {len(others)})"

    verdict = _each(sets, look)
    too = f"in {len(early)} settings all had forgotten more than {NEGLIGIBLE:.0%} of B when they were first looked at, after an epoch"
    return ("cannot be told", too) if verdict == NOT and early else verdict


def memory(sets: Sets, _: Path) -> Verdict:
    """Peak memory of CPL as a multiple of plain fine-tuning's, and that of the baselines."""

    def peak(trial: Found, plain: Found, _: str) -> float | None:
        own, base = trial["peak_memory_bytes"], plain["peak_memory_bytes"]
        return own["mean"] / base["mean"] if own and base else None

    return _each(sets, lambda found, data: _less(found, data, peak))


def time(sets: Sets, _: Path) -> Verdict:
    """Seconds of CPL and of the baselines to learn as much, as multiples of plain fine-tuning's, at the highest level that all reach."""
    return _each({name: found for name, found in sets.items() if name not in UNTIMED}, lambda f, data: _less(f, data, time_ratio))


def recomputed(sets: Sets, _: Path) -> Verdict:
    """B under a mask made once a task, and under masks made anew."""

    def look(found: Found, data: str) -> tuple[bool, str] | None:
        for level in _levels(found):
            lost = {entry["label"]: pair[0] for entry in _entries(found, data) if _is_cpl(entry) and (pair := _at(entry, "B", level))}
            anew = {label: value for label, value in lost.items() if label != FIXED}
            if FIXED in lost and anew:
                told = ", ".join(f"{label} {value:.1%}" for label, value in lost.items())
                return min(anew.values()) < lost[FIXED], f"B at {float(level):.0%}: {told}"
        return None

    return _each(sets, look)


def optimizers(sets: Sets, _: Path) -> Verdict:
    """B under CPL and under plain fine-tuning by the same optimizer, each at the highest level that both reach."""

    def look(found: Found, data: str) -> tuple[bool, str] | None:
        told = {name: one for name, pair in PAIRS.items() if (one := _beside(found, data, *pair))}
        held = all(less for less, _ in told.values())
        return (held, "; ".join(f"{name}: {text}" for name, (_, text) in told.items())) if len(told) == len(PAIRS) else None

    return _each(sets, look)


def control(sets: Sets, _: Path) -> Verdict:
    """B under the masks of CPL and under random ones, which let half of the weights move, refreshed as often."""
    return _each(sets, lambda found, data: _beside(found, data, "cpl-2", "cpl-control"))


def transferred(_: Sets, results: Path) -> Verdict:
    """A second task under the mask of a first: holds where it learns and spares of A and B nine tenths of what its own mask does."""
    rows = raw.read(results / "transfer.json")
    if not rows:
        return NOT
    by = {way: [row for row in rows if row["way"] == way] for way in SECOND}
    plain, handed, own, drawn = ({key: sum(row[key] for row in by[way]) for key in ("learned", "lost_A", "lost_B")} for way in SECOND)
    lost = [one["lost_A"] + one["lost_B"] for one in (plain, handed, own)]
    held = handed["learned"] >= ENOUGH * own["learned"] and lost[0] - lost[1] >= ENOUGH * (lost[0] - lost[2])
    named = zip(("under it", "its own", "a random one", "none"), (handed, own, drawn, plain), strict=True)
    told = [f"{name}: {one['learned']} learned, {one['lost_A']} of A and {one['lost_B']} of B forgotten" for name, one in named]
    shared = sum(row["shared"] for row in by[SECOND[2]]) / len(by[SECOND[2]])
    seeds = len({row["seed"] for row in rows})
    ends = f"the first freezes {shared:.0%} of what the second's own does"
    return "holds" if held else "does not hold", f"sums over {seeds} seeds, as many steps each. {'; '.join(told)}; {ends}"


def _beside(found: Found, data: str, ours: str, other: str) -> tuple[bool, str] | None:
    """Whether entry ``ours`` forgets less of B than ``other``, and both figures, at the highest level that both reach."""
    by = {entry["label"]: entry for entry in _entries(found, data)}
    for level in _levels(found) if ours in by and other in by else []:
        own, rival = _at(by[ours], "B", level), _at(by[other], "B", level)
        if own and rival:
            return own[0] < rival[0], f"{own[1]}; {rival[1]} at {float(level):.0%}"
    return None


def _inside(found: Found, data: str) -> tuple[bool, str] | None:
    for level in _levels(found):
        told = [pair for entry in _entries(found, data) if _is_cpl(entry) and (pair := _at(entry, "A", level))]
        if told:
            return min(told)[0] == 0, f"{min(told)[1]} at {float(level):.0%}"
    return None


def _outside(found: Found, data: str) -> tuple[bool, str] | None:
    plain = next((entry for entry in _entries(found, data) if entry["label"] == "none"), None)
    for level in _levels(found):
        base = plain and _at(plain, "B", level)
        told = [pair for entry in _entries(found, data) if _is_cpl(entry) and (pair := _at(entry, "B", level))]
        if base and told and base[0]:
            less = 1 - min(told)[0] / base[0]
            return less >= LESS, f"{less:.0%} less at {float(level):.0%} ({min(told)[1]}; plain {base[1]})"
    return None


def _less(found: Found, data: str, ratio: Callable[[Found, Found, str], float | None]) -> tuple[bool, str] | None:
    """Whether the least that a CPL takes is less than what the baselines take in the mean, at the highest level that all reach."""
    trials = {entry["label"]: chosen_trial(entry) for entry in _entries(found, data) if _is_cpl(entry) or entry["label"] in SEVEN}
    plain = next((chosen_trial(entry) for entry in _entries(found, data) if entry["label"] == "none"), None)
    for level in _levels(found) if plain else []:
        told = {label: ratio(trial, plain, level) for label, trial in trials.items() if trial and plain}
        own, rivals = _divided({label: value for label, value in told.items() if value is not None}, found, data)
        if own and rivals and None not in told.values():
            mean = sum(rivals.values()) / len(rivals)
            return min(own.values()) < mean, f"{min(own.values()):.2f} of plain's; {len(rivals)} baselines {mean:.2f} in the mean"
    return None


def _each(sets: Sets, look: Callable[[Found, str], tuple[bool, str] | None]) -> Verdict:
    """One verdict over all settings: holds in so many of those in which it was measured."""
    told = []
    for name, found in sets.items():
        for data in dict.fromkeys(entry["data"] for entry in found["entries"]):
            if (one := look(found, data)) is not None:
                told.append((one[0], f"{name} (n = {len(found['seeds'])}): {one[1]}"))
    if not told:
        return NOT
    held = sum(yes for yes, _ in told)
    verdict = "holds" if held == len(told) else "does not hold" if not held else f"holds in {held} of {len(told)}"
    return verdict, "; ".join(text for _, text in told)


def _entries(found: Found, data: str) -> list[Mapping[str, Any]]:
    return [entry for entry in found["entries"] if entry["data"] == data and entry["chosen"]]


def _is_cpl(entry: Mapping[str, Any]) -> bool:
    """Whether an entry is CPL, and not its control by random masks."""
    trial = chosen_trial(entry)
    return entry["method"] == "cpl" and trial is not None and not _control(trial)


def _control(row: Mapping[str, Any]) -> bool:
    return any("control" in own for own in row["options"].values())


def _divided(figures: Mapping[str, float], found: Found, data: str) -> tuple[dict[str, float], dict[str, float]]:
    """Figures of CPL, and of all others."""
    own = {entry["label"] for entry in _entries(found, data) if _is_cpl(entry)}
    return {k: v for k, v in figures.items() if k in own}, {k: v for k, v in figures.items() if k not in own}


def _levels(found: Found) -> list[str]:
    """Levels, the highest first."""
    return [f"{level:g}" for level in sorted(found["levels"], reverse=True)]


def _at(entry: Mapping[str, Any], kind: str, level: str) -> tuple[float, str] | None:
    """What the chosen trial forgot of a kind at a level, where all its seeds reach it."""
    trial = chosen_trial(entry)
    if trial is None or trial["at"][level]["reached"] < len(trial["seeds"]) or trial["at"][level][kind] is None:
        return None
    figure = trial["at"][level][kind]
    wide = "" if figure["low"] is None else f", {figure['low']:.1%} to {figure['high']:.1%}"
    return figure["mean"], f"{entry['label']} {figure['mean']:.1%}{wide}"


def _most(entry: Mapping[str, Any]) -> float:
    """The largest mean share learned at a scoring where at most `NEGLIGIBLE` of B was forgotten, of the trial chosen."""
    trial = chosen_trial(entry)
    points = [point for point in trial["trajectory"] if point["n"] == len(trial["seeds"])] if trial else []
    return max((point["learned"] for point in points if point["B"] is not None and point["B"] <= NEGLIGIBLE), default=0.0)


def _not(_: Sets, __: Path) -> Verdict:
    return NOT


CLAIMS: tuple[tuple[str, Callable[[Sets, Path], Verdict]], ...] = (
    ("50 to 75% of the weights conflict", conflicting),
    ("in-set (A): nothing is forgotten", inside),
    ("out-of-set (B): 59.1 to 81.7% less is forgotten than by plain fine-tuning", outside),
    (f"more is learned than by seven baselines at negligible forgetting (here: at most {NEGLIGIBLE:.0%} of B)", more_learned),
    ("less peak memory than the baselines", memory),
    ("less time than the baselines (16.5%)", time),
    ("masks made anew forget less than one fixed mask", recomputed),
    (f"one mask serves a second injection task (here: learns and spares at least {ENOUGH:.0%} of what its own does)", transferred),
    ("it works with SGD, momentum and Adam alike (here: forgets less of B than plain fine-tuning by each)", optimizers),
    ("the signs do it: random masks of equal share protect less", control),
    ("how many signs flip over time", flips),
    ("across prompts, modalities, languages and in open answers", _not),
)
