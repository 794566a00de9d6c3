"""Question files that differ by seed: each seed is trained, scored and counted on its own; items are paired where both have them."""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from pathlib import Path

import pytest

from cli.world import rows, write_rows
from comparison.conftest import run
from comparison.made_up import cost, items, row
from comparison.world import SIZES
from forgetless.comparison.intervals import item_difference, sign_flip
from forgetless.comparison.plan import read_plan
from forgetless.comparison.result import forgotten_items, marks_by_share, own_items, validation_marks
from forgetless.comparison.run import compare
from forgetless.comparison.summary import summarize
from forgetless.errors import InputError
from forgetless.methods import METHODS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import study_page
import study_raw


@pytest.fixture
def seeded(place):
    """The plan of `comparison.world` with facts to keep that two seeds deal anew, and other facts to learn."""
    keep = [row for name in ("retain", "retain-heldout") for row in rows(name, SIZES[name])]
    for seed in (0, 1):
        random.Random(seed).shuffle(keep)
        write_rows(place / f"retain-{seed}.jsonl", keep[:12])
        write_rows(place / f"retain-heldout-{seed}.jsonl", keep[12:])
        write_rows(place / f"inject-{seed}.jsonl", rows("inject", 12)[seed : seed + 10])
    text = (place / "plan.yaml").read_text("utf-8").replace("seeds: [0]", "seeds: [0, 1]").replace("[3e-3, 1e-2]", "[1e-2]")
    text = text.replace(" inject.jsonl", " inject-{seed}.jsonl").replace(" retain.jsonl", " 'retain-{seed}.jsonl'")
    (place / "plan.yaml").write_text(text.replace("retain-heldout.jsonl", "retain-heldout-{seed}.jsonl"), "utf-8")
    return place


def test_every_seed_is_trained_and_scored_on_its_own_files(seeded):
    found = run(seeded)
    assert found["cells"] == {"total": 4, "finished": 4, "failed": 0, "pruned": 0}
    kept = json.loads((seeded / "study/items.json").read_text("utf-8"))
    assert sorted(kept) == ["data@0", "data@1"] and sorted(path.name for path in (seeded / "study/before").iterdir()) == [
        "data@0.json",
        "data@1.json",
    ]
    for seed in (0, 1):
        for name in ("retain", "retain-heldout", "inject"):
            told = [json.loads(line)["id"] for line in (seeded / f"{name}-{seed}.jsonl").read_text("utf-8").splitlines()]
            assert kept[f"data@{seed}"][name]["ids"] == told
    for line in map(json.loads, (seeded / "study/results.jsonl").read_bytes().splitlines()):
        cell = [json.loads(item) for item in (seeded / "study/cells" / line["cell"] / "items.jsonl").read_text("utf-8").splitlines()]
        for name, part in kept[f"data@{line['seed']}"].items():
            own = [item for item in cell if item["split"] == name]
            assert [item["id"] for item in own] == part["ids"]
            assert line["right"][name] == "".join("01"[item["after"]] for item in own)
    assert sorted(found["items"]) == ["data@0", "data@1"]
    assert found["entries"][0]["trials"][0]["seeds"] == [0, 1]
    again = compare(
        read_plan(seeded / "plan.yaml"), seeded / "study", lambda _: pytest.fail("a job was begun"), METHODS, command="", show=False
    )
    assert again["entries"] == found["entries"]
    raw = study_raw.keep(seeded / "study", "icd10", seeded / "study-of-many" / "study")
    assert json.loads(json.dumps(summarize(*study_raw.restored(json.loads(raw.read_text("utf-8"))))["entries"])) == json.loads(
        json.dumps(found["entries"])
    )
    page = study_page.write(seeded / "study-of-many").read_text("utf-8")
    assert "At 50% learned" in page or "At 20% learned" in page
    assert str(seeded) not in page + raw.read_text("utf-8")


def test_a_comparison_of_one_set_of_files_does_not_go_on_with_files_by_seed(seeded):
    (seeded / "fixed.yaml").write_text((seeded / "plan.yaml").read_text("utf-8").replace("{seed}", "0"), "utf-8")
    text = (seeded / "plan.yaml").read_text("utf-8")
    (seeded / "plan.yaml").write_text((seeded / "fixed.yaml").read_text("utf-8"), "utf-8")
    run(seeded)
    (seeded / "plan.yaml").write_text(text, "utf-8")
    with pytest.raises(InputError, match="has questions 'data', this plan has not"):
        compare(
            read_plan(seeded / "plan.yaml"), seeded / "study", lambda _: pytest.fail("a job was begun"), METHODS, command="", show=False
        )


