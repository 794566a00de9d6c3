"""A full disk: exit code 2, one line, nothing half-written; a run goes on once there is room."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cli.world import read_lines, result, snapshot, train_arguments, write_rows


def mount(folder: Path, size: str) -> bool:
    """Put a small disk in memory at ``folder``, where this process may."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return shutil.which("mount") is not None and subprocess.run(command, capture_output=True, check=False).returncode == 0


def fill(disk: Path) -> Path:
    """Leave not a byte of room on ``disk``."""
    filler = disk / "filler"
    with open(filler, "ab", buffering=0) as handle:
        for size in (4096, 1):
            try:
                while True:
                    handle.write(b"x" * size)
            except OSError:
                continue
    return filler


@pytest.fixture
def disk(tmp_path):
    """A function that makes a disk of a size in the folder ``disk``; False where this process may not."""
    mounted = []

    def make(size: str) -> bool:
        mounted.append(mount(tmp_path / "disk", size))
        return mounted[-1]

    yield make
    if any(mounted):
        subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


@pytest.fixture(scope="module")
def alone(warm, base):
    done = warm.run(*train_arguments("alone-disk"), cwd=base)
    assert done.code == 0, done.err
    return result(base / "alone-disk")


def command(verb: str, out: str) -> list[str]:
    questions = ["--model", "model", "--data", "all.jsonl", "--json"]
    return {
        "split": ["split", *questions, "--out", f"{out}/new/halves"],
        "eval": ["eval", *questions, "--out", f"{out}/new/eval.json"],
        "eval over an old file": ["eval", *questions, "--out", f"{out}/old.json"],
        "report": ["report", "alone-disk", "--out", f"{out}/new/report.html"],
        "train": train_arguments(f"{out}/new/run"),
    }[verb]


def one_line(done) -> None:
    assert (done.code, done.out) == (2, ""), done
    assert len(done.lines) == 1 and done.err.startswith("forgetless: ") and "ree some space" in done.err, done.err


@pytest.mark.parametrize("kind", ["disk", "limit"])
@pytest.mark.parametrize("verb", ["split", "eval", "eval over an old file", "report", "train"])
def test_nothing_half_written_stays_on_a_full_disk(warm, place, base, disk, alone, verb, kind):
    if verb == "report":
        shutil.copytree(base / "alone-disk", place / "alone-disk")
    write_rows(place / "all.jsonl", [row | {"subject": "s" * 300} for row in read_lines(place / "all.jsonl")])  # splits of some size
    limit = None
    if kind == "limit" or not disk("64k"):
        limit = 600  # bytes that any file may grow to
        (place / "disk").mkdir(exist_ok=True)
    (place / "disk/old.json").write_text('{"old": 1}')
    if limit is None:
        fill(place / "disk")
    before = snapshot(place)
    done = warm.run(*command(verb, "disk"), cwd=place, fsize=limit)
    one_line(done)
    assert "disk/" in done.err, "the line names no file"
    assert snapshot(place) == before


def test_a_disk_that_is_too_small_is_told_before_training(warm, place, disk):
    if not disk("64k"):
        pytest.skip("may not mount; the limit on file sizes stands in for it in the other tests")
    before = snapshot(place)
    done = warm.run(*train_arguments("disk/run"), cwd=place)
    one_line(done)
    assert "the run needs about" in done.err and snapshot(place) == before


def wait_for_checkpoint(run: Path) -> None:
    end = time.monotonic() + 60
    while not (run / "checkpoint/state.safetensors").exists():
        assert time.monotonic() < end
        time.sleep(0.001)


def assert_whole(run: Path) -> None:
    """The last checkpoint can be read, the lines of the metrics are whole, and nothing half-written is left."""
    from forgetless.core.state import load_state

    if (run / "checkpoint").exists():
        assert load_state(run / "checkpoint/state.safetensors")["session"]["step"] >= 2
    assert all(line["kind"] in ("step", "epoch") for line in read_lines(run / "metrics.jsonl"))
    assert not [path for path in run.rglob("*") if "tmp" in path.name]
    assert not (run / "summary.json").exists()


def test_a_disk_that_fills_up_during_training_costs_nothing(warm, place, disk, alone):
    if not disk("8m"):
        pytest.skip("may not mount; the limit on file sizes stands in for it in the next test")
    pid = warm.start(*train_arguments("disk/run"), cwd=place)
    wait_for_checkpoint(place / "disk/run")
    os.kill(pid, signal.SIGSTOP)
    filler = fill(place / "disk")
    os.kill(pid, signal.SIGCONT)
    done = warm.wait(pid)
    one_line(done)
    assert "disk/run" in done.err
    assert_whole(place / "disk/run")
    filler.unlink()
    done = warm.run(*train_arguments("disk/run", "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "")
    assert result(place / "disk/run") == alone


def test_a_disk_that_turns_read_only_during_training_costs_nothing(warm, place, disk, alone):
    if not disk("8m"):
        pytest.skip("may not mount; bad input has folders that were never writable")
    pid = warm.start(*train_arguments("disk/run"), cwd=place)
    wait_for_checkpoint(place / "disk/run")
    end = time.monotonic() + 60
    while True:  # the system refuses while a file is open for writing, which is soon over
        assert time.monotonic() < end
        if subprocess.run(["mount", "-o", "remount,ro", str(place / "disk")], capture_output=True, check=False).returncode == 0:
            break
    done = warm.wait(pid)
    assert (done.code, done.out) == (2, "") and len(done.lines) == 1, done
    assert "disk/run" in done.err and os.strerror(errno.EROFS) in done.err
    subprocess.run(["mount", "-o", "remount,rw", str(place / "disk")], check=True)
    assert_whole(place / "disk/run")
    done = warm.run(*train_arguments("disk/run", "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "")
    assert result(place / "disk/run") == alone


@pytest.mark.parametrize("limit", [1_250, 100_000])
def test_a_file_that_may_not_grow_costs_nothing(warm, place, alone, limit):
    done = warm.run(*train_arguments("run"), cwd=place, fsize=limit)
    one_line(done)
    assert f"run/{'before.json' if limit < 10_000 else 'checkpoint/state.safetensors'}: no space is left" in done.err
    assert not [path for path in (place / "run").rglob("*") if path.name not in ("config.yaml", "before.json", "metrics.jsonl")]
    done = warm.run(*train_arguments("run", "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "")
    assert result(place / "run") == alone


def test_a_run_killed_while_writing_its_model_goes_on_when_only_its_left_overs_take_the_room(warm, place, base, disk, alone):
    if not disk("3700k"):
        pytest.skip("may not mount; test_folder counts the room of what is left over")
    warm.run(*train_arguments("counted"), cwd=place, count=place / "operations.json")
    at = json.loads((place / "operations.json").read_text()).index("half of model") + 1
    assert warm.run(*train_arguments("disk/run"), cwd=place, die_at=at).code == -signal.SIGKILL
    left = place / "disk/run/.model.tmp/.tmpLeft"
    with open(left, "wb") as handle:
        handle.write(b"x" * 1_000_000)
    filler = fill(place / "disk")
    refused = warm.run(*train_arguments("disk/run", "--resume"), cwd=place)
    one_line(refused)
    assert left.exists(), "a refusal changes nothing"
    os.truncate(filler, max(0, filler.stat().st_size - 1_800_000))
    done = warm.run(*train_arguments("disk/run", "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "")
    assert result(place / "disk/run") == alone
