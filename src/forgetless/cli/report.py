"""``forgetless report``: one page from runs of ``train`` or ``stream``, or from a diagnosis, a comparison or an evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetless.cli.options import Config, Debug, Json, answer
from forgetless.errors import InputError


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders; or one folder of diagnose or compare; or one JSON file of eval.", metavar="RUN [RUN ...]"),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="HTML file to write; left out: report.html in the folder given.")] = None,
    title: Annotated[str | None, typer.Option("--title", help="Heading of the page.")] = None,
    svg: Annotated[Path | None, typer.Option("--svg", help="Folder for every chart as an SVG file.")] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Folder for every chart as a PNG file (needs matplotlib).")] = None,
    md: Annotated[Path | None, typer.Option("--md", help="Markdown file for a section of a model card, from run folders.")] = None,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write one HTML page that opens offline; on request its charts and a section of a model card as files."""
    from forgetless.files import check_writable, write_text
    from forgetless.report.export import check_plots, write_figures
    from forgetless.report.subject import read_subject

    if png is not None:
        check_plots()
    for path, folder in ((out, False), (md, False), (svg, True), (png, True)):
        if path is not None:
            check_writable(path, folder=folder)
    subject = read_subject(runs)
    if md is not None and subject.card is None:
        raise InputError("a section of a model card is made from run folders of train", where="--md", mend="Leave it out here")
    target = subject.out if out is None else out
    check_writable(target, folder=False)
    page = subject.render(title)
    card = subject.card() if md is not None and subject.card is not None else None
    written = {
        kind: [str(file) for file in write_figures(subject.charts(), folder, kind=kind)]
        for kind, folder in (("svg", svg), ("png", png))
        if folder
    }
    if md is not None and card is not None:
        write_text(md, card)
    write_text(target, page)
    told = {"out": str(target), "runs": [str(run) for run in runs], **written, **({"md": str(md)} if md is not None else {})}
    lines = [str(target), *(file for files in written.values() for file in files), *([str(md)] if md is not None else [])]
    answer(told, "\n".join(lines), as_json=as_json)
