"""The perplexity of plain text after the study's chosen trials: the table, pinned by hand, and which trials are trained again."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import perplexity
import study_raw
from comparison.conftest import alone, base  # noqa: F401
from forgetless.comparison.plan import read_plan

ROOT = Path(__file__).resolve().parents[2]


def _row(label: str, seed: int, before: float, after: float, **own: Any) -> dict[str, Any]:
    row = {"data": "facts", "label": label, "lr": 1e-3, "seed": seed, "level": 0.9, "epochs": 3, "learned": 9, "of": 10}
    row |= {"as_before": True, "passages": 4}
    return row | {"log_perplexity_before": math.log(before), "log_perplexity": math.log(after)} | own


def test_the_table_gives_geometric_means_and_multiples_of_plain_trainings():
    rows = [_row("none", 0, 10, 20), _row("none", 1, 10, 80), _row("auto", 0, 10, 10), _row("auto", 1, 10, 20, learned=10)]
    lines = perplexity.table(rows)
    plain, auto = (line.strip("| ").split(" | ") for line in lines[2:])
    assert plain[:6] == ["facts", "`none`", "2", "90%", "10.00", "40.00"]
    assert plain[6].startswith("4.000 [") and lines[2].endswith("] |  |  |")  # nothing against itself
    assert auto[:6] == ["facts", "`auto`", "2", "95%", "10.00", "14.14"]
    assert auto[7].startswith("0.354 [")  # sqrt of 10 / 20 × 20 / 80
    assert float(auto[8]) == pytest.approx(0.2, abs=0.006)  # t = 3 with one degree of freedom: 2 / pi × atan(1 / 3) = 0.205


def test_a_seed_that_plain_training_lacks_is_in_the_mean_and_in_no_comparison():
    lines = perplexity.table([_row("none", 0, 10, 20), _row("auto", 0, 10, 10), _row("auto", 1, 10, 40)])
    auto = lines[3].split(" | ")
    assert (auto[5], auto[7]) == ("20.00", "0.500")


def test_the_page_says_how_many_trainings_came_out_as_before(tmp_path):
    file = tmp_path / "perplexity.json"
    assert perplexity.section(file) == ["Not run yet: there is no raw result `perplexity.json`.\n"]
    file.write_text(json.dumps({"made": {}, "rows": [_row("none", 0, 10, 20), _row("none", 1, 10, 20, as_before=False)]}), "utf-8")
    told = perplexity.section(file)[0]
    assert "1 of 2 trainings came to the same counts" in told and "4 passages" in told


def test_the_chosen_trial_of_every_method_is_trained_again_at_every_seed():
    found = perplexity.chosen(
        ROOT / "docs/results/study/edits.json", read_plan(ROOT / "benchmarks/study/finalists-edits.yaml"), ["none", "auto"]
    )
    assert {(cell.label, cell.lr) for cell, _ in found} == {("none", 2e-5), ("auto", 1e-3)}
    assert sorted(cell.seed for cell, _ in found if cell.label == "auto") == [0, 1, 2, 3, 4]
    way = next(way for cell, way in found if cell.label == "none" and cell.seed == 0)
    assert way[0] == (0, 0) and way[-1][0] == 71


def test_a_chosen_trial_trained_again_comes_to_the_same_counts(alone, base, tmp_path):  # noqa: F811
    file, texts, plan = tmp_path / "raw.json", tmp_path / "texts.jsonl", read_plan(base / "plan.yaml")
    file.write_text(json.dumps(study_raw.comparison(alone[1])), "utf-8")
    texts.write_text("".join(json.dumps({"text": " ".join(words)}) + "\n" for words in (("a", "b", "c"), ("d", "e"))), "utf-8")
    found = perplexity.chosen(file, plan, None)
    assert sorted(cell.label for cell, _ in found) == ["none", "replay"]
    for cell, way in found:
        row = perplexity.train_and_ask(cell, plan, way, str(texts), 0.2)
        assert row["as_before"] and row["learned"] == way[row["epochs"]][0] and row["passages"] == 2
        assert row["log_perplexity"] != row["log_perplexity_before"]
        other = [(learned, forgotten + 1) for learned, forgotten in way]
        assert perplexity.train_and_ask(cell, plan, other, str(texts), 0.2) == row | {"as_before": False}
