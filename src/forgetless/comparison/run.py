"""A comparison from its plan to ``comparison.json``."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from forgetless.comparison.cells import Cell, cells_of, settings_of
from forgetless.comparison.inputs import Ready, check_items, kinds, read
from forgetless.comparison.plan import Plan
from forgetless.comparison.pool import Pool, run_jobs
from forgetless.comparison.progress import Grid
from forgetless.comparison.prune import behind, check_optuna, groups, judge
from forgetless.comparison.result import curve
from forgetless.comparison.study import Row, Study, items_of
from forgetless.comparison.summary import candidate, summarize
from forgetless.comparison.worker import DONE, REFUSED, Job, tidy
from forgetless.core.method import Method
from forgetless.errors import ForgetlessError, InputError
from forgetless.files import write_json
from forgetless.train.provenance import fingerprint, provenance
from forgetless.train.settings import Settings

JUDGED_EVERY = 1.0
"""Seconds between two looks at running trials that may be stopped."""


def compare(
    plan: Plan,
    out: Path,
    pool: Callable[[Path], Pool],
    known: Mapping[str, type[Method]],
    *,
    command: str,
    prune: bool = False,
    show: bool = True,
) -> dict[str, Any]:
    """Train every cell of ``plan`` that has no result yet; leave the figures in ``out``.

    Killed at any moment, the same call goes on: cells that have ended are not run again, one that was under way resumes.

    Args:
        plan: what to compare.
        out: the folder of the comparison.
        pool: makes what does the jobs, once all input is known to be right; given the file for what it has to say.
        known: methods by name.
        command: how to do it again, for the record.
        prune: stop hopeless trials early (`forgetless.comparison.prune`).
        show: show progress.

    Returns:
        The content of ``comparison.json``.

    Raises:
        InputError: the plan, a file of it or the folder is wrong; nothing is left behind then.
        ForgetlessError: the model could not be scored.
    """
    cells = cells_of(plan, known)
    if prune:
        check_optuna()
    study = Study(out)
    study.open()
    try:
        with Grid(len(cells), show=show) as grid:
            return _Comparison(plan, cells, study, pool, known, grid, prune).go(command)
    except InputError:
        study.take_back()
        raise
    finally:
        study.close()


class _Comparison:
    def __init__(
        self,
        plan: Plan,
        cells: Sequence[Cell],
        study: Study,
        pool: Callable[[Path], Pool],
        known: Mapping[str, type[Method]],
        grid: Grid,
        prune: bool,
    ) -> None:
        self.plan, self.cells, self.study, self.known, self.grid = plan, cells, study, known, grid
        self.groups = groups(cells) if prune else []
        self._make_pool = pool
        self._pool: Pool | None = None
        self.ready: dict[str, Ready] = {}
        self.items: dict[str, Any] = {}
        self.rows: dict[str, Row] = {}
        self.costs: dict[str, Row] = {}
        self._judged = 0.0

    def go(self, command: str) -> dict[str, Any]:
        self._read()  # before anything is made, so that what is wrong is told at once
        self._questions()
        self._read()
        origin = provenance()
        files = {
            questions: {name: {"path": file, "sha256": fingerprint(file)} for name, file in ready.files.items()}
            for questions, ready in self.ready.items()
        }
        self.study.settle_plan(self.plan, self.cells, files, origin)
        self._score()
        self.study.write_plan()  # only now: with data that are refused, neither the old plan nor a mended one could go on
        write_json(self.study.path / "items.json", self.items)
        for cell in self.cells:
            self.study.forgive(cell)  # what failed is tried again, and what was stopped is judged again
            self._take(cell)
        self._write()
        self._train()
        self._write()  # where nothing was left to train, what was stopped stands there too
        head = {"format": 1, "title": self.plan.title, "command": command, "commit": origin["git"], "versions": origin["versions"]}
        plain = self.plan.model_dump(mode="json")
        head |= {key: plain[key] for key in ("model", "scorer", "template", "budget", "levels", "seeds", "validation")}
        head["commits"] = sorted({cost["commit"] for cost in self.costs.values() if cost["commit"]})
        head |= {"baselines": self.plan.compared_with, "splits": kinds(self.ready)}
        rows = [self.rows[cell.id] for cell in self.cells if cell.id in self.rows]
        found = summarize(head, rows, list(self.costs.values()), self.items)
        write_json(self.study.path / "comparison.json", found)
        return found

    def _read(self) -> None:
        """Read and check the data sets whose questions are there."""
        found = {}
        for name, cells in self._sharing().items():
            ready = self.ready.get(name) or read(self.plan, cells[0].data, cells, self.study.path, self.known)
            if ready is not None:
                found[name] = ready
        self.ready = found

    def _questions(self) -> None:
        """Make the questions of data sets that are built in."""
        jobs = []
        for data, one in self.plan.data.items():
            folder = self.study.path / "questions" / data
            if one.builtin is not None and not (folder / "questions.json").is_file():
                jobs.append(Job(data, "questions", folder, self._log(f"questions-{data}"), None, None, threads=self.plan.threads))
        self._all(jobs, "making questions")

    def _name(self, cell: Cell) -> str:
        return self.plan.questions(cell.data, cell.seed)

    def _sharing(self) -> dict[str, list[Cell]]:
        """Cells by the questions that they share."""
        found: dict[str, list[Cell]] = {}
        for cell in self.cells:
            found.setdefault(self._name(cell), []).append(cell)
        return found

    def _score(self) -> None:
        """Score all questions before training, once for all cells that share them."""
        jobs, stamp = [], self.study.stamp()
        for name, cells in self._sharing().items():
            if not self.study.before(name).is_file():
                job = Job(name, "score", self.study.before(name), self._log(f"score-{name}"), stamp, self._settings(cells[0]))
                jobs.append(job)
        self._all(jobs, "scoring before training")
        for name, cells in self._sharing().items():
            before, by_seed = self.study.scores(name), self.plan.data[cells[0].data].by_seed
            self.items[name] = items_of(self.ready[name].splits, before, self.plan.validation, by_seed=by_seed)
            try:
                check_items(name, self.items[name], choosing=self.plan.validation > 0)
            except InputError:
                self.study.forget_scores()
                raise

    def _settings(self, cell: Cell) -> Settings:
        ready = self.ready[self._name(cell)]
        return settings_of(cell, self.plan, ready.files, len(ready.splits["inject"]))

    def _log(self, name: str) -> Path:
        return self.study.path / "logs" / f"{name}.log"

    def _all(self, jobs: Sequence[Job], title: str) -> None:
        """Do jobs of which each must succeed."""
        if not jobs:
            return
        self.grid.note(title)
        with closing(run_jobs(self._workers(), jobs, lambda _: [])) as ended:
            for job, outcome in ended:
                if outcome.status == REFUSED:
                    raise InputError(outcome.reason, where=f"data {job.name}")
                if outcome.status != DONE:
                    raise ForgetlessError(f"{title}, data {job.name}: {outcome.reason}")

    def _workers(self) -> Pool:
        if self._pool is None:
            self._pool = self._make_pool(self._log("pool"))
        return self._pool

    def _job(self, cell: Cell, stamp: tuple[Path, str]) -> Job:
        settings, items = self._settings(cell), len(self.ready[self._name(cell)].splits["inject"])
        return Job(
            cell.id,
            "train",
            self.study.cell(cell),
            self._log(cell.id),
            stamp,
            settings,
            before=self.study.before(self._name(cell)),
            threads=self.plan.threads,
            steps=settings.planned(-(-items // self.plan.batch_size)),
            keep_model=self.plan.keep_models,
        )

    def _take(self, cell: Cell) -> None:
        """Read what there is of a cell."""
        row, cost = self.study.row(cell, self.items[self._name(cell)])
        if row is not None:
            self.rows[cell.id] = row
            self.grid.settled(cell, row)
        if cost is not None:
            self.costs[cell.id] = cost
            tidy(self.study.cell(cell), keep_model=self.plan.keep_models)

    def _write(self) -> None:
        order = [cell.id for cell in self.cells]
        self.study.write([self.rows[one] for one in order if one in self.rows], [self.costs[one] for one in order if one in self.costs])

    def _train(self) -> None:
        """Train what has no result yet; with pruning first one seed of every trial, then the other seeds of those that are left."""
        first = [cell for group in self.groups for cell in group]
        self._run(first)
        out = {_trial(one): f"its trial was stopped at seed {one.seed}" for one in first if self.rows[one.id]["status"] == "pruned"}
        for group in self.groups:
            ended = [cell for cell in group if self.rows[cell.id]["status"] == "finished"]
            worse = behind([candidate([self.rows[cell.id]], self.costs, self.items, self.plan.levels) for cell in ended])
            out |= {_trial(one): f"its trial was in the worse half at the end of seed {one.seed}" for one in ended if one.trial in worse}
        rest = [cell for cell in self.cells if cell not in first]
        for cell in rest:
            if _trial(cell) in out:
                self._stop(cell, out[_trial(cell)], 0)
        self._run(rest)

    def _run(self, cells: Sequence[Cell]) -> None:
        todo = {cell.id: cell for cell in cells if cell.id not in self.rows}
        self._judge()
        stamp = self.study.stamp()
        jobs = [self._job(cell, stamp) for cell in todo.values() if cell.id not in self.rows]
        if not jobs:
            return
        with closing(run_jobs(self._workers(), jobs, self._watch)) as over:  # whatever happens here kills what runs
            for job, outcome in over:
                cell = todo[job.name]
                if cell.id not in self.rows:  # else it was stopped
                    if outcome.status != DONE:
                        self.study.fail(cell, {"status": "failed", "reason": outcome.reason})
                    self._take(cell)
                    self._judge()
                self._write()

    def _watch(self, running: Sequence[Job]) -> Sequence[str]:
        self.grid.running(running)
        if self.groups and time.monotonic() > self._judged + JUDGED_EVERY:
            self._judge()
            self._judged = time.monotonic()
        return [job.name for job in running if job.name in self.rows]

    def _judge(self) -> None:
        """With pruning: note which trials are stopped, as far as that can be said already."""
        for group in self.groups:
            courses = {cell.id: self._course(cell) for cell in group}
            for name, epoch in judge(group, courses, self.rows).items():
                cell = next(cell for cell in group if cell.id == name)
                if self.rows.get(name, {}).get("status") != "pruned":
                    self._stop(cell, f"behind the better half of its method's trials after epoch {epoch}", epoch)

    def _course(self, cell: Cell) -> Any:
        items = self.items[self._name(cell)]
        row = self.rows.get(cell.id)
        if row is None or row["status"] == "finished":  # by its epochs alone, also where its method changes the weights after the last
            row = cell.told() | self.study.course(cell, items)
        return curve(row, None, items, self._part) if row["trajectory"] else None

    @property
    def _part(self) -> str:
        """The items by which trials are judged."""
        return "validation" if self.plan.validation else "test"

    def _stop(self, cell: Cell, reason: str, epoch: int) -> None:
        self.study.fail(cell, {"status": "pruned", "reason": reason, "epoch": epoch})
        self.rows.pop(cell.id, None)
        self.costs.pop(cell.id, None)
        self._take(cell)


def _trial(cell: Cell) -> tuple[str, str, int]:
    return cell.data, cell.label, cell.trial
