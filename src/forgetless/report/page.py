"""The page: one HTML file with everything in it, that opens offline and asks nothing of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from forgetless.errors import InputError
from forgetless.files import write_text
from forgetless.report.charts import SHAPES, marker
from forgetless.report.figures import disagreements, figures, labels
from forgetless.report.layers import layer_grid
from forgetless.report.numbers import percent, plain
from forgetless.report.overview import card, figure_table
from forgetless.report.read_run import read_run
from forgetless.report.run import Run
from forgetless.report.verdict import verdict, verdict_sentences
from forgetless.report.views import (
    epoch_charts,
    epoch_table,
    frontier_charts,
    frontier_table,
    paired_table,
    settings_table,
    step_charts,
    step_tables,
)
from forgetless.report.watch_charts import watch_charts

__all__ = ["verdict_sentences", "write_report"]

_HERE = Path(__file__).parent
_IN_SCRIPT = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def write_report(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write the page on the run folders ``runs`` to the file ``out`` and return it.

    Raises:
        InputError: no folder is given, or one is no run folder.
    """
    if not runs:
        raise InputError("no run folder is given", where="runs", mend="Give at least one folder that `forgetless train` wrote")
    write_text(out, render([read_run(folder) for folder in runs], title=title))
    return out


def render(runs: Sequence[Run], *, title: str | None = None) -> str:
    """The page on ``runs`` as HTML."""
    names = labels(runs)
    found = [figures(run) for run in runs]
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"marker": marker, "shapes": SHAPES}
    scripts = {name: asset(f"{name}.js") for name in ("theme", "page")}
    steps = [*step_charts(runs, names), *watch_charts(runs, names)]
    grids = [layer_grid(index, names[index], run) for index, run in enumerate(runs)]
    html = environment.get_template("page.html.j2").render(
        title=title or f"{', '.join(names)}: what was learned, what was forgotten",
        policy=policy(scripts.values()),
        css=asset("page.css"),
        scripts=scripts,
        names=names,
        runs=runs,
        found=found,
        verdict=verdict(runs),
        warnings=_warnings(runs, names),
        table=figure_table(found),
        cards=[card(one) for one in found],
        models=list(dict.fromkeys(run.model for run in runs)),
        epochs=epoch_charts(runs, names),
        epoch_table=epoch_table(runs, names),
        frontier=frontier_charts(runs, names),
        frontier_table=frontier_table(runs, names),
        steps=steps,
        step_tables=step_tables(steps, names),
        paired=paired_table(runs, names),
        grids=[grid for grid in grids if grid is not None],
        percent=percent,
        differing=settings_table(runs, names, differing=True) if len(runs) > 1 else None,
        settings=settings_table(runs, names, differing=False),
        data=Markup(script_json(_items(runs, names))),
        item_count=sum(len(run.items) for run in runs),
    )
    return html.encode("utf-8", errors="replace").decode("utf-8")  # a lone surrogate in the data would stop the writing


def script_json(value: Any) -> str:
    """``value`` as JSON that is safe inside a script element: nothing in it can end the element or the line."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_IN_SCRIPT)


def asset(name: str) -> Markup:
    """A file of this folder, as it stands."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def policy(scripts: Any) -> str:
    """The content security policy of a page that runs these scripts and loads nothing."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()}'" for text in scripts)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; img-src data:; base-uri 'none'; form-action 'none'"


def _warnings(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    found = []
    for run, name in zip(runs, names, strict=True):
        found += [f"{name}: {note}" for note in (*run.notes, *disagreements(run))]
        found += [f"{name}, epoch {epoch.epoch}: {warning}" for epoch in run.epochs for warning in epoch.warnings]
        if run.summary is not None and run.summary.constraint_violation:
            found.append(
                f"{name}: a weight said to be frozen moved by {plain(run.summary.constraint_violation)}. Do not rely on its protection."
            )
    return found


def _items(runs: Sequence[Run], names: Sequence[str]) -> Mapping[str, Any]:
    """The items for the script: one entry a question, with the outcome in each run that has it."""
    splits: dict[str, int] = {}
    entries: dict[tuple[str, str, str, str], list[Any]] = {}
    for index, run in enumerate(runs):
        for item in run.items:
            split = splits.setdefault(item.split, len(splits))
            key = (item.split, item.id, item.prompt, item.answer)
            entry = entries.setdefault(key, [split, item.id, item.subject, item.prompt, item.answer, []])
            entry[5].append([index, int(item.before), int(item.after), item.said_before, item.said_after])
    return {"runs": list(names), "splits": list(splits), "items": list(entries.values())}
