"""Hugging Face's Trainer under protect in two real processes, by DDP and by FSDP2, against one process."""

import json
import sys
from pathlib import Path

import pytest
import torch

import forgetless as fl
from tiny import make_tiny_model

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
sys.path.insert(0, str(Path(__file__).parent))
from trained import CASES, RESUMED, STOP, train

CLOSE = 1e-5
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def one(tiny, out):
    """Each case in one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CI", "1")
        return {name: train(make(), tiny, out, "one", name) for name, make in CASES.items()}


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(request, together, tiny, out, one):
    kind = request.param
    together(HERE / "trainer_worker.py", tiny, out, kind)
    return kind, [torch.load(out / f"{kind}-{r}.pt") for r in (0, 1)], [json.loads((out / f"{kind}-{r}.json").read_text()) for r in (0, 1)]


def apart(one, other):
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


@pytest.mark.parametrize("name", CASES)
def test_two_processes_give_the_weights_and_the_log_of_one(name, two, one):
    kind, weights, told = two
    assert [rank[name]["sharded"] for rank in told] == [kind == "fsdp"] * 2
    assert apart(weights[0][name], weights[1][name]) == 0.0
    assert apart(weights[0][name], one[name]["weights"]) < CLOSE
    assert told[0][name]["violation"] == told[1][name]["violation"] == one[name]["violation"]
    for ours, theirs in zip(told[0][name]["log"], one[name]["log"], strict=True):
        assert ours == pytest.approx(theirs, abs=CLOSE)


@pytest.mark.parametrize("name", RESUMED)
def test_a_checkpoint_goes_on(name, two, one, tiny, out):
    kind, weights, _ = two
    assert apart(weights[0][f"{name}, resumed"], one[name]["weights"]) < CLOSE
    if kind == "ddp":  # and the other way round
        saved = out / f"ddp-{name}" / f"checkpoint-{STOP}"
        assert len(list(saved.glob("forgetless_state.safetensors"))) == 1
        assert apart(train(CASES[name](), tiny, out, "one", name, resume=saved)["weights"], one[name]["weights"]) < CLOSE


def test_a_process_that_dies_ends_all_and_the_checkpoint_goes_on_to_the_same_bits(two, together, tiny, out):
    kind, weights, _ = two
    said = together(HERE / "dying_worker.py", tiny, out, kind, code=1)
    assert "Signal 9 (SIGKILL)" in said, said[-2000:]
    assert [entry.name for entry in (out / f"{kind}-dies").iterdir()] == [f"checkpoint-{STOP}"] and not list(out.glob(f"{kind}-dies-*.pt"))
    together(HERE / "dying_worker.py", tiny, out, kind, "again")
    for rank in (0, 1):
        assert apart(torch.load(out / f"{kind}-dies-{rank}.pt"), weights[rank]["cpl"]) == 0.0


def test_a_sharded_run_leaves_the_state_that_one_process_would(two, out):
    kind, _, _ = two
    for name in ("cpl", "si"):
        ours, theirs = (
            fl.load_state(out / f"{of}-{name}" / f"checkpoint-{STOP}" / "forgetless_state.safetensors")["session"]["method"]
            for of in (kind, "one")
        )
        assert shapes(ours) == shapes(theirs)


def shapes(state):
    if isinstance(state, dict):
        return {key: shapes(value) for key, value in state.items()}
    return tuple(state.shape) if isinstance(state, torch.Tensor) else type(state)
