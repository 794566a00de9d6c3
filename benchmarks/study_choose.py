"""The page 'Which method, when', each line with the committed figures that back it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import raw
from forgetless.comparison.curves import at_level
from forgetless.files import write_text
from forgetless.report.comparison_words import chosen_trial

Sets = Mapping[str, Mapping[str, Any]]
"""Summaries of comparisons by the name of their raw file."""
NO_FIGURE = "not measured yet"
HEAD = """# Which method, when

`forgetless methods --recommend` asks about your situation and ranks what fits, by what is kept, as here, and by what it costs. Where a
comparison is named they are of SmolLM2-135M ([how they were made](study.md)): shares of what was known that is forgotten when so much of
the new is learned, of **A**, what the old data has, **B**, facts of the same kinds, and **C**, knowledge of other kinds. Else they are of
a small network on split MNIST, five tasks of two digits ([all methods](split-mnist.md); `null-space` by its
[own run](../methods/null-space.md)): mean accuracy after the last task, over five seeds.

| you have | run | because |
|---|---|---|
"""
TAIL = """
**Learning rate.** `auto` and `null-space` want about 1e-3 with AdamW, since most of a step is projected away; all others 1e-5 to 1e-4.
Compare at equal learning, and sweep the rate of the rival too: [`forgetless compare`](../compare.md).

Made by `python benchmarks/study.py page` from the raw results in `docs/results/`.
"""


def told_level(found: Mapping[str, Any], data: str) -> str:
    """The highest level that the chosen trial of more than half of the methods reaches in all of its seeds; else the lowest."""
    levels = sorted((f"{level:g}" for level in found["levels"]), key=float, reverse=True)
    trials = [trial for entry in found["entries"] if entry["data"] == data and (trial := chosen_trial(entry))]
    for level in levels:
        if sum(trial["at"][level]["reached"] == len(trial["seeds"]) for trial in trials) > len(trials) / 2:
            return level
    return levels[-1]


def write(sets: Sets, results: Path) -> Path:
    """Write ``choose.md``; gives it."""
    page = results / "choose.md"
    lines = [f"| {have} | {run} | {because} |" for have, run, because in rows(sets, results)]
    write_text(page, HEAD + "\n".join(lines) + "\n" + TAIL)
    return page


def rows(sets: Sets, results: Path) -> list[tuple[str, str, str]]:
    """What somebody has, what to run, and why."""
    digits = accuracies(results.parent / "methods/figures/more.json") | accuracies(results / "split_mnist.json")
    return [
        (
            "a language model, and examples of what must stay",
            "[`auto`](../methods/auto.md): `--retain old.jsonl`",
            against(sets, "auto", ("none", "replay")),
        ),
        ("a language model, and no old data", "[`auto`](../methods/auto.md)", against(sets, "auto-no-data", ("none",))),
        (
            "a language model without `nn.Linear` layers (GPT-2), and examples of what must stay",
            "[`replay`](../methods/replay.md)",
            against(sets, "replay", ("none",), kinds="AB"),
        ),
        (
            "facts that contradict what the model knows, and must hold in phrasings that you do not train",
            "[`replay`](../methods/replay.md), and more phrasings",
            phrased({name: found for name, found in sets.items() if name == "edits"}, ("replay", "auto", "none")),
        ),
        (
            "a language model, and several sets of facts, one after another",
            "[`auto`](../methods/auto.md) with [`forgetless stream`](../command-line.md)",
            in_turn(results / "study/subjects.json", ("auto", "replay", "none")),
        ),
        (
            "a promise to keep: lose at most 1%",
            "[`--budget 0.01`](../budget.md) with any method",
            "a guard looks, acts, and gives a verdict on items that nobody saw ([measured](budget.md))",
        ),
        (
            "many tasks one after another, and examples of each may be kept",
            "[`replay`](../methods/replay.md), [`derpp`](../methods/derpp.md) for a little more at a higher price",
            told(digits, "class", ("replay", "derpp", "agem", "none")),
        ),
        (
            "the same, and no example may be kept",
            "[`generative-replay`](../methods/generative-replay.md), else [`null-space`](../methods/null-space.md)",
            told(digits, "domain", ("generative-replay", "null-space", "lwf", "online-ewc", "none")),
        ),
        (
            "tasks that are known when the model is used",
            "[`packnet`](../methods/packnet.md), [`lora`](../methods/lora.md) (an adapter each), [`supermask`](../methods/supermask.md)",
            "earlier tasks stay as they were to the last bit; " + told(digits, "task", ("packnet", "supermask", "lora", "none")),
        ),
    ]


def against(sets: Sets, label: str, rivals: tuple[str, ...], kinds: str = "BC") -> str:
    """In each comparison that has them all, with the number of its seeds: forgotten of some kinds, and time, beside the rivals'."""
    parts = []
    for name, found in sets.items():
        data = next(iter(entry["data"] for entry in found["entries"]))
        trials = {entry["label"]: chosen_trial(entry) for entry in found["entries"] if entry["data"] == data}
        own, others = trials.get(label), {rival: trials.get(rival) for rival in rivals}
        if own is None or None in others.values():
            continue
        level = told_level(found, data)
        shares = []
        for kind in kinds:
            values = [_percent(trial["at"][level][kind]) for trial in (own, *others.values()) if trial]
            beside = ", ".join(f"{rival} {value}" for rival, value in zip(rivals, values[1:], strict=True))
            shares.append(f"{kind} {values[0]} ({beside})")
        ratio = time_ratio(own, others["none"], level)
        times = "" if ratio is None else f", {ratio:.1f} times plain's time"
        seeds = len(own["seeds"])
        few = [
            f"{rival} {at['reached']}" for rival, trial in {label: own, **others}.items() if (at := trial["at"][level])["reached"] < seeds
        ]
        some = f" (reached by {', '.join(few)} of them)" if few else ""
        parts.append(f"{name}, {seeds} seed{'s' * (seeds > 1)}, at {float(level):.0%} learned{some}: {', '.join(shares)}{times}")
    return "; ".join(parts) or NO_FIGURE


