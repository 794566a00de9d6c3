"""The section of a screen: many methods, few trials, one seed. One table, best first, and one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetless.comparison.table import setting
from forgetless.report.comparison_words import chosen_trial

Entry = Mapping[str, Any]
SORTED_AT = "0.8"
"""The level by whose B and C the methods are ordered: more of them reach it than 90%."""
ABOUT = """Each point is one training at one seed: of {items} one item more or less is {point} points, and differences of a few items are
chance. It says which methods are worth all seeds, not which of two neighbours is better. Best first, by the mean of B and C at {level}
learned; `auto`'s variants are the search for the recipe.
"""


def section(name: str, found: Mapping[str, Any], folder: Path) -> list[str]:
    """Its text, and the picture ``NAME.svg`` in ``folder``."""
    entries = best_first(found["entries"])
    sizes = next(iter(found["items"].values()))
    counts = {kind: sizes[kind]["test"] for kind in "BC"}
    told = [
        ABOUT.format(
            items=" and ".join(f"{counts[kind]} ({kind})" for kind in "BC"),
            point=" and ".join(f"{100 / counts[kind]:.0f}" for kind in "BC"),
            level=f"{float(SORTED_AT):.0%}",
        ),
        table(entries, [f"{level:g}" for level in found["levels"] if f"{level:g}" >= SORTED_AT]),
    ]
    file = folder / f"{name}.svg"
    plot(entries, file)
    told.append(f"![Forgotten at {float(SORTED_AT):.0%} learned, method by method](study/{file.name})\n")
    return told


def loss(entry: Entry) -> float | None:
    """The mean of the shares of B and C that the chosen trial has forgotten at `SORTED_AT`; None where it never learned so much."""
    trial = chosen_trial(entry)
    figures = [trial["at"][SORTED_AT][kind] for kind in "BC"] if trial else []
    return None if not figures or None in figures else sum(one["mean"] for one in figures) / 2


def best_first(entries: Sequence[Entry]) -> list[Entry]:
    """By `loss`; then those without one, by what they learned."""

    def place(entry: Entry) -> tuple[bool, float]:
        lost, trial = loss(entry), chosen_trial(entry)
        return lost is None, lost if lost is not None else -(trial["final"]["learned"]["mean"] if trial else -1.0)

    return sorted(entries, key=place)


def table(entries: Sequence[Entry], levels: Sequence[str]) -> str:
    """A line for each method; percent of what was known."""
    plain = next((trial for entry in entries if entry["label"] == "none" and (trial := chosen_trial(entry))), None)
    head = ["method", "chosen", *(f"{kind} at {float(level):.0%}" for level in levels for kind in "ABC")]
    head += ["learned", "in other words", "memory"]
    lines = [head, ["---"] * len(head)]
    for entry in entries:
        trial = chosen_trial(entry)
        if trial is None:
            lines.append([f"`{entry['label']}`", "none finished", *[""] * (len(head) - 2)])
            continue
        cells = [f"`{entry['label']}`", setting(trial), *(_percent(trial["at"][level][kind]) for level in levels for kind in "ABC")]
        cells += [_percent(trial["final"][key]) for key in ("learned", "learned_heldout")]
        base = plain and plain["peak_memory_bytes"]
        lines.append([*cells, f"{trial['peak_memory_bytes']['mean'] / base['mean']:.2f}" if base and trial["peak_memory_bytes"] else ""])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def plot(entries: Sequence[Entry], path: Path) -> None:
    """A row for each method that learned so much, with a mark for each kind; the best above."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = path.stem  # the same file every time
    import matplotlib.pyplot as plt

    rows = [(entry["label"], chosen_trial(entry)) for entry in entries if loss(entry) is not None][::-1]
    figure, axes = plt.subplots(figsize=(8, 1.1 + 0.24 * len(rows)), layout="constrained")
    for kind, mark, size, colour, words in (
        ("A", "|", 80, "#8a93a3", "A: the retain set"),
        ("B", "o", 34, "#b3261e", "B: held out, same kinds"),
        ("C", "D", 26, "#1f5fa8", "C: other kinds"),
    ):
        marks = [(100 * trial["at"][SORTED_AT][kind]["mean"], row) for row, (_, trial) in enumerate(rows) if trial["at"][SORTED_AT][kind]]
        if marks:
            axes.scatter(*zip(*marks, strict=True), marker=mark, s=size, color=colour, label=words, zorder=3)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], fontsize=9)
    axes.set(xlabel=f"forgotten at {float(SORTED_AT):.0%} learned, % of what was known", xlim=(-2, 102), ylim=(-0.7, len(rows) - 0.3))
    axes.grid(axis="both", alpha=0.25)
    axes.legend(loc="lower right", frameon=True, fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _percent(figure: Any) -> str:
    return "" if figure is None else f"{100 * figure['mean']:.1f}"
