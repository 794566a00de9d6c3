"""The page of an evaluation: the parts of a suite (or one question file), one model or two, and every question."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetless.errors import InputError
from forgetless.files import write_text
from forgetless.report.charts import Chart
from forgetless.report.frame import render_page, script_json
from forgetless.report.items import Asked, ItemView, Outcome, item_view
from forgetless.report.suite_charts import SIDES, group_charts, part_chart, position_charts
from forgetless.report.suite_tables import (
    crossing_table,
    family_table,
    gate_table,
    group_grid,
    group_table,
    judge_table,
    other_table,
    part_table,
)
from forgetless.report.suite_words import Words, words

Report = Mapping[str, Any]
_MEND = "Give the JSON file that `forgetless eval` wrote"


def write_suite_page(path: Path, out: Path, *, title: str | None = None) -> Path:
    """Write the page on the evaluation ``path`` (what ``forgetless eval`` wrote) to the file ``out`` and return it.

    Raises:
        InputError: it is no such file.
    """
    write_text(out, render(read_evaluation(path), title=title, where=str(path)))
    return out


def is_evaluation(path: Path) -> bool:
    """Whether ``path`` is a JSON file with the form of an evaluation."""
    try:
        found = json.loads(path.read_text("utf-8")) if path.is_file() else None
    except ValueError:  # not JSON, so not an evaluation; what it is else, is for others to say
        return False
    return isinstance(found, dict) and ("parts" in found or "models" in found)


def read_evaluation(path: Path) -> dict[str, Any]:
    """The content of the file, one question file as a suite of one part.

    Raises:
        InputError: it is no evaluation.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"it holds no evaluation ({error})", where=str(path), mend=_MEND) from error
    if not isinstance(found, dict) or not ("parts" in found or "models" in found):
        raise InputError("it is no evaluation", where=str(path), mend=_MEND)
    if "parts" in found:
        return found
    models = found["models"]
    name = Path(str(found.get("data", "questions"))).name
    return {
        "suite": name,
        "model": models[0]["model"] if models else "",
        "after": models[1]["model"] if len(models) > 1 else None,
        "parts": [{"name": name, **found}],
        **({"gate": found["gate"]} if "gate" in found else {}),
    }


def render(report: Report, *, title: str | None = None, where: str = "eval.json") -> str:
    """The page as HTML.

    Raises:
        InputError: something that every evaluation has is missing; ``where`` is named.
    """
    try:
        two = report.get("after") is not None
        items, positions, grid = items_of(report), position_charts(report), group_grid(report)
        families, judge, crossing, others = family_table(report), judge_table(report), crossing_table(report), other_table(report)
        groups, told, gate = group_charts(report), words(report), gate_table(report)
        parts: list[tuple[str, str, object]] = [
            ("gate", "Gate", gate),
            ("parts", "Parts", True),
            ("groups", "Groups", grid),
            ("positions", "KL by position", positions),
            ("more", "More", families or judge or crossing or others),
            ("items", "Items", items.count),
        ]
        return render_page(
            "suite.html.j2",
            title=title or f"{report['suite']}: {report['model']}" + (f" against {report['after']}" if two else ""),
            sections=[(id, name) for id, name, there in parts if there],
            scripts=["items.js"],
            report=report,
            two=two,
            sides=SIDES if two else SIDES[:1],
            verdict=told,
            gate=gate,
            chart=part_chart(report),
            table=part_table(report),
            groups=groups,
            grid=grid,
            grouped=group_table(report),
            positions=positions,
            tables=[table for table in (others, crossing, families, judge) if table],
            items=items,
            data=script_json(items.data),
        )
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        what = f"it does not fit the format of an evaluation ({type(error).__name__}: {error})"
        raise InputError(what, where=where, mend="Make it again with `forgetless eval`") from error


def suite_charts(report: Report) -> list[tuple[Chart, Sequence[str]]]:
    """Every chart of the page, each with the names of its series."""
    first = part_chart(report)
    own = [*([first] if first else []), *group_charts(report)]
    return [(chart, SIDES) for chart in own] + [(chart, names) for chart, names in position_charts(report)]


def items_of(report: Report) -> ItemView:
    """The questions of all parts; those with neither right nor wrong are left out."""
    two = report.get("after") is not None
    asked = []
    for part in report["parts"]:
        for item in part.get("items", ()):
            right = [item.get(key) for key in (("right_before", "right_after") if two else ("right", "right"))]
            if any(value is None for value in right):
                continue
            said = [item.get(key) for key in (("said_before", "said_after") if two else ("said", "said"))]
            outcome = Outcome(0, bool(right[0]), bool(right[1]), *(None if text is None else str(text) for text in said))
            subject, lang = (None if item.get(key) is None else str(item[key]) for key in ("subject", "lang"))
            answer = str(item.get("answer") or "")
            asked.append(Asked(str(part["name"]), str(item["id"]), subject, lang, str(item["prompt"]), answer, (outcome,)))
    return item_view(asked, [str(report["after"] or report["model"])], [0], what="part", single=not two)


__all__ = ["Words", "is_evaluation", "read_evaluation", "render", "suite_charts", "write_suite_page"]
