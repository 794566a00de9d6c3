"""SFTTrainer and DPOTrainer in two real processes under DDP: the weights of one process with the same global batch."""

import json
import sys
from pathlib import Path

import pytest
import torch

from tiny import make_tiny_model

pytest.importorskip("trl")
sys.path.insert(0, str(Path(__file__).parent))
from trl_worker import METHODS, every

from trainers import apart

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def found(tiny, together, tmp_path_factory):
    out = tmp_path_factory.mktemp("trl")
    (out / "one").mkdir()
    one = every(tiny, out / "one")
    together(HERE / "trl_worker.py", tiny, out)
    return one, [torch.load(out / f"trl-{rank}.pt") for rank in (0, 1)], json.loads((out / "trl-0.json").read_text())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_two_processes_give_the_weights_of_one(kind, name, found):
    one, two, told = found
    case = f"{kind}-{name}"
    assert told[case]["steps"] == one[case]["steps"] == 4
    assert apart(two[0][case], two[1][case]) == 0.0
    assert apart(two[0][case], one[case]["weights"]) < 1e-5
    assert (apart(one[case]["weights"], one[f"{kind}-none"]["weights"]) > 1e-5) == (name != "none")
    assert told[case]["violation"] == one[case]["violation"] == (0.0 if name == "cpl" else None)