def test_a_missing_file_of_one_seed_is_named(seeded):
    (seeded / "retain-heldout-1.jsonl").unlink()
    with pytest.raises(InputError, match=r"retain-heldout-1\.jsonl: no such file"):
        run(seeded)
    assert not (seeded / "study").exists()


def test_a_data_set_called_like_another_at_a_seed_is_refused(seeded):
    text = (seeded / "plan.yaml").read_text("utf-8")
    start, end = text.index("data:\n"), text.index("methods:")
    (seeded / "plan.yaml").write_text(
        f"{text[:start]}data:\n  a: {{inject: 'inject-{{seed}}.jsonl'}}\n  a@1: {{inject: inject-0.jsonl}}\n{text[end:]}", "utf-8"
    )
    with pytest.raises(InputError, match="'a@1' is what the questions of another data set are called"):
        read_plan(seeded / "plan.yaml")


def test_an_item_serves_the_choice_at_every_seed_or_at_none():
    ids = [f"item-{index}" for index in range(400)]
    whole = dict(zip(ids, marks_by_share(ids, 0.3), strict=True))
    for seed in range(4):
        drawn = random.Random(seed).sample(ids, 60)
        assert marks_by_share(drawn, 0.3) == "".join(whole[one] for one in drawn)
    assert 80 < Counter(whole.values())["1"] < 160 and "1" not in marks_by_share(ids, 0.0)
    by_rank = [dict(zip(part, validation_marks(part, 0.3), strict=True)) for part in (ids[:60], ids)]
    assert any(by_rank[0][one] != by_rank[1][one] for one in by_rank[0])  # which is why ranks would not do


def made_up(seeds=(0, 1, 2)):
    """Rows of two methods where each seed has another part of the same facts."""
    known = {}
    for seed in seeds:
        part = known[f"air@{seed}"] = items(seed)
        for name, own in part.items():
            offset = 0 if name.startswith("inject") else 7 * seed
            own["ids"] = [f"{name}-{index + offset}" for index in range(len(own["ids"]))]
            own["validation"] = own["validation"] if name.startswith("inject") else marks_by_share(own["ids"], 0.4)
    rows = [row("air", label, 1e-4, seed, 0, known[f"air@{seed}"]) for label in ("none", "replay") for seed in seeds]
    head = {"levels": [0.5], "baselines": ["none"]}
    return head, rows, [cost(one) for one in rows], known


def test_figures_are_counted_on_each_seeds_own_test_items():
    head, lines, costs, known = made_up()
    found = summarize(head, lines, costs, known)
    for entry in found["entries"]:
        for kind in "ABC":
            shares = []
            for line in (line for line in lines if line["label"] == entry["label"]):
                lost = known_before = 0
                for name, part in known[f"air@{line['seed']}"].items():
                    for before, mark, after in zip(part["before"], part["validation"], line["right"][name], strict=True):
                        if part["kind"] == kind and (before, mark) == ("1", "0"):
                            known_before, lost = known_before + 1, lost + (after == "0")
                shares.append(lost / known_before)
            assert entry["trials"][0]["final"][kind]["mean"] == pytest.approx(sum(shares) / 3)


def test_items_are_paired_over_the_seeds_that_have_them():
    head, lines, costs, known = made_up()
    test = summarize(head, lines, costs, known)["entries"][1]["against"]["none"]["items"]["B"]
    sums: dict[str, int] = {}
    verdicts = 0
    for seed in (0, 1, 2):
        plain, own = ({line["label"]: line for line in lines if line["seed"] == seed}[label] for label in ("none", "replay"))
        part = known[f"air@{seed}"]["retain-heldout"]
        for index, one in enumerate(part["ids"]):
            if part["before"][index] == "1" and part["validation"][index] == "0":
                lost = [line["right"]["retain-heldout"][index] == "0" for line in (own, plain)]
                sums[one] = sums.get(one, 0) + lost[0] - lost[1]
                verdicts += 1
    assert test["n"] == len(sums) < verdicts and test["difference"] == pytest.approx(sum(sums.values()) / verdicts)
    assert test["p"] == pytest.approx(sign_flip(list(sums.values())))
    assert (test["worse"], test["better"]) == (sum(v > 0 for v in sums.values()), sum(v < 0 for v in sums.values()))


def test_methods_with_different_items_at_a_seed_are_not_paired():
    _, lines, _, known = made_up()
    first = forgotten_items(lines[0], own_items(lines[0], known), "B")
    with pytest.raises(ValueError, match="different items"):
        item_difference([first], [dict(list(first.items())[1:])])
