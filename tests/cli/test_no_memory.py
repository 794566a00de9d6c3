"""A run that is refused memory, by a real limit on its address space: one line, exit code 1, and it goes on to the same bits."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from cli.world import read_lines, result, train_arguments
from forgetless.cli.options import NO_MEMORY, run
from forgetless.errors import out_of_memory
from tiny import make_tiny_model

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of another process is set as on Linux")
LARGE = ("--model", "large", "--max-steps", "12")


@pytest.fixture(scope="module")
def alone(warm, base):
    """A run left alone, of a model whose checkpoints take more memory than lies about."""
    make_tiny_model(base / "large", hidden=256, layers=4)
    done = warm.run(*train_arguments("alone-large", *LARGE), cwd=base)
    assert (done.code, done.err) == (0, "")
    return result(base / "alone-large")


def leave(pid: int, room: int) -> None:
    """Let a process take no more address space than it has and ``room`` bytes."""
    os.kill(pid, signal.SIGSTOP)
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize() + room
    resource.prlimit(pid, resource.RLIMIT_AS, (size, size))
    os.kill(pid, signal.SIGCONT)


def told(done, *words: str) -> None:
    assert (done.code, done.out) == (1, ""), done
    assert len(done.lines) == 1 and done.err.startswith("forgetless: ") and any(word in done.err for word in words), done.err


def test_a_limit_before_the_first_step_leaves_no_folder(warm, place, base, alone):
    os.symlink(base / "large", place / "large")
    pid = warm.start(*train_arguments("run", *LARGE), cwd=place)
    warm.wait_for_main()
    leave(pid, 0)
    told(warm.wait(pid), NO_MEMORY, "SystemError")  # what a library in C forgets to say of a refusal is told as it is
    assert not (place / "run").exists()


@pytest.mark.parametrize("room", [0, 6 << 20])
def test_a_limit_in_the_middle_ends_with_one_line_and_the_run_goes_on_to_the_same_bits(warm, place, base, alone, room):
    os.symlink(base / "large", place / "large")
    pid = warm.start(*train_arguments("run", *LARGE), cwd=place)
    end, checkpoint = time.monotonic() + 120, place / "run/checkpoint/state.safetensors"
    while not checkpoint.exists():
        assert time.monotonic() < end, "it wrote no checkpoint"
        time.sleep(0.001)
    leave(pid, room)
    told(warm.wait(pid), NO_MEMORY)
    left = {path.name for path in (place / "run").rglob("*")}
    assert left == {"config.yaml", "before.json", "metrics.jsonl", "checkpoint", "state.safetensors"}
    assert json.loads((place / "run/before.json").read_text()) and read_lines(place / "run/metrics.jsonl")
    done = warm.run(*train_arguments("run", *LARGE, "--resume"), cwd=place)
    assert (done.code, done.err) == (0, "")
    assert result(place / "run") == alone


def test_what_torch_and_the_system_say_is_told_in_one_line(monkeypatch, capsys):
    def refused(standalone_mode: bool) -> None:
        torch.empty(1 << 60, dtype=torch.uint8)

    def forked(standalone_mode: bool) -> None:
        raise OSError(12, os.strerror(12), "weights.safetensors")

    monkeypatch.setattr(sys, "argv", ["forgetless", "train"])
    for app in (refused, forked):
        assert run(app) == 1
        assert capsys.readouterr().err == f"forgetless: {NO_MEMORY}\n"
    assert not out_of_memory(RuntimeError("the size of tensor a must match")) and not out_of_memory(OSError(28, "full"))
    assert out_of_memory(MemoryError()) and not out_of_memory(ImportError("No module named 'peft'"))
