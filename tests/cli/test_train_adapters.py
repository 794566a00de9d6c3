"""``forgetless train`` with methods that change the model: adapters are trained, resumed bit for bit, and saved as a plain model."""

from __future__ import annotations

import json
import signal

import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from cli.world import SIZES, read_lines, result, train_arguments

METHODS = {"lora": ("lora.rank=8",), "lora-merged": ("lora.adapter=merged",), "osf": ("osf.preserved=0.25",)}


def arguments(out, variant, *more):
    options = [part for option in METHODS[variant] for part in ("--method-arg", option)]
    return train_arguments(out, *options, *more, method=variant.partition("-")[0])


@pytest.fixture(scope="module", params=METHODS)
def run(request, warm, base):
    """A run left alone: the variant, its folder, and its operations on files."""
    variant = request.param
    done = warm.run(*arguments(variant, variant), cwd=base, count=base / f"{variant}.json")
    assert (done.code, done.err) == (0, ""), done.err
    return variant, base / variant, json.loads((base / f"{variant}.json").read_text())


def test_a_run_killed_anywhere_goes_on_to_the_same_bits(run, warm, place):
    variant, alone, operations = run
    wanted = ["half of .state", "half of model"]
    for index, prefix in enumerate(wanted):
        moments = [number for number, name in enumerate(operations, 1) if name.startswith(prefix)]
        assert moments, prefix
        out = f"{variant}-{index}"
        done = warm.run(*arguments(out, variant), cwd=place, die_at=moments[len(moments) // 2])
        assert done.code == -signal.SIGKILL, done
        done = warm.run(*arguments(out, variant, "--resume"), cwd=place)
        assert (done.code, done.err) == (0, ""), done.err
        for name, one, other in zip(("weights", "items", "metrics", "summary"), result(place / out), result(alone), strict=True):
            assert one == other, f"{name} after a kill at {prefix}"


def test_the_saved_model_is_plain_and_scores_as_the_items_say(run, warm, base, tmp_path):
    _, alone, _ = run
    with safe_open(base / "model/model.safetensors", "pt") as before, safe_open(alone / "model/model.safetensors", "pt") as after:
        assert set(before.keys()) == set(after.keys())
    assert (alone / "model/config.json").is_file() and not (alone / "model/adapter_config.json").exists()
    summary = json.loads((alone / "summary.json").read_text())
    assert summary["learned"] + summary["forgotten"] > 0 or summary["learned_heldout"] > 0, "training moved something"
    items = read_lines(alone / "items.jsonl")
    for name in ("inject", "retain"):
        done = warm.run(
            "eval", "--model", alone / "model", "--data", f"{name}.jsonl", "--out", tmp_path / f"{name}.json", "--json", cwd=base
        )
        assert done.code == 0, done.err
        scored = {item["id"]: item["right"] for item in json.loads((tmp_path / f"{name}.json").read_text())["items"]}
        assert scored == {item["id"]: item["after"] for item in items if item["split"] == name} and len(scored) == SIZES[name]


def test_only_adapters_are_trained_and_only_linear_layers_change(run, base):
    variant, alone, _ = run
    before, after = load_file(base / "model/model.safetensors"), load_file(alone / "model/model.safetensors")
    changed = {name for name in before if not before[name].equal(after[name])}
    assert changed == {name for name in before if "proj" in name}
    state = alone / "checkpoint/state.safetensors"
    with safe_open(state, "pt") as handle:
        moments = [name for name in handle.keys() if name.startswith("state/optimizer") and name.endswith("exp_avg")]  # noqa: SIM118
    per_layer = 3 if variant == "osf" else 2
    assert len(moments) == per_layer * sum("proj" in name for name in before)


def test_the_constraint_of_osf_is_measured_at_every_step(run):
    variant, alone, _ = run
    steps = [line for line in read_lines(alone / "metrics.jsonl") if line["kind"] == "step"]
    shares = [line["method"].get("osf_protected_share") for line in steps]
    violation = json.loads((alone / "summary.json").read_text())["constraint_violation"]
    if variant == "osf":
        assert all(0 <= share <= 1e-6 for share in shares) and 0 <= violation <= 1e-6 and steps
    else:
        assert set(shares) == {None} and violation is None


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_what_a_method_writes_as_its_task_ends_is_what_is_scored(alpha, warm, base, tmp_path):
    done = warm.run(*train_arguments(tmp_path / "wise", "--method-arg", f"wise.alpha={alpha}", method="wise"), cwd=base)
    assert (done.code, done.err) == (0, ""), done.err
    items, summary = read_lines(tmp_path / "wise/items.jsonl"), json.loads((tmp_path / "wise/summary.json").read_text())
    if not alpha:
        assert all(item["after"] == item["before"] for item in items) and summary["learned"] == summary["forgotten"] == 0
    done = warm.run(
        "eval", "--model", tmp_path / "wise/model", "--data", "inject.jsonl", "--out", tmp_path / "eval.json", "--json", cwd=base
    )
    scored = {item["id"]: item["right"] for item in json.loads((tmp_path / "eval.json").read_text())["items"]}
    assert scored == {item["id"]: item["after"] for item in items if item["split"] == "inject"}
    last = [line for line in read_lines(tmp_path / "wise/metrics.jsonl") if line["kind"] == "epoch"][-1]["splits"]
    assert last["inject"]["learned"] > summary["learned"], "before the blend more was learned"
