"""The charts of a page as files of their own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from forgetless.errors import InputError
from forgetless.report.charts import Chart
from forgetless.report.vector import write_svg


def check_plots(where: str = "--png") -> None:
    """Raise `InputError` where matplotlib, which draws PNG files, is not installed."""
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError("the package matplotlib is missing", where=where, mend="Run: pip install 'forgetless[plots]'")


def write_figures(charts: Sequence[tuple[Chart, Sequence[str]]], folder: Path, *, kind: str) -> list[Path]:
    """Write every chart, given with the names of its series, into ``folder`` as a file called after its id.

    Args:
        charts: from a page.
        folder: made where it is missing.
        kind: ``svg``, or ``png`` (needs matplotlib).

    Raises:
        InputError: matplotlib is missing for ``png``.
    """
    if kind == "png":
        check_plots()
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for chart, names in charts:
        stem = re.sub(r"[^\w.-]+", "_", chart.id).strip("._")[:80] or "chart"
        file = folder / f"{stem}.{kind}"
        count = 2
        while file in written:
            file, count = folder / f"{stem}-{count}.{kind}", count + 1
        if kind == "png":
            from forgetless.report.plots import write_png

            write_png(chart, names, file)
        else:
            write_svg(chart, names, file)
        written.append(file)
    return written
