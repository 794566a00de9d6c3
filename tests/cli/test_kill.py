"""A run that is killed at any moment goes on with --resume to the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cli.world import read_lines, result, train_arguments, without_times

KILLS = 30
VARIANTS = {
    "none": {"method": "none"},
    "momentum": {"optimizer": "momentum"},
    "sgd": {"optimizer": "sgd"},
}


def run_alone(warm, folder: Path, *more: object, **options):
    began = time.perf_counter()
    done = warm.run(*train_arguments("alone", *more, **options), cwd=folder, count=folder / "operations.json")
    assert (done.code, done.err) == (0, ""), done.err
    return result(folder / "alone"), time.perf_counter() - began


@pytest.fixture(scope="module")
def alone(warm, base):
    """The run left alone: its result and how long it took."""
    return run_alone(warm, base)


def phase(run: Path) -> str:
    """Where a run stood when it was killed, by what it left."""
    names = {path.name for path in run.rglob("*")} if run.is_dir() else set()
    if "config.yaml" not in names:
        return "starting or scoring before training"
    if "summary.json" in names:
        return "finished"
    if "items.jsonl" in names or "model" in names or ".model.tmp" in names:
        return "writing the model and the items"
    if any("tmp" in name for name in names):
        return "writing a checkpoint"
    lines = (run / "metrics.jsonl").read_bytes().split(b"\n") if "metrics.jsonl" in names else [b""]
    if len(lines) == 1:
        return "between the folder and the first step"
    last = json.loads(lines[-2])
    return "scoring after an epoch" if last["kind"] == "step" and last["step"] % 5 == 0 else "steps"


def kill_and_resume(warm, folder: Path, kills: int, whole: float, expected, draw: random.Random, **options) -> list[str]:
    """Kill runs at random moments until ``kills`` have landed, resuming each; check every run that comes to its end."""
    landed: list[str] = []
    number = 0
    while len(landed) < kills:
        number += 1
        while True:
            arguments = train_arguments(f"run-{number}", "--resume", **options)
            if len(landed) == kills:
                done = warm.run(*arguments, cwd=folder)
            else:
                done = warm.kill_after(draw.uniform(0, whole), *arguments, cwd=folder)
            if done.code == 0:
                break
            assert done.code == -signal.SIGKILL, done.err
            landed.append(phase(folder / f"run-{number}"))
        assert_same(folder / f"run-{number}", expected)
    return landed


def assert_same(run: Path, expected) -> None:
    found = result(run)
    for name, one, other in zip(("weights", "items", "metrics", "summary"), found, expected, strict=True):
        assert one == other, f"{name} of {run.name} differ from those of the run left alone"
    left = [path for path in run.rglob("*") if "tmp" in path.name]
    assert not left, f"left behind: {left}"


def test_thirty_kills_at_random_moments_change_nothing(warm, place, alone, capsys):
    expected, whole = alone
    seed = random.SystemRandom().randrange(10**6)
    landed = kill_and_resume(warm, place, KILLS, whole, expected, random.Random(seed))
    assert len(landed) == KILLS
    with capsys.disabled():
        print(f"\n{KILLS} kills: { ({name: landed.count(name) for name in sorted(set(landed))}) }")


@pytest.mark.parametrize("variant", VARIANTS)
def test_kills_change_nothing_under_other_methods_and_optimizers(warm, place, variant):
    expected, whole = run_alone(warm, place, **VARIANTS[variant])
    assert len(kill_and_resume(warm, place, 4, whole, expected, random.Random(variant), **VARIANTS[variant])) == 4


def test_a_kill_before_during_and_after_every_kind_of_write_changes_nothing(warm, place, base, alone):
    operations = json.loads((base / "operations.json").read_text())
    moments: dict[str, list[int]] = {}
    for index, name in enumerate(operations, 1):
        moments.setdefault(name, []).append(index)
    for what in ("replace config.yaml", "replace before.json", "replace state.safetensors", "replace model", "replace summary.json"):
        assert f"before {what}" in moments and f"after {what}" in moments
    assert "half of model" in moments and any(name.startswith("half of .state") for name in moments)
    draw = random.Random(1)
    for name, indices in moments.items():
        run = name.replace(" ", "-").replace(".", "")
        at = draw.choice(indices)
        done = warm.run(*train_arguments(run), cwd=place, die_at=at)
        assert done.code == -signal.SIGKILL, (name, done)
        done = warm.run(*train_arguments(run, "--resume"), cwd=place)
        assert (done.code, done.err) == (0, ""), (name, at)
        assert_same(place / run, alone[0])


def test_cold_processes_are_killed_and_go_on(place, alone):
    command = [sys.executable, "-m", "forgetless", *train_arguments("cold", "--resume")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)

    process = start()
    time.sleep(1.5)  # in the imports
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (place / "cold").exists()
    process = start()
    wait_for(lambda: (place / "cold/checkpoint/state.safetensors").exists())
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process = start()
    assert process.communicate()[1] == b"" and process.returncode == 0
    assert_same(place / "cold", alone[0])


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.002)


@pytest.mark.parametrize("more", [["--json"], []])
def test_ctrl_c_ends_with_one_line_and_the_run_goes_on(warm, place, alone, more):
    arguments = [argument for argument in train_arguments("run") if argument != "--json"]
    pid = warm.start(*arguments, *more, cwd=place)
    metrics = place / "run/metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_bytes().count(b"\n") > 4)
    os.kill(pid, signal.SIGINT)
    done = warm.wait(pid)
    assert (done.code, done.out) == (1, "")
    said = [line for line in done.lines if " in 0 s" not in line]  # the ends of finished stages are told without --json
    assert said == ["forgetless: interrupted; a run goes on with the same command and --resume"]
    assert more == [] or len(done.lines) == 1
    done = warm.run(*train_arguments("run", "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "")
    assert_same(place / "run", alone[0])


def test_ctrl_c_at_the_very_start_ends_with_one_line_and_leaves_nothing(warm, place):
    pid = warm.start(*train_arguments("run"), cwd=place)
    warm.wait_for_main()
    os.kill(pid, signal.SIGINT)
    done = warm.wait(pid)
    assert done.code == 1 and done.lines == ["forgetless: interrupted; a run goes on with the same command and --resume"]
    assert not (place / "run").exists()


def test_an_interrupt_in_the_command_line_library_is_told_too(monkeypatch, capsys):
    import typer

    from forgetless.cli import options

    def returns(standalone_mode: bool) -> int:
        return 130

    def exits(standalone_mode: bool) -> None:
        raise typer.Exit(130)

    monkeypatch.setattr(sys, "argv", ["forgetless"])
    for app in (returns, exits):
        assert options.run(app) == 1
        assert capsys.readouterr().err == "forgetless: interrupted\n"


def test_a_finished_run_is_returned_at_once_and_left_as_it_is(warm, base, alone):
    run = base / "alone"
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")}
    done = warm.run(*train_arguments("alone", "--resume"), cwd=base)
    assert done.code == 0 and json.loads(done.out) == json.loads((run / "summary.json").read_text())
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in run.rglob("*")} == before


def test_resume_begins_where_there_is_nothing_yet(warm, place, alone):
    (place / "empty").mkdir()
    (place / "empty" / ".config.yaml.1.tmp").write_text("half")
    assert warm.run(*train_arguments("empty", "--resume"), cwd=place).code == 0
    assert_same(place / "empty", alone[0])


def test_the_checkpoint_can_be_dropped_though_a_killed_process_left_half_of_one(warm, place, base, alone):
    operations = json.loads((base / "operations.json").read_text())
    halves = [index for index, name in enumerate(operations, 1) if name.startswith("half of .state")]
    assert warm.run(*train_arguments("run", "--no-keep-checkpoint"), cwd=place, die_at=halves[2]).code == -signal.SIGKILL
    assert len(list((place / "run/checkpoint").iterdir())) == 3  # a whole one, half of ours, half of safetensors'
    done = warm.run(*train_arguments("run", "--no-keep-checkpoint", "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "") and not (place / "run/checkpoint").exists()
    assert_same(place / "run", alone[0])


def test_two_processes_do_not_train_in_one_folder(warm, place, alone):
    pid = warm.start(*train_arguments("run"), cwd=place)
    wait_for(lambda: (place / "run/checkpoint/state.safetensors").exists())
    os.kill(pid, signal.SIGSTOP)
    second = warm.run(*train_arguments("run", "--resume"), cwd=place)
    os.kill(pid, signal.SIGCONT)
    assert warm.wait(pid).code == 0
    assert second.code == 2 and "another process trains in it" in second.err and len(second.lines) == 1
    assert_same(place / "run", alone[0])


def test_seconds_go_on_after_a_resume(warm, place):
    assert warm.run(*train_arguments("run"), cwd=place, die_at=120).code == -signal.SIGKILL
    assert warm.run(*train_arguments("run", "--resume"), cwd=place).code == 0
    seconds = [line["seconds"] for line in read_lines(place / "run/metrics.jsonl")]
    assert seconds == sorted(seconds) and seconds[0] == 0 and seconds[-1] > 0


def test_the_seed_decides_everything(warm, place, alone):
    assert warm.run(*train_arguments("again"), cwd=place).code == 0
    assert_same(place / "again", alone[0])
    assert warm.run(*train_arguments("other", "--seed", 1), cwd=place).code == 0
    assert result(place / "other")[0] != alone[0][0]
    assert without_times(place / "other") != alone[0][2]


def test_the_peak_of_memory_is_that_of_all_processes_of_a_run(place, monkeypatch):
    from forgetless.cli.main import app
    from forgetless.train import loop

    class Killed(BaseException):
        pass

    def peak() -> int:
        if (place / "run/checkpoint/state.safetensors").is_file():
            raise Killed  # before its second checkpoint
        return 10**13

    monkeypatch.chdir(place)
    monkeypatch.setattr(loop, "peak_memory", peak)
    with pytest.raises(Killed):
        app(train_arguments("run"), standalone_mode=False)
    monkeypatch.setattr(loop, "peak_memory", lambda: 10**6)
    app(train_arguments("run", "--resume"), standalone_mode=False)
    assert json.loads((place / "run/summary.json").read_text("utf-8"))["peak_memory_bytes"] == 10**13
