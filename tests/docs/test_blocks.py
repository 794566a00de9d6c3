"""Every block of Python on every page runs, on a tiny model. Those about trainers have a test of their own (test_docs_examples)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TRAINERS = "trainer = "
SET_UP = """
import forgetless as fl
import torch
from torch.distributed.fsdp import fully_shard
from language import language_batches, language_model

def loss_fn(model, batch):
    return model(**batch).loss

model, new_batches, old_batches = language_model(), language_batches(3, 0), language_batches(2, 1)
task, method = fl.Task("new", train=new_batches, retain=old_batches), fl.CPL()
before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
"""


def blocks() -> dict[str, str]:
    """Every block of Python by page and number, but for those that another test runs and files that are shown whole."""
    found = {}
    for page in PAGES:
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.S), 1):
            if TRAINERS not in block and not block.startswith("--8<--"):
                found[f"{page.relative_to(ROOT)}-{number}"] = block
    return found


@pytest.mark.parametrize("name", blocks())
def test_the_block_runs(name, tmp_path):
    for file in ("first", "second", "second-test"):
        rows = [{"prompt": f"{file} {n} is", "answer": "yes"} for n in range(3)]
        (tmp_path / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    block = blocks()[name]
    trains = "optimizer.step()" in block
    check = "\nassert any(not before[name].equal(tensor) for name, tensor in model.state_dict().items())" if trains else ""
    (tmp_path / "block.py").write_text(SET_UP + block + check)
    alone = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "OMP_NUM_THREADS": "1"}
    environment = os.environ | alone | {"PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run([sys.executable, "block.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_there_are_blocks_to_run():
    assert {"README.md-1", "docs/loop.md-1", "docs/scale.md-1", "docs/streams.md-1"} <= set(blocks())
