"""The entry point ``forgetless``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from forgetless.cli.compare import compare
from forgetless.cli.demo import demo
from forgetless.cli.diagnose import diagnose
from forgetless.cli.evaluate import evaluate
from forgetless.cli.methods import methods
from forgetless.cli.options import Verbs, run
from forgetless.cli.report import report
from forgetless.cli.split import split
from forgetless.cli.stream import stream
from forgetless.cli.train import train

app = typer.Typer(
    cls=Verbs,
    name="forgetless",
    help="Fine-tune without forgetting, and prove it: what was learned, what was forgotten, item by item.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"forgetless {version('forgetless')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)] = False,
) -> None:
    pass


_VERBS: tuple[tuple[str, Callable[..., None], str], ...] = (
    ("demo", demo, "A real model learns real facts, plainly and protected."),
    ("split", split, "What a model knows and what it does not, each in halves."),
    ("diagnose", diagnose, "Before training: what would be forgotten, and why."),
    ("train", train, "Fine-tune while keeping what is known; write a run folder."),
    ("compare", compare, "Methods against each other, tuned alike, at equal learning."),
    ("eval", evaluate, "Score one model, or compare two item by item."),
    ("stream", stream, "One task after another: the accuracy matrix."),
    ("report", report, "One HTML page about runs; it opens offline."),
    ("methods", methods, "Every method with its cost and its need for old data."),
)
for _name, _verb, _short in _VERBS:
    app.command(_name, short_help=_short)(_verb)


def main() -> None:
    """Run the command line; exits 0 ok, 1 failed run, 2 wrong input."""
    sys.exit(run(app))
