"""The tables of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.report.numbers import NONE, p_value, percent, plain, points
from forgetless.report.suite_words import RATES, rows
from forgetless.report.tables import Cell, Table

Part = Mapping[str, Any]
Row = Sequence[str | Cell]


def part_table(report: Mapping[str, Any]) -> Table:
    """A row for each part: both models, what was learned and forgotten, the test."""
    two = report.get("after") is not None
    return Table(_caption(two), _head("part", two), [_row(name, name, part, two) for name, part in rows(report)], "parts")


def group_table(report: Mapping[str, Any]) -> Table | None:
    """The same for every group of a part that has some."""
    two = report.get("after") is not None
    found: list[Row] = []
    for name, part in rows(report):
        found += [_row(f"{name}: {value}", f"{name}/groups/{value}", group, two) for value, group in part.get("groups", {}).items()]
    return Table(f"Every group. {_caption(two)}", _head("part and group", two), found, "group-rows") if found else None


def _head(first: str, two: bool) -> list[str]:
    return [first, "questions", "scorer", *(("before", "after", "learned", "forgotten", "difference, points", "p") if two else ("right",))]


def _caption(two: bool) -> str:
    more = "; differences with 95% bootstrap intervals over questions; p: exact McNemar, each row alone"
    return "Shares with exact 95% intervals" + (more if two else "")


def _row(name: str, path: str, part: Part, two: bool) -> Row:
    levels = [level_cell(model, f"{path}/models/{index}") for index, model in enumerate(part["models"])]
    cells: list[str | Cell] = [name, str(part["n"]), str(part.get("scorer", "")) + _as(part), *levels]
    if not two:
        return cells
    if paired := part.get("paired"):
        cells += [Cell(str(paired[key]), paired[key], "", f"{path}/paired/{key}") for key in ("learned", "forgotten")]
        spread = f"{points(paired['low'])} to {points(paired['high'])}"
        cells.append(Cell(points(paired["difference"]), paired["difference"], spread, f"{path}/paired/difference"))
        return [*cells, Cell(p_value(paired["p_value"]).removeprefix("p = "), paired["p_value"], "", f"{path}/paired/p_value")]
    key = "log_perplexity_change" if "log_perplexity_change" in part else "change"
    moved = part.get(key)
    change = (
        Cell(plain(moved["mean"]), moved["mean"], f"{plain(moved['low'])} to {plain(moved['high'])}", f"{path}/{key}/mean")
        if moved
        else NONE
    )
    return [*cells, NONE, NONE, change, NONE]


def _as(part: Part) -> str:
    said = RATES.get(str(part.get("scorer")))
    return f" ({said})" if said else ""


def level_cell(model: Part, path: str) -> Cell:
    """One model on one part: its share, drawn, or its perplexity or another mean."""
    if "accuracy" in model:
        share, low, high = model["accuracy"], model["low"], model["high"]
        tone = "learned" if path.endswith("1") else "cost"
        return Cell(percent(share), share, f"{percent(low)} to {percent(high)}", f"{path}/accuracy", tone, share, (low, high))
    key = "perplexity" if "perplexity" in model else "mean"
    if model.get(key) is None:
        return Cell(NONE)
    return Cell(plain(model[key]), model[key], f"{plain(model['low'])} to {plain(model['high'])}", f"{path}/{key}")


def group_grid(report: Mapping[str, Any]) -> Table | None:
    """Languages or subjects down, parts across: the share right after (or of the one model), shaded, with that before."""
    parts = [part for part in report["parts"] if part.get("groups")]
    names = list(dict.fromkeys(value for part in parts for value in part["groups"]))
    if not names:
        return None
    found: list[Row] = []
    for value in names:
        cells: list[str | Cell] = [value]
        for part in parts:
            group = part["groups"].get(value)
            if group is None:
                cells.append(Cell(NONE))
                continue
            models = group["models"]
            before = f"before {percent(models[0]['accuracy'])}" if len(models) > 1 else ""
            path = f"{part['name']}/groups/{value}/models/{len(models) - 1}/accuracy"
            cells.append(Cell(percent(models[-1]["accuracy"]), models[-1]["accuracy"], before, path, at=models[-1]["accuracy"]))
        found.append(cells)
    return Table("Share by group: the darker, the higher", ["group", *(str(part["name"]) for part in parts)], found, "grid")


def other_table(report: Mapping[str, Any]) -> Table | None:
    """Token F1, checks passed, drift, where they were measured."""
    found: list[Row] = []
    for name, part in rows(report):
        for key, what in (("f1", "token F1"), ("checks", "checks passed")):
            levels = [model[key] for model in part["models"] if key in model]
            if levels:
                change = part.get(f"{key}_change")
                shown = [_mean(level, f"{name}/models/{index}/{key}/mean") for index, level in enumerate(levels)]
                found.append([name, what, shown[0], shown[1] if len(shown) > 1 else NONE, _mean(change, f"{name}/{key}_change/mean")])
        if kl := part.get("kl"):
            found.append([name, "KL(before || after), nats a token", NONE, NONE, _mean(kl, f"{name}/kl/mean")])
    head = ["part", "measure", "before", "after", "change"]
    return Table("Other measures, with 95% bootstrap intervals", head, found, "other") if found else None


def crossing_table(report: Mapping[str, Any]) -> Table | None:
    """Does what changed in the language of training change in the others?"""
    found: list[Row] = []
    for part in report["parts"]:
        for lang, both in part.get("crossing", {}).items():
            for what, one in both.items():
                shares = [f"{one[key]['count']} of {one[key]['n']}" for key in ("with_source", "without_source")]
                p = NONE if one["p_value"] is None else p_value(one["p_value"]).removeprefix("p = ")
                found.append([str(part["name"]), lang, what, *shares, p])
    head = ["part", "language", "facts", "of those also so in the language of training", "of the others", "Fisher's exact p"]
    return Table("What crosses from the language of training into the others", head, found, "crossing") if found else None


def family_table(report: Mapping[str, Any]) -> Table | None:
    """Questions asked in several ways: right in all, in any."""
    found: list[Row] = []
    for family, own in report.get("families", {}).items():
        for key in ("right", "right_before", "right_after"):
            if key in own:
                cells = [level_cell(own[key][which], f"families/{family}/{key}/{which}") for which in ("in_all", "in_any")]
                found.append([f"{family}, {len(own['parts'])} ways", str(own["n"]), key.replace("_", " "), *cells])
    head = ["family", "questions", "", "right in all ways", "right in any"]
    return Table("The same questions asked in several ways", head, found, "families") if found else None


def judge_table(report: Mapping[str, Any]) -> Table | None:
    """How the judge of refusals agrees with people."""
    judge = report.get("judge")
    if not judge:
        return None
    found: list[Row] = []
    for key, what in (("all", "all answers"), ("without_answers_to_another_question", "without answers to another question")):
        if own := judge.get(key):
            kappa = NONE if own["kappa"] is None else f"{own['kappa']:.2f}"
            missed, false = f"{own['missed']} of {own['refusals']}", f"{own['false_alarms']} of {own['answers']}"
            level = level_cell({**own, "accuracy": own["agreement"]}, f"judge/{key}")
            found.append([what, f"{own['right']} of {own['n']}", level, kappa, missed, false])
    head = ["labelled by people", "agrees on", "agreement", "kappa", "refusals missed", "false alarms"]
    return Table(f"How far the judge of refusals can be trusted: {judge['labels']}", head, found, "judge")


def gate_table(report: Mapping[str, Any]) -> Table | None:
    """What the gate asked for and how it stood; None where there was none."""
    gate = report.get("gate")
    if not gate:
        return None
    found: list[Row] = []
    for index, one in enumerate(gate["criteria"]):
        path = f"gate/criteria/{index}"
        share = Cell(NONE) if one["share"] is None else Cell(percent(one["share"]), one["share"], "", f"{path}/share")
        bound = Cell(NONE) if one["bound"] is None else Cell(percent(one["bound"]), one["bound"], "", f"{path}/bound")
        limit = Cell(percent(one["limit"]), one["limit"], "", f"{path}/limit")
        found.append([one["kind"], one["part"], one["status"], f"{one['count']} of {one['of']}", share, bound, limit, str(one["why"])])
    found += [["not gated", one["part"], "", "", "", "", "", one["why"]] for one in gate["not_gated"]]
    head = ["criterion", "part", "", "items", "share", "bound", "limit", "why"]
    confidence = f", with bounds that hold at {percent(gate['confidence'])}" if gate.get("confidence") is not None else ""
    return Table(f"What the gate asked for{confidence}", head, found, "gate")


def _mean(found: Mapping[str, Any] | None, path: str) -> Cell:
    if not found:
        return Cell(NONE)
    return Cell(plain(found["mean"]), found["mean"], f"{plain(found['low'])} to {plain(found['high'])}", path)
