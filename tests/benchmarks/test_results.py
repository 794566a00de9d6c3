"""The published tables are what the committed raw results give."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import raw  # noqa: E402

RAW = sorted(
    file.relative_to(ROOT)
    for file in (
        *(ROOT / "docs").glob("results/*.json"),
        *(ROOT / "docs").glob("results/study/*.json"),
        *(ROOT / "docs").glob("methods/**/*.json"),
    )
)


def test_split_mnist_is_what_its_raw_results_give():
    import split_mnist

    assert split_mnist.table(raw.read(split_mnist.RAW)) == split_mnist.TABLE.read_text("utf-8")


def test_the_facts_on_smollm2_are_what_their_raw_results_give():
    import facts_table

    text = facts_table.PAGE.read_text("utf-8")
    assert facts_table.page(text) == text
    assert all(line in text.split("\n") for line in facts_table.table().split("\n"))


@pytest.mark.parametrize("file", [*RAW, Path("docs/results/facts/made.json")], ids=str)
def test_a_raw_file_names_the_command_the_commit_the_seeds_and_the_machine(file):
    found = json.loads((ROOT / file).read_text("utf-8"))
    if found.get("kind") == "comparison":
        head = found["head"]
        made = {"commands": [head["command"]], "commits": head.get("commits") or [head["commit"]], "seeds": head["seeds"]}
        made["machines"] = [found["machine"]]
    else:
        made = found["made"]
    assert all(command.split()[0] in ("python", "forgetless", "sh") for command in made["commands"]) and made["commands"]
    assert made["commits"] and all(len(commit) == 40 and set(commit) <= set("0123456789abcdef") for commit in made["commits"])
    assert made["seeds"] == sorted(set(made["seeds"])) and made["seeds"]
    assert all(machine["cpu"] and machine["cores"] and "gpus" in machine for machine in made["machines"]) and made["machines"]
    named = {row["seed"] for row in found.get("rows", found.get("runs", ())) if isinstance(row, dict) and "seed" in row}
    assert named <= set(made["seeds"])


def test_there_are_raw_files():
    assert {"growth.json", "budget.json", "split_mnist.json", "edits.json", "more.json"} <= {file.name for file in RAW}


def test_rows_that_another_command_adds_name_both(tmp_path, monkeypatch):
    file, rows = tmp_path / "new/found.json", [{"seed": 3, "x": 1.0}]
    assert raw.read(file) == []
    monkeypatch.setattr(sys, "argv", [str(ROOT / "benchmarks/growth.py"), "measure", "--out", "/a/private/folder/found.json"])
    raw.keep(file, rows)
    first = json.loads(file.read_text("utf-8"))
    assert first["made"]["commands"] == ["python benchmarks/growth.py measure --out found.json"] and first["made"]["seeds"] == [3]
    monkeypatch.setattr(sys, "argv", ["growth.py", "measure"])
    raw.keep(file, [*rows, {"x": 2.0}], seed=1)
    assert raw.read(file) == [*rows, {"x": 2.0}] and len(file.read_text("utf-8").splitlines()) == 5
    made = json.loads(file.read_text("utf-8"))["made"]
    assert len(made["commands"]) == 2 and made["seeds"] == [1, 3] and len(made["commits"]) == len(made["machines"]) == 1
    raw.keep(file, rows)
    assert json.loads(file.read_text("utf-8"))["made"]["commands"] == made["commands"]
    assert list(raw.named(file, {"made": None, "y": 1}, [7])) == ["made", "y"] and raw.named(file, {}, [7])["made"]["seeds"] == [1, 3, 7]
