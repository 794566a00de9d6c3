"""The section on tasks in sequence: each method's figures over seeds, and what it forgot of what the model knew before the first task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.comparison.intervals import SHARE, over_seeds, seed_difference

Run = Mapping[str, Any]
_FIGURES = ("learned", "acc", "forgetting", "heldout")
_CHANGE = (-1.0, 1.0)  # forgetting is below 0 where later tasks helped earlier ones
COLUMNS = ("method", "rate", "seeds", "learned", "right at the end", "forgetting", "in other words", "time")


def section(runs: Mapping[str, Run]) -> list[str]:
    """Markdown: what was learned in turn, a table of figures, and the differences to ``none``.

    Args:
        runs: by the name of their folder, LABEL or LABEL/DRAW: several draws of the facts are seeds of one method.
    """
    labels: dict[str, list[Run]] = {}
    for name, run in runs.items():
        labels.setdefault(name.split("/")[0], []).append(run)
    first = next(iter(runs.values()))
    probes = sorted({probe for run in runs.values() for seed in run["seeds"] for probe in seed["probes"]})
    counts = {probe: [seed["known"][probe] for run in runs.values() for seed in run["seeds"]] for probe in probes}
    told = f"Learned one after another, each until {first['until_learned']:.0%} or {first['epochs']} epochs: {', '.join(first['tasks'])}; "
    told += "each method at the rate that is shown. Right at the end: of all tasks; forgetting: from the best ever had; in other words: "
    told += "the facts in a phrasing that was never trained, at the end. "
    if probes:
        known = ", ".join(f"{probe} {span(counts[probe])} items" for probe in probes)
        told += f"What the model knew before the first task and no task trains is asked after the last: {known}. "
    told += "In %; time is a multiple of `none`'s.\n"
    seconds = {label: _mean([seed["seconds"] for seed in _seeds(own)]) for label, own in labels.items()}
    lines = [_line([*COLUMNS[:-1], *(f"{probe}, forgotten" for probe in probes), COLUMNS[-1]]), _line("---" for _ in (*COLUMNS, *probes))]
    for label, own in labels.items():
        seeds = _seeds(own)
        figures = [_share([seed[key] for seed in seeds], _CHANGE if key == "forgetting" else SHARE) for key in _FIGURES]
        figures += [_share([_last(seed, probe) for seed in seeds]) for probe in probes]
        time = f"{seconds[label] / seconds['none']:.2f}" if "none" in seconds else ""
        lines.append(_line([f"`{label}`", f"{own[0]['lr'] or 0:g}", str(len(seeds)), *figures, time]))
    return [told, "\n".join(lines) + "\n", *_against(labels, probes)]


def _against(labels: Mapping[str, list[Run]], probes: Sequence[str]) -> list[str]:
    """Differences to every rate of plain fine-tuning, paired by the draw of the facts and the seed."""
    lines = []
    for base in [label for label, own in labels.items() if own[0]["method"] == "none"]:
        for label, own in labels.items():
            if own[0]["method"] == "none":
                continue
            for what in ("forgetting", *probes):
                one, other = (_by_seed(runs, what) for runs in (own, labels[base]))
                both = [key for key in one if key in other]
                found = seed_difference([one[key] for key in both], [other[key] for key in both])
                if found["p"] is not None:
                    wide = f"{100 * found['difference']:+.1f} [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
                    lines.append(_line([f"`{label}`", f"`{base}`", what, wide, f"{found['p']:.2g}", str(found["n"])]))
    head = ["method", "against", "forgotten", "difference, points", "p", "seeds"]
    return ["\n".join([_line(head), _line("---" for _ in head), *lines]) + "\n"] if lines else []


def _by_seed(runs: Sequence[Run], what: str) -> dict[tuple[int, int], float]:
    found = {}
    for run in runs:
        for seed in run["seeds"]:
            value = seed["forgetting"] if what == "forgetting" else _last(seed, what)
            if value is not None:
                found[run["draw"], seed["seed"]] = value
    return found


def _last(seed: Mapping[str, Any], probe: str) -> float | None:
    return seed["probes"][probe][-1] if probe in seed["probes"] else None


def _seeds(runs: Sequence[Run]) -> list[Mapping[str, Any]]:
    return [seed for run in runs for seed in run["seeds"]]


def _share(values: Sequence[float | None], within: tuple[float, float] = SHARE) -> str:
    found = over_seeds(values, within)
    if found is None:
        return ""
    return f"{100 * found['mean']:.1f}" + ("" if found["low"] is None else f" [{100 * found['low']:.1f}, {100 * found['high']:.1f}]")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def span(counts: Sequence[int]) -> str:
    """Numbers that may be all the same: the one, or the least and the greatest."""
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"
