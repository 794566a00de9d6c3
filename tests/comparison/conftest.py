"""A folder with a tiny model, its questions and a plan; the comparison of it left alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from comparison.world import PLAN, TEACH, write_questions
from forgetless.comparison.plan import read_plan
from forgetless.comparison.pool import Processes
from forgetless.comparison.run import compare
from forgetless.methods import METHODS
from tiny import make_tiny_model


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    from forgetless.cli.main import app

    folder = tmp_path_factory.mktemp("compared")
    write_questions(folder)
    make_tiny_model(folder / "raw")
    (folder / "plan.yaml").write_text(PLAN, "utf-8")
    here = Path.cwd()
    os.chdir(folder)
    try:
        assert app(TEACH, standalone_mode=False) is None
    finally:
        os.chdir(here)
    (folder / "taught" / "model").rename(folder / "model")
    return folder


@pytest.fixture
def place(base, tmp_path) -> Path:
    """A fresh folder with the questions, the model and the plan."""
    for file in (*base.glob("*.jsonl"), base / "plan.yaml"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    os.symlink(base / "model", tmp_path / "model")
    return tmp_path


def run(folder: Path, out: str = "study", *, jobs: int = 1, **options):
    """The comparison of ``plan.yaml`` in this process; the cells are processes of their own."""
    plan = read_plan(folder / "plan.yaml")
    return compare(plan, folder / out, lambda log: Processes(log, jobs), METHODS, command="forgetless compare", show=False, **options)


@pytest.fixture(scope="session")
def alone(base):
    """What the comparison gives, and its folder."""
    return run(base), base / "study"
