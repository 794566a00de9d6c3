"""``forgetless compare`` as a user runs it: exit codes, table, page, interrupts."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from comparison.conftest import run
from forgetless.cli import main as command
from forgetless.cli.options import run as run_cli
from forgetless.comparison import pool

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}


@pytest.fixture
def verb(place, monkeypatch, capsys):
    """Runs the command line in the folder of the plan: its exit code, what it printed, and what it said."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "160")

    def called(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["forgetless", "compare", *arguments])
        code = run_cli(command.app)
        told = capsys.readouterr()
        return code, told.out, told.err

    return called


def test_the_table_and_the_page_come_of_one_command_and_a_failed_cell_of_exit_code_1(verb, place):
    text = (place / "plan.yaml").read_text("utf-8").replace("[3e-3, 1e-2]", "[3e-3, 1e30]").replace("[none, replay]", "[none]")
    (place / "plan.yaml").write_text(text, "utf-8")
    code, out, err = verb("--config", "plan.yaml", "--out", "study")
    assert code == 1
    assert "1 of 2 cells failed, the first: data_none_adamw_1e+30" in err.splitlines()[-1] and "loss is nan" in err
    assert "[2/2] data_none_adamw_1e+30" in err and "failed" in out
    found = json.loads((place / "study/comparison.json").read_text("utf-8"))
    at = found["entries"][0]["trials"][0]["at"]["0.5"]["B"]["mean"]
    assert "0.003 adamw" in out and f"{100 * at:.1f}" in out and "study/report.html" in out
    page = (place / "study/report.html").read_text("utf-8")
    assert "A tiny comparison" in page
    code, out, _ = verb("--config", "plan.yaml", "--out", "study", "--json")
    told = json.loads(out)
    assert code == 1 and told["entries"] == found["entries"]


WRONG = {
    "no plan": (["--out", "study"], "'--config'"),
    "a plan that is not there": (["--config", "none.yaml", "--out", "study"], "none.yaml: it cannot be read"),
    "no folder": (["--config", "plan.yaml"], "--out: no folder is named"),
    "no job": (["--config", "plan.yaml", "--out", "study", "--jobs", "0"], "--jobs: 0 is not allowed"),
    "a limit of nothing": (["--config", "plan.yaml", "--out", "study", "--limit", "-1"], "--limit: -1 is not allowed"),
    "a file for a folder": (["--config", "plan.yaml", "--out", "plan.yaml"], "plan.yaml: it is a file"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line_and_exit_code_2(verb, place, name):
    arguments, told = WRONG[name]
    before = sorted(place.iterdir())
    code, out, err = verb(*arguments)
    assert (code, out) == (2, "") and len(err.splitlines()) == 1 and told in err and sorted(place.iterdir()) == before


def test_a_killed_parent_leaves_no_worker_and_a_comparison_that_goes_on_to_the_same_bytes(alone, place):
    text = (place / "plan.yaml").read_text("utf-8").replace("seeds: [0]", "seeds: [0, 1, 2]")
    (place / "plan.yaml").write_text(text, "utf-8")
    process, results = start(place), place / "study" / "results.jsonl"
    wait_for(lambda: results.is_file() and results.read_bytes())
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    process.kill()
    assert process.wait() == -signal.SIGKILL
    wait_for(lambda: not [one for one in workers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
    assert 1 <= len(results.read_bytes().splitlines()) < 12
    assert run(place)["cells"]["finished"] == 12
    found = results.read_bytes().splitlines()
    assert found[::3] == (alone[1] / "results.jsonl").read_bytes().splitlines()


def test_an_interrupt_ends_with_one_line_and_the_same_command_goes_on(alone, verb, place, monkeypatch):
    ended = pool.Processes.ended

    def interrupted(self, handles):
        if (place / "study/results.jsonl").is_file() and (place / "study/results.jsonl").read_bytes():
            raise KeyboardInterrupt
        return ended(self, handles)

    monkeypatch.setattr(pool.Processes, "ended", interrupted)
    code, out, err = verb("--config", "plan.yaml", "--out", "study")
    assert (code, out) == (1, "") and err.splitlines()[-1] == "forgetless: interrupted; the same command goes on where it was"
    assert not [child for child in multiprocessing.active_children() if child.is_alive()]
    monkeypatch.setattr(pool.Processes, "ended", ended)
    assert verb("--config", "plan.yaml", "--out", "study", "--json")[0] == 0
    assert (place / "study/results.jsonl").read_bytes() == (alone[1] / "results.jsonl").read_bytes()


def start(place: Path) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-m", "forgetless", "compare", "--config", "plan.yaml", "--out", "study"]
    return subprocess.Popen(arguments, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ENVIRONMENT)


def wait_for(condition, seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)
