"""One display for the whole grid: cells done, what runs, and the time left."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from forgetless.comparison.cells import Cell
from forgetless.comparison.worker import Job

TAIL = 8192
"""Bytes at the end of a file of metrics in which its last line stands."""


class Grid:
    """A bar on a terminal; elsewhere a line for every cell that ends. On standard error, so that ``--json`` stays clean.

    Args:
        total: cells.
        show: False shows nothing.
    """

    def __init__(self, total: int, *, show: bool) -> None:
        from rich.console import Console

        self.total, self.show = total, show
        self._at_start = 0
        self._shares: dict[str, float] = {}
        self._settled: set[str] = set()
        self._began: float | None = None
        self._steps: dict[str, tuple[float, float]] = {}
        self._console = Console(stderr=True)
        self._progress: Any = None

    def __enter__(self) -> Grid:
        if self.show and self._console.is_terminal:
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                TextColumn("{task.fields[done]} cells"),
                BarColumn(bar_width=24),
                TimeElapsedColumn(),
                TextColumn("eta {task.fields[eta]}"),
                TextColumn("[dim]{task.fields[note]}", markup=True),
            )
            self._progress = Progress(*columns, console=self._console)
            self._task = self._progress.add_task("", total=self.total, done=f"0/{self.total}", eta="-", note="")
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def done(self) -> int:
        """Cells that have ended."""
        return len(self._settled)

    def note(self, text: str) -> None:
        """Say what is being done."""
        if self._progress is not None:
            self._progress.update(self._task, note=text)
        elif self.show:
            print(text, file=sys.stderr)

    def settled(self, cell: Cell, row: dict[str, Any]) -> None:
        """A cell has ended, now or in an earlier call."""
        self._settled.add(cell.id)
        self._shares.pop(cell.id, None)
        if self._began is None:
            self._at_start = self.done
        text = f"{cell.id}: {outcome(row)}"
        if self._progress is not None:
            self._show(text)
        elif self.show and self._began is not None:
            print(f"[{self.done}/{self.total}] {text}; {self.eta()} left", file=sys.stderr)

    def running(self, jobs: Sequence[Job]) -> None:
        """Look how far the running jobs are."""
        if self._began is None:
            self._began = time.monotonic()
        self._shares = {job.name: self._share(job) for job in jobs}
        if self._progress is not None:
            self._show(", ".join(f"{name} {share:.0%}" for name, share in self._shares.items()))

    def eta(self) -> str:
        """The time left, at the speed so far."""
        now = self.done + sum(self._shares.values())
        gone, left = now - self._at_start, self.total - now
        if self._began is None or gone <= 0:
            return "-"
        seconds = round((time.monotonic() - self._began) / gone * left)
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _show(self, text: str) -> None:
        told = {"done": f"{self.done}/{self.total}", "eta": self.eta(), "note": text.replace("[", "\\[")}
        self._progress.update(self._task, completed=self.done + sum(self._shares.values()), **told)

    def _share(self, job: Job) -> float:
        """How much of its planned steps a training has done."""
        metrics = job.out / "metrics.jsonl"
        if not job.steps:
            return 0.0
        try:
            changed = metrics.stat().st_mtime
            if self._steps.get(job.name, (0.0, 0.0))[0] != changed:
                self._steps[job.name] = (changed, _last_step(metrics) / job.steps)
        except (OSError, ValueError):  # not there yet, or written at this moment
            return 0.0
        return self._steps[job.name][1]


def _last_step(metrics: Path) -> int:
    with open(metrics, "rb") as file:
        file.seek(max(0, metrics.stat().st_size - TAIL))
        lines = file.read().split(b"\n")
    return int(json.loads(lines[-2])["step"]) if len(lines) > 1 else 0


def outcome(row: dict[str, Any]) -> str:
    """How a cell ended, in a few words."""
    if row["status"] != "finished":
        return f"{row['status']} ({row['reason']})"
    table = row["trajectory"][-1]["splits"]
    unknown = table["inject"]["total"] - table["inject"]["right_before"]
    kept = {name: found for name, found in table.items() if not name.startswith("inject")}
    lost = ", ".join(f"{found['forgotten']} of {found['right_before']} {name}" for name, found in kept.items())
    return f"learned {table['inject']['learned']} of {unknown}" + (f", forgot {lost}" if lost else "")
