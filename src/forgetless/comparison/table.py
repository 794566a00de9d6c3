"""The table for the terminal: one line for each method of each data set, at equal learning, on test items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EXPLAINED = (
    "learned: at the end, in %; A, B, C: forgotten when {level} are learned, in % of what was known (A the retain set, B held-out, "
    "C other kinds), of test items; reach: seeds that come so far; area B: over the whole way, lower is better; s: seconds of training "
    "to that point; GB: peak memory. Below: 95% Student-t intervals over seeds."
)

Figure = Mapping[str, Any] | None


def share(figure: Figure) -> str:
    """A mean share in percent, with its interval on a second line."""
    if figure is None:
        return "-"
    if figure["low"] is None:
        return f"{100 * figure['mean']:.1f}"
    return f"{100 * figure['mean']:.1f}\n{100 * figure['low']:.1f}-{100 * figure['high']:.1f}"


def amount(figure: Figure, unit: float, digits: int) -> str:
    """A mean in a unit."""
    return "-" if figure is None else f"{figure['mean'] / unit:.{digits}f}"


def rows(found: Mapping[str, Any], data: str, level: str) -> tuple[list[str], list[list[str]]]:
    """The heading and the lines of the table of a data set at a level."""
    heading = ["method", "chosen", "learned", "reach", "A", "B", "C", "area B", "s", "GB"]
    lines = []
    for entry in found["entries"]:
        if entry["data"] != data:
            continue
        if entry["chosen"] is None:
            lines.append([entry["label"], "none finished", *["-"] * (len(heading) - 2)])
            continue
        trial = next(trial for trial in entry["trials"] if trial["trial"] == entry["chosen"]["trial"])
        at = trial["at"][level]
        lines.append(
            [
                entry["label"],
                setting(trial),
                share(trial["final"]["learned"]),
                f"{at['reached']}/{len(trial['seeds'])}",
                *(share(at[kind]) for kind in "ABC"),
                amount(trial["area"]["B"], 0.01, 1),
                amount(at["seconds"], 1, 1),
                amount(trial["peak_memory_bytes"], 1e9, 2),
            ]
        )
    return heading, lines


def setting(trial: Mapping[str, Any]) -> str:
    """Learning rate, optimizer and options of a trial."""
    options = [f"{name}.{key}={value}" for name, own in trial["options"].items() for key, value in own.items()]
    return " ".join([f"{trial['lr']:g}", trial["optimizer"], *options])


def sentences(found: Mapping[str, Any], data: str, level: str) -> list[str]:
    """Each method against the baselines on B (else A, else C), and what is missing, in words."""
    told = []
    for entry in found["entries"]:
        for baseline, against in entry["against"].items() if entry["data"] == data else ():
            kind = next((kind for kind in "BAC" if against["items"][kind]["n"]), "B")
            by_seed, by_item = against["at"][level][kind], against["items"][kind]
            line = f"{entry['label']} against tuned {baseline}, {kind}:"
            if by_seed["n"]:
                wide = "" if by_seed["low"] is None else f" ({100 * by_seed['low']:+.1f} to {100 * by_seed['high']:+.1f})"
                chance = "" if by_seed["p"] is None else f", p = {by_seed['p']:.2g}"
                at = f"{100 * by_seed['difference']:+.1f} points{wide} at {float(level):.0%} learned, {by_seed['n']} seeds{chance}"
                line += f" {at};"
            else:
                line += f" no seed in which both reach {float(level):.0%};"
            if by_item["n"]:
                moved = f"{by_item['worse']} worse, {by_item['better']} better of {by_item['n']}"
                line += f" at the end, item by item: {moved}, p = {by_item['p']:.2g}"
            told.append(line)
    return told


def closing(found: Mapping[str, Any]) -> list[str]:
    """What did not go as planned, and how to read the figures."""
    told = []
    for problem in found["problems"]:
        told.append(f"{problem['status']}: {problem['cell']}: {problem['reason']}")
    if not found["baselines"]:
        told.append("The plan has neither none nor replay, so nothing was compared with a baseline.")
    if not found["validation"]:
        told.append("validation is 0: trials were chosen on the very items that are reported, so the figures flatter every method.")
    return told


def show(found: Mapping[str, Any]) -> None:
    """Print the tables, at the highest level that some chosen trial reaches in all of its seeds."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    for data in dict.fromkeys(entry["data"] for entry in found["entries"]):
        level = told_level(found, data)
        heading, lines = rows(found, data, level)
        console.print(Text(f"{found['title']}: {data}"), style="bold")
        console.print(Text(EXPLAINED.format(level=f"{float(level):.0%}")))
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for index, name in enumerate(heading):
            table.add_column(name, justify="left" if index < 2 else "right", overflow="fold", min_width=len(name))
        for line in lines:
            table.add_row(*(Text(cell) for cell in line))
        console.print(table)
        for sentence in sentences(found, data, level):
            console.print(Text(sentence))
    for sentence in closing(found):
        console.print(Text(sentence))


def told_level(found: Mapping[str, Any], data: str) -> str:
    """The highest level that the chosen trial of every method reaches in all of its seeds; else of any; else the lowest."""
    levels = sorted((f"{level:g}" for level in found["levels"]), key=float, reverse=True)
    chosen = [
        trial
        for entry in found["entries"]
        if entry["data"] == data and entry["chosen"]
        for trial in entry["trials"]
        if trial["trial"] == entry["chosen"]["trial"]
    ]
    for enough in (all, any):
        for level in levels:
            if chosen and enough(_whole(trial, level) for trial in chosen):
                return level
    return levels[-1]


def _whole(trial: Mapping[str, Any], level: str) -> bool:
    seeds: Sequence[int] = trial["seeds"]
    return bool(seeds) and trial["at"][level]["reached"] == len(seeds)
