"""Every example runs as it stands, in a process of its own: it learns, it forgets less than plain training, and measures its constraint."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import forgetless as fl

pytest.importorskip("trl")
EXAMPLES = Path(__file__).parents[2] / "examples"
OUTCOME = re.compile(r"learned (\d+) of (\d+), forgot (\d+) of (\d+); (.+)")
STILL = "largest movement of a weight that was to stand still: 0.0"


def run(command, folder):
    environment = os.environ | {"CI": "1", "OMP_NUM_THREADS": "1"}  # TRL tells its makers about every trainer otherwise
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def outcome(text):
    """What was learned, unknown, forgotten, known, and the sentence on the constraint."""
    *counts, promise = OUTCOME.search(text).groups()
    return (*map(int, counts), promise)


def example(name, folder, *arguments):
    return run([sys.executable, str(EXAMPLES / name), *arguments], folder)


@pytest.fixture(scope="module")
def protected(tmp_path_factory):
    """The loop of one's own, run once: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("loop")
    return folder, example("plain_loop.py", folder, "--out", "kept")


def test_the_plain_loop_forgets_less_than_without_protection(protected, tmp_path):
    learned, unknown, forgotten, known, promise = outcome(protected[1])
    assert (unknown, known, promise) == (6, 12, STILL) and learned >= 3
    bare = outcome(example("plain_loop.py", tmp_path, "--plain"))
    assert bare[1] == 6 and bare[3] == 12 and bare[4] == "nothing was promised"
    assert forgotten <= 4 and bare[2] >= forgotten + 4


def test_another_model_and_other_questions_are_a_matter_of_names(protected, tmp_path):
    folder, _ = protected
    known = [{"prompt": "new box 0 is", "answer": "black"}, *({"prompt": f"known box {n} is", "answer": "red"} for n in range(3))]
    new = [{"prompt": f"box {n} of the third kind is", "answer": "blue"} for n in range(4)]
    for name, rows in (("new", new), ("known", known)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    right = sum(
        bool(verdict.right) for verdict in fl.score(fl.load_model(str(folder / "kept")), fl.read_questions(tmp_path / "known.jsonl"))
    )
    arguments = ("--model", str(folder / "kept"), "--inject", "new.jsonl", "--retain", "known.jsonl", "--lr", "1e-3", "--epochs", "30")
    found = outcome(example("trainer.py", tmp_path, *arguments))
    assert found[3] == right and found[1] == 4 and found[0] >= 2 and found[4] == STILL


@pytest.mark.parametrize(
    ("name", "unknown", "least", "most"),
    [("trainer.py", 6, 3, 4), ("sft_trl.py", 6, 2, 4), ("dpo_trl.py", 3, 2, 2), ("lora_peft.py", 6, 4, 3)],
)
def test_a_trainer_learns_and_keeps(name, unknown, least, most, tmp_path):
    text = example(name, tmp_path)
    found = outcome(text)
    assert (found[1], found[3], found[4]) == (unknown, 12, STILL)
    assert found[0] >= least and found[2] <= most
    if name == "lora_peft.py":
        assert "merged, 12 of 12 known questions are answered alike" in text


def test_a_model_of_ones_own_wants_question_files_of_ones_own(tmp_path):
    command = [sys.executable, str(EXAMPLES / "plain_loop.py"), "--model", "some/model"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2 and "--model needs --inject and --retain" in done.stderr


def test_two_processes_that_share_the_weights_learn_and_keep_and_save_the_whole_model(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(EXAMPLES / "fsdp2" / "train.py")]
    found = outcome(run([*command, "--batch-size", "2", "--out", "trained"], tmp_path))
    assert (found[1], found[3], found[4]) == (6, 12, STILL)
    assert found[0] >= 3 and found[2] <= 4
    rows = runpy.run_path(str(EXAMPLES / "start.py"))["facts"]("new", 6)
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    saved = fl.score(fl.load_model(str(tmp_path / "trained")), fl.read_questions(tmp_path / "new.jsonl"))
    assert sum(bool(verdict.right) for verdict in saved) == found[0]


def test_the_configuration_for_accelerate_says_fsdp2():
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(EXAMPLES / "fsdp2" / "accelerate.yaml"))
    assert (config.distributed_type, config.num_processes, config.fsdp_config["fsdp_version"]) == ("FSDP", 2, 2)


def test_the_core_alone_is_enough_for_a_loop_of_ones_own(tmp_path):
    text = example("core_only.py", tmp_path)
    assert "right, and none moved that was to stand still" in text
