"""comparison.json from rows: figures of test items only, choice by validation items only."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from comparison.made_up import LEVELS, study
from forgetless.comparison.result import validation_marks
from forgetless.comparison.summary import summarize
from forgetless.comparison.table import closing, rows, sentences, told_level


def entry_of(found, data, label):
    return next(entry for entry in found["entries"] if (entry["data"], entry["label"]) == (data, label))


def test_the_example_is_what_the_made_up_rows_give():
    example = json.loads((Path(__file__).parent / "example.json").read_text("utf-8"))
    assert json.loads(json.dumps(summarize(*study()))) == example


def slow_share(row, items, kind, mark, point=-1):
    """The forgotten share of the items of a kind that bear a mark, counted item by item from the verdicts at the end."""
    lost = known = 0
    for name, part in items.items():
        for before, chosen, after in zip(part["before"], part["validation"], row["right"][name], strict=True):
            if part["kind"] == kind and before == "1" and chosen == mark:
                known, lost = known + 1, lost + (after == "0")
    return lost / known


def test_the_final_figures_are_counted_on_test_items():
    head, lines, costs, items = study()
    found = summarize(head, lines, costs, items)
    for trial in entry_of(found, "air", "none")["trials"]:
        own = [row for row in lines if (row["data"], row["label"], row["trial"]) == ("air", "none", trial["trial"])]
        for kind in "ABC":
            shares = [slow_share(row, items["air"], kind, "0") for row in own]
            assert trial["final"][kind]["mean"] == pytest.approx(sum(shares) / len(shares))
            assert [curve["points"][-1][kind] for curve in trial["trajectories"]] == pytest.approx(shares)


def test_the_choice_does_not_look_at_test_items_nor_the_figures_at_validation_items():
    head, lines, costs, items = study()
    before = summarize(head, lines, costs, items)
    changed = copy.deepcopy(lines)
    for row in changed:  # forget every test item of what is kept, at every scoring
        for point in row["trajectory"][1:]:
            for name, chosen in point["validation"].items():
                whole = point["splits"][name]
                whole["forgotten"] = chosen["forgotten"] + whole["right_before"] - chosen["right_before"]
    after = summarize(head, changed, costs, items)
    assert [entry["chosen"] for entry in after["entries"]] == [entry["chosen"] for entry in before["entries"]]
    assert entry_of(after, "air", "cpl")["trials"][0]["final"]["B"]["mean"] == 1.0
    changed = copy.deepcopy(lines)
    for row in changed:
        for point in row["trajectory"][1:]:
            for name, chosen in point["validation"].items():
                point["splits"][name]["forgotten"] += chosen["right_before"] - chosen["forgotten"]
                chosen["forgotten"] = chosen["right_before"]
    after = summarize(head, changed, costs, items)
    for one, other in zip(after["entries"], before["entries"], strict=True):
        for a, b in zip(one["trials"], other["trials"], strict=True):
            assert (a["final"], a["at"], a["area"], a["trajectory"]) == (b["final"], b["at"], b["area"], b["trajectory"])


def test_cells_that_never_reach_a_level_are_left_out_and_counted():
    head, lines, costs, items = study()
    found = summarize(head, lines, costs, items)
    for entry in found["entries"]:
        for trial in entry["trials"]:
            for level in LEVELS:
                reaching = [c for c in trial["trajectories"] if max(p["learned"] for p in c["points"]) >= level]
                assert trial["at"][f"{level:g}"]["reached"] == len(reaching)
                assert (trial["at"][f"{level:g}"]["B"] or {"n": 0})["n"] == len(reaching)


def test_a_failed_cell_is_told_and_its_trial_has_one_seed_less():
    found = summarize(*study())
    assert found["cells"] == {"total": 48, "finished": 47, "failed": 1, "pruned": 0}
    assert found["problems"] == [{"cell": "icd-cpl-0.0001-s2", "status": "failed", "reason": "the loss is nan at step 3"}]
    trial = entry_of(found, "icd", "cpl")["trials"][1]
    assert (trial["seeds"], trial["failed"]) == ([0, 1], 1)
    assert closing(found)[0] == "failed: icd-cpl-0.0001-s2: the loss is nan at step 3"


def test_a_method_is_compared_with_the_tuned_baselines_over_their_common_seeds():
    head, lines, costs, items = study()
    found = summarize(head, lines, costs, items)
    entry, none = entry_of(found, "icd", "cpl"), entry_of(found, "icd", "none")
    against = entry["against"]["none"]
    assert (
        against["trial"] == none["chosen"]["trial"] and set(entry["against"]) == {"none", "replay"} and set(none["against"]) == {"replay"}
    )
    own = {r["seed"]: r for r in lines if (r["data"], r["label"], r["trial"]) == ("icd", "cpl", entry["chosen"]["trial"]) and r["right"]}
    theirs = {r["seed"]: r for r in lines if (r["data"], r["label"], r["trial"]) == ("icd", "none", against["trial"])}
    assert against["seeds"] == sorted(own)
    shares = [slow_share(own[s], items["icd"], "B", "0") - slow_share(theirs[s], items["icd"], "B", "0") for s in own]
    assert against["items"]["B"]["difference"] == pytest.approx(sum(shares) / len(shares))


def test_the_frontier_has_means_of_trials_in_order_of_learning():
    found = summarize(*study())
    for entry in found["entries"]:
        points = entry["frontier"]["B"]
        assert points == sorted(points, key=lambda p: p["learned"]) and [p["forgotten"] for p in points] == sorted(
            p["forgotten"] for p in points
        )


def test_a_trial_with_fewer_seeds_than_another_gives_the_frontier_no_point():
    head, lines, costs, items = study()
    whole = entry_of(summarize(head, lines, costs, items), "air", "none")["frontier"]["B"]
    stopped = whole[0]["trial"]
    for row in lines:
        if (row["data"], row["label"], row["trial"]) == ("air", "none", stopped) and row["seed"]:
            row |= {"status": "pruned", "reason": "its trial was in the worse half at the end of seed 0", "trajectory": [], "right": {}}
    entry = entry_of(summarize(head, lines, costs, items), "air", "none")
    assert [trial["seeds"] for trial in entry["trials"] if trial["trial"] == stopped] == [[0]]
    assert entry["frontier"]["B"] and all(point["trial"] != stopped for point in entry["frontier"]["B"])
    for row in lines:  # where none has more than one, each counts
        if (row["data"], row["label"]) == ("air", "none") and row["seed"]:
            row |= {"status": "pruned", "trajectory": [], "right": {}}
    alone = entry_of(summarize(head, lines, costs, items), "air", "none")["frontier"]["B"]
    assert {point["trial"] for point in alone} >= {stopped}


def test_the_table_has_the_chosen_trials_figures_of_the_summary():
    found = summarize(*study())
    level = told_level(found, "air")
    heading, lines = rows(found, "air", level)
    for line, entry in zip(lines, [e for e in found["entries"] if e["data"] == "air"], strict=True):
        trial = entry["trials"][entry["chosen"]["trial"]]
        at = trial["at"][level]
        told = dict(zip(heading, line, strict=True))
        assert told["method"] == entry["label"] and told["chosen"] == f"{trial['lr']:g} adamw"
        assert told["reach"] == f"{at['reached']}/3"
        assert told["B"].split("\n")[0] == (f"{100 * at['B']['mean']:.1f}" if at["B"] else "-")
    assert any(line.startswith("cpl against tuned none, B: ") for line in sentences(found, "air", level))


@pytest.mark.parametrize("share", [0, 0.3, 0.5])
def test_the_items_for_the_choice_are_a_fixed_share_decided_by_ids_alone(share):
    ids = [f"item-{index}" for index in range(20)]
    marks = dict(zip(ids, validation_marks(ids, share), strict=True))
    assert list(marks.values()).count("1") == round(20 * share)
    assert dict(zip(ids[::-1], validation_marks(ids[::-1], share), strict=True)) == marks