def time_ratio(own: Mapping[str, Any], base: Mapping[str, Any] | None, level: str) -> float | None:
    """A trial's training time up to a level over another's, over the seeds in which both reach it; None where there is none."""

    def seconds(trial: Mapping[str, Any]) -> dict[int, float | None]:
        found = {}
        for one in trial["trajectories"]:
            learned, times = ([point[key] for point in one["points"]] for key in ("learned", "seconds"))
            found[one["seed"]] = None if None in times else at_level(learned, times, float(level))
        return found

    if base is None:
        return None
    one, other = seconds(own), seconds(base)
    pairs = [(value, other[seed]) for seed, value in one.items() if value is not None and other.get(seed)]
    return sum(value for value, _ in pairs) / sum(value or 0.0 for _, value in pairs) if pairs else None


def phrased(sets: Sets, labels: tuple[str, ...]) -> str:
    """In each comparison that has them all, what was learned in phrasings that were never trained."""
    parts = []
    for name, found in sets.items():
        trials = {entry["label"]: chosen_trial(entry) for entry in found["entries"]}
        shares = {label: trial["final"]["learned_heldout"] for label in labels if (trial := trials.get(label))}
        if len(shares) == len(labels) and all(shares.values()):
            told = ", ".join(f"{label} {_percent(share)}" for label, share in shares.items())
            parts.append(f"{name}, {len(found['seeds'])} seed{'s' * (len(found['seeds']) > 1)}: learned in other words {told}")
    return "; ".join(parts) or NO_FIGURE


def in_turn(file: Path, labels: tuple[str, ...]) -> str:
    """Of streams of tasks: forgotten of the tasks from the best ever had, and of what was known before the first, in the mean over runs."""
    if not file.is_file():
        return NO_FIGURE
    runs = json.loads(file.read_text("utf-8"))["runs"]
    seeds = {label: [seed for name, run in runs.items() if name.split("/")[0] == label for seed in run["seeds"]] for label in labels}
    shown = {label: own for label, own in seeds.items() if own}
    if not shown:
        return NO_FIGURE
    figures = {"learned facts": lambda seed: seed["forgetting"]} | {
        name: lambda seed, name=name: seed["probes"][name][-1] for name in sorted(next(iter(shown.values()))[0]["probes"])
    }
    parts = []
    for what, figure in figures.items():
        parts.append(f"{what} " + ", ".join(f"{label} {100 * mean(figure(seed) for seed in own):.1f}%" for label, own in shown.items()))
    tasks = len(next(iter(runs.values()))["tasks"])
    return f"{tasks} subjects, {min(map(len, shown.values()))} draws, forgotten at the end: {'; '.join(parts)}"


def accuracies(file: Path) -> dict[tuple[str, str], float]:
    """By setting and method, in percent."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in raw.read(file):
        found.setdefault((row["setting"], row["method"]), []).append(100 * row["acc"])
    return {key: mean(values) for key, values in found.items()}


def told(digits: Mapping[tuple[str, str], float], setting: str, methods: tuple[str, ...]) -> str:
    """Accuracies of some methods in a setting."""
    parts = [f"{name} {digits[setting, name]:.1f}%" for name in methods if (setting, name) in digits]
    return f"{setting} setting: {', '.join(parts)}" if parts else NO_FIGURE


def _percent(figure: Any) -> str:
    return "?" if figure is None else f"{100 * figure['mean']:.1f}%"
