"""The GPU benchmark's whole path on a tiny model; without a GPU it says so and measures nothing."""

import importlib.util
import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
KINDS = ["plain", "cpl", "ewc", "agem", "replay", "lora", "authors"]


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(**changes):
    return Namespace(**({"device": "cpu", "dtype": "float32", "batch": 2, "tokens": 8, "steps": 10, "warm_up": 0, "tiny": True} | changes))


def apart(one, other):
    return max(float((a.detach() - b.detach()).abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def run(*arguments, folder):
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU to measure on")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    done = run(folder=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("skipped: torch") and "no CUDA device" in done.stdout
    assert not list(tmp_path.iterdir())


def test_the_command_measures_in_processes_and_writes_one_table_and_one_file(tmp_path):
    small = ("--tiny", "--device", "cpu", "--batch", "2", "--tokens", "8", "--steps", "8", "--warm-up", "1")
    done = run(*small, "--kinds", "plain,cpl", "--out", "found.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "found.json").read_text())
    assert list(report["kinds"]) == ["plain", "cpl"] and (report["dtype"], report["warm_up"], report["tiny"]) == ("bfloat16", 1, True)
    for kind, row in report["kinds"].items():
        assert row["n"] == 8 and 0 < row["seconds_min"] <= row["seconds_median"] <= row["seconds_max"]
        assert row["peak_bytes"] > 1e8 and row["weights"] == row["trained"] > 10_000
        assert f"\n{kind} " in done.stdout
    assert report["kinds"]["cpl"]["constraint_violation"] == 0.0


def test_a_kind_that_fails_is_told_and_fails_the_run(tmp_path):
    done = run("--tiny", "--device", "cpu", "--batch", "0", "--kinds", "plain", "--out", "found.json", folder=tmp_path)
    assert done.returncode == 1
    assert json.loads((tmp_path / "found.json").read_text())["kinds"]["plain"]["error"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_kind_trains_the_tiny_model(gpu, dtype):
    assert list(gpu.KINDS) == KINDS
    start = dict(gpu.make_model(settings(dtype=dtype)).named_parameters())
    for kind in KINDS:
        model, found = gpu.train(kind, settings(dtype=dtype))
        assert found["n"] == 10 and found["loss"][0] > 0
        assert (found["trained"] < found["weights"]) == (kind == "lora")
        moved = [name for name, weight in model.named_parameters() if name not in start or not torch.equal(weight, start[name])]
        assert moved, kind


def test_the_plain_kind_is_torchs_own_adamw(gpu):
    arguments = settings(steps=3)
    model, _ = gpu.train("plain", arguments)
    twin, draw = gpu.make_model(arguments), torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=1e-5)
    for _ in range(3):
        ids = torch.randint(0, 256, (2, 8), generator=draw)
        twin(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert apart(model, twin) < 1e-7


def test_the_authors_rule_and_cpl_give_the_same_weights(gpu):
    """Ten steps, a new reference at the first and the ninth: what differs is the arithmetic of AdamW, not which weights move."""
    arguments = settings()
    (ours, _), (theirs, _), (plain, _) = (gpu.train(kind, arguments) for kind in ("cpl", "authors", "plain"))
    assert apart(ours, theirs) < 1e-6 < 5e-5 < apart(ours, plain)
