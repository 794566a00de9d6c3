"""The tables of a comparison. Every figure carries its path in ``comparison.json`` and its exact value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from forgetless.report.comparison_words import KINDS, chosen_trial
from forgetless.report.numbers import NONE, duration, memory, p_value, percent, plain, points
from forgetless.report.tables import Cell, Head, Table

Entry = Mapping[str, Any]
Row = Sequence[str | Cell | Head]
Text = Callable[[float], str]


def setup(trial: Mapping[str, Any]) -> str:
    """Rate, optimizer and options of a trial."""
    options = [f"{method}.{name}={value}" for method, own in trial["options"].items() for name, value in (own or {}).items()]
    return ", ".join([f"lr {trial['lr']:g}", str(trial["optimizer"]), *options])


def path(entry: Entry, *keys: object) -> str:
    """Where a figure stands: data set, label, then the keys within the entry."""
    return "/".join(str(key) for key in (entry["data"], entry["label"], *keys))


def interval_cell(found: Mapping[str, Any] | None, name: str, text: Text, tone: str = "", most: float | None = None) -> Cell:
    """A mean with its interval; with ``tone`` drawn as a bar, of which ``most`` is the whole."""
    if found is None:
        return Cell(NONE)
    spread = None if found["low"] is None else (found["low"], found["high"])
    small = f"{text(spread[0])} to {text(spread[1])}" if spread else "one seed" if found["n"] == 1 else ""
    whole = most if most else 1.0
    at, span = (found["mean"] / whole, (spread[0] / whole, spread[1] / whole) if spread else None) if tone else (None, None)
    return Cell(text(found["mean"]), found["mean"], small, f"{name}/mean", tone, at, span)


def board(entries: Sequence[Entry], names: Sequence[str], level: str | None) -> Table:
    """A row for each method: its chosen trial at equal learning, beside what it cost."""
    at = f" at {percent(float(level))} learned" if level else ""
    kinds = [kind for kind in KINDS if any((t := chosen_trial(entry)) and t["final"][kind] for entry in entries)]
    heads = {"B": f"Forgotten, held out{at}", "C": f"Forgotten, other kinds{at}", "A": f"Forgotten, reference{at}"}
    rows: list[Row] = []
    trials = [trial for entry in entries if (trial := chosen_trial(entry))]
    most = {key: max((t[key]["mean"] for t in trials if t[key]), default=0.0) for key in ("seconds", "peak_memory_bytes")}
    for entry in entries:
        trial, run = chosen_trial(entry), names.index(entry["label"])
        if trial is None:
            rows.append([Head(entry["label"], run, "no run finished"), *(Cell(NONE) for _ in range(len(kinds) + 3))])
            continue
        head = Head(entry["label"], run, f"{setup(trial)}{'; baseline' if entry['baseline'] else ''}")
        where, number = trial["at"][level] if level else trial["final"], trial["trial"]
        stem = ("trials", number, "at", level) if level else ("trials", number, "final")
        cells = [interval_cell(trial["final"]["learned"], path(entry, "trials", number, "final", "learned"), percent, "learned")]
        cells += [interval_cell(where[kind], path(entry, *stem, kind), percent, "forgotten") for kind in kinds]
        cells.append(interval_cell(trial["seconds"], path(entry, "trials", number, "seconds"), duration, "cost", most["seconds"]))
        key = "peak_memory_bytes"
        cells.append(interval_cell(trial[key], path(entry, "trials", number, key), memory, "cost", most[key]))
        rows.append([head, *cells])
    caption = "The chosen trial of each method. The bracket on a bar is the 95% interval over seeds (Student-t)"
    return Table(caption, ["", "Learned at the end", *(heads[kind] for kind in kinds), "Training time", "Peak memory"], rows, "board")


def level_table(entries: Sequence[Entry], names: Sequence[str], levels: Sequence[float]) -> Table:
    """What the chosen trials had forgotten at each level of learning, and the area under their curves."""
    kinds = [kind for kind in KINDS if any((t := chosen_trial(entry)) and t["final"][kind] for entry in entries)]
    head = ["", *(f"{kind} at {percent(level)}" for level in levels for kind in kinds), *(f"{kind}, area" for kind in kinds)]
    rows: list[Row] = []
    for entry in entries:
        trial = chosen_trial(entry)
        if trial is None:
            continue
        cells = []
        for level in levels:
            found = trial["at"][f"{level:g}"]
            for kind in kinds:
                cell = interval_cell(found[kind], path(entry, "trials", trial["trial"], "at", f"{level:g}", kind), percent)
                short = found["reached"] < len(trial["seeds"])
                note = f"{cell.small}; {found['reached']} of {len(trial['seeds'])} seeds reach it" if short and found[kind] else cell.small
                cells.append(Cell(cell.text if found[kind] else "not reached", cell.value, note, cell.name))
        cells += [interval_cell(trial["area"][kind], path(entry, "trials", trial["trial"], "area", kind), _area) for kind in kinds]
        rows.append([Head(entry["label"], names.index(entry["label"])), *cells])
    caption = "Forgotten at equal learning, interpolated along the trajectory, and the area under the curve of forgotten by learned "
    return Table(
        caption + "(lower is better); 95% intervals over seeds. B: held out, C: other kinds, A: the reference", head, rows, "levels"
    )


def trial_table(entries: Sequence[Entry]) -> Table:
    """Every figure of every trial: a row for each figure, a column for each trial."""
    columns = [(entry, trial) for entry in entries for trial in entry["trials"]]
    head = ["figure", *(f"{entry['label']}, {setup(trial)}" + _mark(entry, trial) for entry, trial in columns)]
    if not columns:
        return Table("Every trial", head, [])
    first = columns[0][1]
    wanted: list[tuple[str, tuple[str, ...], Text]] = [(f"{_NAMES[key]}, at the end", ("final", key), percent) for key in first["final"]]
    for level in first["at"]:
        texts = {"seconds": duration, "steps": plain}
        wanted += [(f"{_NAMES[k]}, at {percent(float(level))} learned", ("at", level, k), texts.get(k, percent)) for k in _KEYS]
    wanted += [(f"{_NAMES[kind]}, area", ("area", kind), _area) for kind in "ABC"]
    wanted += [("training time", ("seconds",), duration), ("scoring time", ("eval_seconds",), duration), ("steps", ("steps",), plain)]
    wanted += [("peak memory", ("peak_memory_bytes",), memory)]
    rows: list[Row] = [["seeds finished", *(f"{len(t['seeds'])}" + (f", {t['failed']} failed" if t["failed"] else "") for _, t in columns)]]
    for name, keys, text in wanted:
        cells = [interval_cell(_at(trial, keys), path(entry, "trials", trial["trial"], *keys), text) for entry, trial in columns]
        rows.append([name, *cells])
    for level in first["validation"]["at"]:
        row: list[str | Cell | Head] = [f"forgotten on validation items at {percent(float(level))} learned, which chooses"]
        for entry, trial in columns:
            value = trial["validation"]["at"][level]
            name = path(entry, "trials", trial["trial"], "validation", "at", level)
            row.append(Cell(NONE) if value is None else Cell(percent(value), value, "", name))
        rows.append(row)
    return Table("Every trial on test items; means over seeds with 95% intervals", head, rows, "trials")


def against_table(entries: Sequence[Entry], baselines: Sequence[str]) -> Table | None:
    """The chosen trials against those of the baselines: by seed at each level, by item at the end."""
    rows: list[Row] = []
    for entry in entries:
        for baseline in baselines:
            found = entry["against"].get(baseline)
            if not found:
                continue
            for level, kinds in found["at"].items():
                for kind, one in kinds.items():
                    if one["difference"] is not None:
                        where = path(entry, "against", baseline, "at", level, kind)
                        spread = NONE if one["low"] is None else f"{points(one['low'])} to {points(one['high'])}"
                        rows.append(_difference(entry, baseline, kind, f"at {percent(float(level))} learned, by seed", where, one, spread))
            for kind, one in found["items"].items():
                if one["difference"] is not None:
                    counted = f"forgotten more often {one['worse']}, less often {one['better']} of {one['n']}"
                    where = path(entry, "against", baseline, "items", kind)
                    rows.append(_difference(entry, baseline, kind, "at the end, by item", where, one, counted))
    head = ["method", "against", "of", "where", "difference, points", "95% interval, or items", "p", "n"]
    caption = (
        "Forgotten share of the method minus that of the baseline: below zero is better. By seed: paired t-test; by item: exact sign test"
    )
    return Table(caption, head, rows, "against") if rows else None


def frontier_table(entries: Sequence[Entry]) -> Table:
    """Of the trials of a method with the most finished seeds the means, at the end and at the levels, that none of its others beats."""
    rows: list[Row] = []
    for entry in entries:
        for kind, found in entry["frontier"].items():
            for index, point in enumerate(found):
                where = path(entry, "frontier", kind, index)
                cells = [Cell(percent(point[key]), point[key], "", f"{where}/{key}") for key in ("learned", "forgotten")]
                rows.append([entry["label"], kind, *cells, str(point["trial"])])
    return Table(
        "The frontier of each method, of trials with the most finished seeds",
        ["method", "of", "learned", "forgotten", "trial"],
        rows,
        "frontier",
    )


def problem_table(problems: Sequence[Mapping[str, Any]]) -> Table:
    """The runs that did not finish, and why."""
    rows = [[str(one["cell"]), str(one["status"]), str(one["reason"] or "")] for one in problems]
    return Table("Runs that did not finish", ["run", "", "reason"], rows)


_NAMES = {
    "learned": "learned", "learned_heldout": "learned, held out", "A": "forgotten, A", "B": "forgotten, B", "C": "forgotten, C",
    "seconds": "training time", "steps": "steps",
}  # fmt: skip
_KEYS = ("A", "B", "C", "seconds", "steps")


def _difference(entry: Entry, baseline: str, kind: str, what: str, where: str, one: Mapping[str, Any], spread: str) -> Row:
    p = Cell(NONE) if one["p"] is None else Cell(p_value(one["p"]).removeprefix("p = "), one["p"], "", f"{where}/p")
    gap = Cell(points(one["difference"]), one["difference"], "", f"{where}/difference")
    return [entry["label"], baseline, kind, what, gap, spread, p, str(one["n"])]


def _at(trial: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any] | None:
    found: Any = trial
    for key in keys:
        found = found[key]
    return found  # type: ignore[no-any-return]


def _mark(entry: Entry, trial: Mapping[str, Any]) -> str:
    chosen = entry["chosen"] and entry["chosen"]["trial"] == trial["trial"]
    return " (chosen)" if chosen else " (pruned)" if trial["pruned"] else ""


def _area(value: float) -> str:
    return f"{value:.3f}"
