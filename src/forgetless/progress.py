"""Progress bars with an estimate of the time left, on standard error so that ``--json`` output stays clean."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the number of units done since the last call, and an optional note to show."""

    def __call__(self, done: int, note: str = "", /) -> None: ...


def silent(done: int, note: str = "", /) -> None:
    """An `Advance` that shows nothing."""


def note(text: str, *, show: bool = True) -> None:
    """A line for people on standard error."""
    if show:
        print(text, file=sys.stderr)


@contextmanager
def bar(title: str, total: int | None, *, show: bool = True) -> Iterator[Advance]:
    """Show a bar with the share done, the speed and the time left; yields the `Advance` to call.

    On a terminal the bar is redrawn in place; elsewhere (a log file, CI) one line is printed once all is done.
    """
    if not show:
        yield silent
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield from _one_line(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=total, note="")

        def advance(done: int, note: str = "", /) -> None:
            if note:
                progress.update(task, note=note)
            progress.advance(task, done)

        yield advance


def _one_line(title: str) -> Iterator[Advance]:
    began, count, last = time.perf_counter(), 0, ""

    def advance(done: int, note: str = "", /) -> None:
        nonlocal count, last
        count, last = count + done, note or last

    yield advance
    print(f"{title}: {count} in {time.perf_counter() - began:.0f} s{', ' + last if last else ''}", file=sys.stderr)
