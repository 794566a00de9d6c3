"""``forgetless report``: one page from run folders, of ``train``, of ``stream`` or of ``diagnose``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetless.cli.options import Config, Debug, Json, answer


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", metavar="RUN [RUN ...]")],
    out: Annotated[Path, typer.Option("--out", help="HTML file to write.")],
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page about one or more runs; it opens offline."""
    from forgetless.files import check_writable
    from forgetless.report.diagnosis_page import is_diagnosis, write_diagnosis_page
    from forgetless.report.page import write_report
    from forgetless.report.stream_page import is_stream_run, write_stream_report

    check_writable(out, folder=False)
    if len(runs) == 1 and is_diagnosis(runs[0]):
        write_diagnosis_page(runs[0], out, title=title)
        answer({"out": str(out), "runs": [str(runs[0])]}, str(out), as_json=as_json)
        return
    write = write_stream_report if runs and all(is_stream_run(run) for run in runs) else write_report
    write(runs, out, title=title)
    answer({"out": str(out), "runs": [str(run) for run in runs]}, str(out), as_json=as_json)
