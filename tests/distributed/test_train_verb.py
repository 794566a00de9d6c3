"""``accelerate launch -m forgetless train`` in two processes leaves what one process leaves."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from safetensors.torch import load_file

from cli.world import read_lines, train_arguments, write_questions
from forgetless.core.state import load_state
from tiny import make_tiny_model

pytest.importorskip("accelerate")
CLOSE = 1e-5
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]


def run(arguments, place, processes=1, code=0):
    launch = [*LAUNCH, "--num_processes", str(processes), "--main_process_port", "0"] if processes > 1 else []
    environment = {key: value for key, value in os.environ.items() if key != "FORGETLESS_CACHE"} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, *launch, "-m", "forgetless", *map(str, arguments)]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=900, check=False)
    whole = (0, 1, 3) if code == 3 else (0,)  # 3: whole too, with the promise broken, of which the launcher makes 1
    assert (done.returncode in whole) == (code in whole), done.stdout[-2000:] + done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("verb")
    write_questions(folder)
    make_tiny_model(folder / "raw")
    taught = ["train", "--model", "raw", "--inject", "known.jsonl", "--method", "none", "--lr", "1e-2", "--epochs", "80"]
    run([*taught, "--batch-size", "6", "--until-learned", "0.9", "--out", "taught", "--json"], folder)
    (folder / "taught" / "model").rename(folder / "model")
    return folder


@pytest.fixture(scope="module")
def runs(place):
    """The same command in one process and in two; batches of 4 and a last one of 2."""
    for processes in (1, 2):
        done = run(train_arguments(f"in-{processes}", "--batch-size", 4, method="replay,cpl", epochs=3), place, processes)
        assert json.loads(done.stdout)["steps"] == 9, "only one process speaks"
    return place / "in-1", place / "in-2"


def same(one, two):
    for name in ("steps", "learned", "learned_heldout", "forgotten", "forgotten_heldout", "probes", "constraint_violation"):
        assert one[name] == two[name]


def test_two_processes_leave_the_weights_and_the_verdict_of_one(runs):
    one, two = ([load_file(folder / "model" / "model.safetensors"), json.loads((folder / "summary.json").read_text())] for folder in runs)
    assert max(float((one[0][name] - two[0][name]).abs().max()) for name in one[0]) < CLOSE
    same(one[1], two[1])
    assert one[1]["conflicting_fraction"] == pytest.approx(two[1]["conflicting_fraction"], abs=CLOSE)
    assert sorted(entry.name for entry in runs[0].iterdir()) == sorted(entry.name for entry in runs[1].iterdir())


def test_each_step_is_logged_once_with_the_loss_of_the_whole_batch(runs):
    lines = [[line for line in read_lines(folder / "metrics.jsonl") if line["kind"] == "step"] for folder in runs]
    assert [line["step"] for line in lines[1]] == [line["step"] for line in lines[0]] == list(range(1, 10))
    assert [line["loss"] for line in lines[1]] == pytest.approx([line["loss"] for line in lines[0]], abs=CLOSE)


def test_a_run_of_two_processes_goes_on_in_one(runs, place):
    one, _ = runs
    run(train_arguments("stopped", "--batch-size", 4, method="replay,cpl", epochs=2), place, 2)
    (place / "stopped" / "summary.json").unlink()
    config = place / "stopped" / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 2\n", "epochs: 3\n"))  # as if it had been stopped after two of three
    run(train_arguments("stopped", "--batch-size", 4, "--resume", method="replay,cpl", epochs=3), place)
    weights = [load_file(folder / "model" / "model.safetensors") for folder in (one, place / "stopped")]
    assert max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0]) < CLOSE


def test_a_process_that_dies_ends_all_and_the_run_goes_on_to_the_same_bits(runs, place):
    arguments = train_arguments("cut", "--batch-size", 4, method="replay,cpl", epochs=3)
    launch = [*LAUNCH, "--num_processes", "2", "--main_process_port", "0"]
    environment = {key: value for key, value in os.environ.items() if key != "FORGETLESS_CACHE"} | {"OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen(
        [sys.executable, *launch, "-m", "forgetless", *arguments], cwd=place, env=environment, stderr=subprocess.PIPE, text=True
    )
    end, checkpoint = time.monotonic() + 600, place / "cut" / "checkpoint" / "state.safetensors"

    def wait_for(file: Path) -> None:
        while not file.exists():
            assert launcher.poll() is None and time.monotonic() < end, f"no {file}"
            time.sleep(0.001)

    wait_for(place / "cut" / "config.yaml")
    workers = [child for child in psutil.Process(launcher.pid).children(recursive=True) if "forgetless" in child.cmdline()]
    second = next(child for child in workers if child.environ().get("RANK") == "1")
    wait_for(checkpoint)
    second.kill()
    said = launcher.communicate(timeout=600)[1]
    assert launcher.returncode == 1 and "Signal 9 (SIGKILL)" in said, said[-2000:]
    assert not any(psutil.pid_exists(worker.pid) and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
    assert not (place / "cut" / "summary.json").exists() and load_state(checkpoint)["session"]["step"] >= 2
    run([*arguments, "--resume"], place, 2)
    one, two = ((folder / "model" / "model.safetensors").read_bytes() for folder in (runs[1], place / "cut"))
    assert one == two


def test_what_train_cannot_do_in_several_processes_is_refused(place, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run(train_arguments("refused", method="generative-replay"), place, code=2)
    assert "GenerativeReplay cannot work in several processes" in done.stderr and done.returncode == 2
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    done = run(train_arguments("refused"), place, code=2)
    assert "launcher is set to FSDP" in done.stderr and done.returncode == 2
    assert not (place / "refused").exists()


def test_two_processes_keep_a_budget_by_the_looks_and_acts_of_one(place):
    told = []
    for processes in (1, 2):
        more = ["--budget", 0.3, "--budget-every", 2, "--batch-size", 4, "--lr", "1e-2"]
        done = run(train_arguments(f"budget-{processes}", *more, method="none", epochs=2), place, processes, code=3)
        lines = read_lines(place / f"budget-{processes}" / "budget.jsonl")
        keys = ("kind", "step", "forgotten", "total", "act", "what")
        told.append(([[line.get(key) for key in keys] for line in lines], json.loads(done.stdout)["budget"]["forgotten"]))
    assert told[0] == told[1]
    assert {line[0] for line in told[0][0]} >= {"start", "look"}
