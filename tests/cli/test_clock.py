"""A wall clock that goes back, and files dated in the future: no time, no estimate and no bit of a result is wrong."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

from cli.world import read_lines, result, train_arguments
from forgetless.comparison.progress import Grid
from forgetless.comparison.worker import Job

SOURCE = Path(__file__).resolve().parents[2] / "src" / "forgetless"
IN_2100 = 4_102_444_800


def told(lines: list[str]) -> list[int]:
    return [int(seconds) for line in lines for seconds in re.findall(r" in (-?\d+) s", line)]


def test_a_run_under_a_clock_that_goes_back_is_resumed_to_the_same_bits(warm, place):
    assert warm.run(*train_arguments("alone"), cwd=place).code == 0
    assert warm.run(*train_arguments("run"), cwd=place, die_at=120, clock_back=True).code == -signal.SIGKILL
    for file in (place / "run").rglob("*"):
        os.utime(file, (IN_2100, IN_2100))
    done = warm.run(*(a for a in train_arguments("run", "--resume") if a != "--json"), cwd=place, clock_back=True)
    assert done.code == 0, done.err
    assert told(done.lines) and min(told(done.lines)) >= 0
    assert result(place / "run") == result(place / "alone")
    seconds = [line["seconds"] for line in read_lines(place / "run/metrics.jsonl")]
    assert seconds == sorted(seconds) and 0 < seconds[-1] < 3600


def test_the_time_left_of_a_comparison_does_not_heed_the_wall_clock(tmp_path, monkeypatch):
    hours = iter(range(1000, 0, -1))
    monkeypatch.setattr(time, "time", lambda: next(hours) * 3600.0)
    job = Job("train", "cell", tmp_path, tmp_path / "log", plan=None, settings=None, steps=4)
    grid = Grid(2, show=False)
    for step in (1, 2):
        (tmp_path / "metrics.jsonl").write_text(f'{{"step": {step}}}\n')
        os.utime(tmp_path / "metrics.jsonl", (IN_2100 - step, IN_2100 - step))  # each line is older than the one before
        grid.running([job])
        assert grid._share(job) == step / 4
    assert re.fullmatch(r"\d+:\d\d:\d\d", grid.eta())


def test_nothing_is_timed_by_the_wall_clock():
    read = re.compile(r"\btime\.(time|time_ns|gmtime|localtime)\(|\bdatetime\.(now|today|utcnow)\(|\bdate\.today\(")
    reads = {str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if read.search(file.read_text("utf-8"))}
    assert reads == {"evaluation/junit.py"}  # the date in a report for CI, which JUnit's form asks for
