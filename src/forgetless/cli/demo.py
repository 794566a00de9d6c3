"""``forgetless demo``: the main job on the embedded default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetless.cli.options import Config, Debug, Json, answer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder of the demo; one that was interrupted goes on.")] = Path("forgetless-demo"),
    fast: Annotated[bool, typer.Option("--fast", help="A small version, in about two minutes.")] = False,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the report in the browser where there is a screen.")] = True,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """A real 135M model learns real airport codes, by plain fine-tuning, with replay and by CPL; an honest page shows the outcome."""
    from forgetless.demo.plan import FAST, FULL
    from forgetless.demo.run import run_demo

    found = run_demo(FAST if fast else FULL, out, show=not as_json, say=(lambda line: None) if as_json else typer.echo)
    answer(found, f"\nThe report: {found['report']}", as_json=as_json)
    if browser and not as_json:
        typer.launch(found["report"])
