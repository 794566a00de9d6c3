"""What ``forgetless report`` is given: runs, streams, a diagnosis, a comparison or an evaluation; each has a page and charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from forgetless.errors import InputError
from forgetless.report import comparison_page, diagnosis_page, page, stream_page, suite_page
from forgetless.report.card import sections
from forgetless.report.charts import Chart

Charts = list[tuple[Chart, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Subject:
    """What a page is about.

    Attributes:
        render: the page as HTML, under a title or its own.
        charts: every chart of the page, each with the names of its series.
        card: the section of a model card; None where there is none.
        out: where the page goes if nobody says.
    """

    render: Callable[[str | None], str]
    charts: Callable[[], Charts]
    card: Callable[[], str] | None
    out: Path


def read_subject(paths: Sequence[Path]) -> Subject:
    """What ``paths`` hold: run folders, or folders of streams, or one diagnosis, comparison or evaluation.

    Raises:
        InputError: they hold none of these, or several kinds at once.
    """
    if not paths:
        raise InputError("nothing is given", where="report", mend="Give run folders, or the folder of a comparison, or an eval.json")
    first = paths[0]
    alone = {
        "a comparison": comparison_page.is_comparison,
        "a diagnosis": lambda path: diagnosis_page.is_diagnosis(path) or path.name == "diagnosis.json",
        "an evaluation": suite_page.is_evaluation,
    }
    kind = next((name for name, holds in alone.items() for path in paths if holds(path)), None)
    if kind is not None and len(paths) > 1:
        raise InputError(f"{kind} is given beside something else", where="report", mend="Make a page for each")
    if kind == "a comparison":
        report = comparison_page.read_comparison(first)
        return Subject(
            lambda title: comparison_page.render(report, title=title, where=str(first)),
            lambda: comparison_page.comparison_charts(report),
            None,
            _beside(first),
        )
    if kind == "a diagnosis":
        found = diagnosis_page.read_diagnosis(first)
        return Subject(
            lambda title: diagnosis_page.render(found, title=title), lambda: diagnosis_page.all_charts(found), None, _beside(first)
        )
    if kind == "an evaluation":
        evaluation = suite_page.read_evaluation(first)
        return Subject(
            lambda title: suite_page.render(evaluation, title=title, where=str(first)),
            lambda: suite_page.suite_charts(evaluation),
            None,
            first.with_suffix(".html"),
        )
    if all(stream_page.is_stream_run(path) for path in paths):
        streams = stream_page.read_stream_runs(paths)
        return Subject(
            lambda title: stream_page.render(streams, title=title), lambda: stream_page.stream_charts(streams), None, _together(paths)
        )
    runs = page.read_runs(paths)
    return Subject(lambda title: page.render(runs, title=title), lambda: page.run_charts(runs), lambda: sections(paths), _together(paths))


def _beside(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / "report.html"


def _together(paths: Sequence[Path]) -> Path:
    return paths[0] / "report.html" if len(paths) == 1 else Path("report.html")
