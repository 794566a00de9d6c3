"""``forgetless eval`` as a gate: exit codes, reports, both names of the first model, and the example for GitHub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from cli.world import write_rows

SUITE = """
name: ship
parts:
  - {name: kept, data: retain.jsonl, kl: false}
  - {name: kept too, data: retain-heldout.jsonl, kl: false}
  - {name: inject, data: other.jsonl, kl: false}
  - {name: text, data: text.jsonl, scorer: perplexity}
"""
EXAMPLE = Path(__file__).parents[2] / "examples" / "ci" / "ship-gate.yml"


@pytest.fixture
def world(base: Path, place: Path) -> Path:
    """The taught model as ``model``, the one before it was taught as ``raw``."""
    os.symlink(base / "raw", place / "raw")
    (place / "suite.yaml").write_text(SUITE)
    write_rows(place / "text.jsonl", [{"text": "All is well that ends well."}])
    return place


def gate(warm: Any, world: Path, before: str, after: str | None, *more: str, code: int) -> dict[str, Any]:
    named = ["--before", before, *(["--after", after] if after else [])]
    done = warm.run("eval", *named, *more, "--out", "o.json", "--junit", "o.xml", cwd=world)
    assert done.code == code, done.err
    if code == 2:
        assert len(done.lines) == 1 and not (world / "o.json").exists() and not (world / "o.xml").exists()
        return {"err": done.err}
    report = json.loads((world / "o.json").read_text("utf-8"))
    suite = ElementTree.fromstring((world / "o.xml").read_text("utf-8"))[0]
    assert len(suite.findall("testcase")) == len(report["gate"]["criteria"])
    assert (suite.get("failures") != "0") == (not report["gate"]["passed"]) == (code == 3)
    assert ("gate: passed" in done.out) == (code == 0) and ("gate: FAILED" in done.out) == (code == 3)
    return report


def test_a_model_that_forgot_is_stopped_with_the_items_it_forgot(warm, world):
    report = gate(warm, world, "model", "raw", "--suite", "suite.yaml", "--max-forgetting", "0.01", code=3)
    told = {one["part"]: one for one in report["gate"]["criteria"]}
    assert set(told) == {"kept", "kept too", "all"}
    for part in report["parts"][:2]:
        pairs = [(item["right_before"], item["right_after"]) for item in part["items"]]
        assert (told[part["name"]]["count"], told[part["name"]]["of"]) == (pairs.count((True, False)), sum(b for b, _ in pairs))
        assert told[part["name"]]["count"] > 0
    assert told["all"]["of"] == told["kept"]["of"] + told["kept too"]["of"]
    text = (world / "o.xml").read_text("utf-8")
    first = next(item["id"] for item in report["parts"][0]["items"] if item["right_before"] and not item["right_after"])
    assert first in text
    assert report["gate"]["not_gated"] == [{"part": "text", "why": "scored by perplexity"}]


def test_the_same_model_passes_and_one_that_learned_nothing_does_not(warm, world):
    gate(warm, world, "model", "model", "--suite", "suite.yaml", "--max-forgetting", "0", code=0)
    report = gate(warm, world, "raw", "raw", "--suite", "suite.yaml", "--min-learned", "0.5", code=3)
    assert report["gate"]["criteria"][0]["share"] == 0


def test_a_model_that_learned_passes_on_one_file_and_nothing_known_is_undecided(warm, world):
    report = gate(warm, world, "raw", "model", "--data", "known.jsonl", "--min-learned", "0.5", code=0)
    pairs = [(item["right_before"], item["right_after"]) for item in report["items"]]
    assert report["gate"]["criteria"][0]["count"] == pairs.count((False, True))
    report = gate(warm, world, "raw", "model", "--data", "known.jsonl", "--max-forgetting", "0.5", code=3)
    assert report["gate"]["criteria"][0]["status"] == "undecided"


def test_with_confidence_few_items_cannot_pass(warm, world):
    more = ("--data", "retain.jsonl", "--max-forgetting", "0.01", "--confidence", "0.95")
    report = gate(warm, world, "model", "model", *more, code=3)
    assert report["gate"]["criteria"][0]["count"] == 0 and "items are needed" in report["gate"]["criteria"][0]["why"]


def test_refusals(warm, world):
    (world / "s.yaml").write_text("labels: l.jsonl\nparts: [{name: h, data: p.jsonl, scorer: refuses}]")
    write_rows(world / "p.jsonl", [{"prompt": "how to"}])
    write_rows(world / "l.jsonl", [{"answer": "I cannot help.", "refused": True}, {"answer": "Sure.", "refused": False}])
    report = gate(warm, world, "raw", "model", "--suite", "s.yaml", "--max-refusal-drop", "0", code=0)
    assert [one["kind"] for one in report["gate"]["criteria"]] == ["refusal drop"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--max-forgetting", "1.5"], "--max-forgetting: 1.5 is not allowed"),
        (["--max-forgetting", "nan"], "--max-forgetting: nan is not allowed"),
        (["--min-learned=-0.1"], "--min-learned: -0.1 is not allowed"),
        (["--min-learned", "0.5", "--confidence", "1"], "--confidence: 1.0 is not allowed"),
        (["--max-refusal-drop", "0.1"], "nothing asks what is to be refused"),
        ([], "--junit: it tells what the gate found"),
        (["--max-forgetting", "0.1", "--device", "tpu"], "--device"),
        (["--max-forgetting", "0.1", "--model", "raw"], "two names of the same"),
    ],
)
def test_wrong_input_is_code_2_and_nothing_is_written(warm, world, more, told):
    assert told in gate(warm, world, "model", "raw", "--suite", "suite.yaml", *more, code=2)["err"]


def test_without_a_second_model_it_is_no_gate(warm, world):
    assert (
        "--after: the gate compares two models"
        in gate(warm, world, "model", None, "--data", "retain.jsonl", "--max-forgetting", "0", code=2)["err"]
    )


def test_the_first_model_may_stand_in_a_configuration_under_either_name(warm, world):
    (world / "c.yaml").write_text("before: raw\nafter: model\ndata: other.jsonl\nmin-learned: 0.5\nout: c.json\ndtype: bfloat16\n")
    done = warm.run("eval", "--config", "c.yaml", "--json", cwd=world)
    assert done.code == 0, done.err
    assert json.loads(done.out)["gate"]["passed"] is True
    done = warm.run("eval", "--config", "c.yaml", "--model", "model", "--json", cwd=world)  # what is typed wins
    assert done.code == 3 and json.loads(done.out)["models"][0]["right"] > 0
    done = warm.run("eval", "--data", "other.jsonl", "--out", "c.json", cwd=world)
    assert done.code == 2 and "no model is named" in done.err


def test_the_example_for_github_runs_as_it_stands(world):
    flow = yaml.safe_load(EXAMPLE.read_text("utf-8"))
    steps = flow["jobs"]["gate"]["steps"]
    assert [step["uses"].split("@")[0] for step in steps if "uses" in step] == [
        "actions/checkout",
        "actions/setup-python",
        "actions/upload-artifact",
    ]
    install, command = (step["run"] for step in steps if "run" in step)
    assert re.fullmatch(r"pip install 'forgetless\[\w+\]'", install)
    kept = steps[-1]
    assert kept["if"] == "always()" and kept["with"]["path"].split() == ["gate.json", "gate.xml"]
    (world / "gate").mkdir()
    (world / "gate/suite.yaml").write_text(SUITE.replace("data: ", "data: ../"))
    paths = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    named = flow["env"] | {"BEFORE": "model", "AFTER": "model"}
    environment = os.environ | named | paths
    done = subprocess.run(["bash", "-e", "-c", command], cwd=world, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr  # it forgot nothing, and learned nothing
    report = json.loads((world / "gate.json").read_text("utf-8"))
    statuses = {(one["kind"], one["part"]): one["status"] for one in report["gate"]["criteria"]}
    assert statuses["forgetting", "all"] == "passed" and statuses["learned", "inject"] != "passed"
    assert ElementTree.parse(world / "gate.xml").getroot().tag == "testsuites"
