"""``forgetless compare``: methods × options × rates × optimizers × seeds × data sets under one budget."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from forgetless.cli.options import Debug, Json, answer
from forgetless.errors import ForgetlessError, InputError


def compare(
    config: Annotated[Path, typer.Option("--config", help="The plan, a YAML file.")],
    out: Annotated[Path | None, typer.Option("--out", help="Folder of the comparison; one in which it was begun goes on.")] = None,
    jobs: Annotated[int | None, typer.Option("--jobs", help="Cells at a time; each takes a GPU in turn where there are any.")] = None,
    ray: Annotated[bool, typer.Option("--ray", help="Run cells as tasks of a Ray cluster, by default one on this machine.")] = False,
    ray_address: Annotated[str | None, typer.Option("--ray-address", help="Of a Ray cluster whose machines all see --out.")] = None,
    prune: Annotated[bool, typer.Option("--prune", help="Stop hopeless trials early: successive halving.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", help="Read only so many rows of a file.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare methods fairly: one plan, one budget, tuned alike, judged at equal learning; finished cells are never run again."""
    from forgetless.comparison.plan import read_plan

    plan = read_plan(config)
    for name, value in (("--jobs", jobs), ("--limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{value} is not allowed", where=name, mend="Give a whole number of at least 1")
    if out is None and plan.out is None:
        raise InputError("no folder is named", where="--out", mend="Name one for the comparison")
    plan = plan.model_copy(update={"limit": limit or plan.limit})
    folder = out or Path(str(plan.out))
    from forgetless.comparison.pool import Pool, Processes, gpus_here
    from forgetless.comparison.run import compare as run_comparison
    from forgetless.comparison.table import show
    from forgetless.methods import METHODS

    several = jobs or plan.jobs

    def pool(log: Path) -> Pool:
        if ray or ray_address or plan.ray:
            from forgetless.comparison.ray_pool import Cluster

            return Cluster(ray_address, several, plan.threads)
        return Processes(log, several or 1, gpus_here() if plan.device in ("auto", "cuda") else ())

    more = (["--limit", str(limit)] if limit else []) + (["--prune"] if prune else [])
    command = shlex.join(["forgetless", "compare", "--config", os.fspath(config), "--out", os.fspath(folder), *more])
    found = run_comparison(plan, folder, pool, METHODS, command=command, prune=prune or plan.prune, show=not as_json)
    from forgetless.report.comparison_page import write_comparison

    page = write_comparison(folder)
    if not as_json:
        show(found)
    answer(found, f"{folder}/comparison.json, {folder}/results.jsonl, {page}", as_json=as_json)
    failed = found["cells"]["failed"]
    if failed:
        of = f"{failed} of {found['cells']['total']} cells failed"
        raise ForgetlessError(f"{of}, the first: {_first(found)}. The same command tries them again")


def _first(found: dict[str, object]) -> str:
    problems = found["problems"]
    assert isinstance(problems, list)
    return next(f"{one['cell']}: {one['reason']}" for one in problems if one["status"] == "failed")
