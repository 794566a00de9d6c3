"""The verdict follows the runs: each outcome is made on purpose, and the sentences must say that one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forgetless.report import read_run, verdict_sentences
from forgetless.report.contrast import baseline_of
from report.folders import count, write_lines, write_run


def made(tmp_path: Path, method: str, *, learned: int, forgotten: int, seed: int = 0, **more: Any) -> Path:
    """A run of 112 items a split that learned ``learned`` of 105 new items and forgot ``forgotten`` of 105 held-out ones."""
    folder = write_run(tmp_path / f"{method}-{seed}", method=method, items=112, seed=seed, probes=(), keep=1.0, **more)
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    left = {"inject": learned, "retain-heldout": forgotten}
    for row in rows:
        if row["split"] in left and row["before"] == (row["split"] != "inject"):
            row["after"] = (left[row["split"]] > 0) == (row["split"] == "inject")
            left[row["split"]] -= 1
    assert count(rows, "inject", False, True) == learned and count(rows, "retain-heldout", True, False) == forgotten
    write_lines(folder / "items.jsonl", rows)
    path = folder / "summary.json"
    summary = json.loads(path.read_text()) | {"learned": learned, "forgotten_heldout": forgotten}
    path.write_text(json.dumps(summary))
    return folder


@pytest.mark.parametrize(
    ("cpl", "none", "expected"),
    [
        ((95, 5), (95, 30), "cpl forgot less than none at equal learning: 5 of 105 against 30 of 105"),
        ((95, 30), (96, 5), "cpl forgot more than none at equal learning: 30 of 105 against 5 of 105"),
        ((95, 8), (95, 10), "No proven difference in forgetting between cpl and none at equal learning"),
        ((95, 10), (95, 10), "cpl and none forgot the same at equal learning"),
        ((40, 5), (95, 30), "cpl forgot less than none but also learned less, so neither is better at face value"),
        ((95, 30), (40, 5), "cpl forgot more than none but also learned more, so neither is better at face value"),
        ((95, 5), (40, 30), "cpl learned more than none and forgot less"),
        ((40, 30), (95, 5), "cpl learned less than none and forgot more"),
        ((40, 8), (95, 10), "cpl learned less than none (learned 38% against 90%), with no proven difference in forgetting"),
        ((95, 5), (98, 30), "which is not equal, but within noise"),
    ],
)
def test_the_headline_says_what_happened(tmp_path: Path, cpl: tuple[int, int], none: tuple[int, int], expected: str) -> None:
    runs = [made(tmp_path, "cpl", learned=cpl[0], forgotten=cpl[1]), made(tmp_path, "none", learned=none[0], forgotten=none[1])]
    sentences = verdict_sentences(runs)
    assert expected in sentences[0]
    equal = abs(cpl[0] - none[0]) <= 2
    assert any("are at equal learning" in sentence for sentence in sentences) == equal
    assert any("are not at equal learning" in sentence for sentence in sentences) == (not equal)
    assert sentences == verdict_sentences([read_run(folder) for folder in runs])


def test_a_run_is_told_with_counts_interval_and_time(tmp_path: Path) -> None:
    runs = [made(tmp_path, "cpl", learned=95, forgotten=7, steps=48), made(tmp_path, "none", learned=95, forgotten=30, steps=48)]
    own = verdict_sentences(runs)[1]
    assert own.startswith("cpl learned 95 of 105 new items (90%)")
    assert "7 of 105 held-out items of the same kinds (6.7%, 95% interval 2.7% to 13%)" in own
    assert own.endswith("2.6x the time of none.")


def test_the_epoch_of_equal_learning_is_looked_up(tmp_path: Path) -> None:
    runs = [made(tmp_path, "cpl", learned=60, forgotten=3), made(tmp_path, "none", learned=100, forgotten=40)]
    metrics = runs[1] / "metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    second = next(row for row in rows if row["kind"] == "epoch" and row["epoch"] == 2)
    second["splits"]["inject"]["learned"], second["splits"]["retain-heldout"]["forgotten"] = 61, 17
    write_lines(metrics, rows)
    told = [sentence for sentence in verdict_sentences(runs) if sentence.startswith("After epoch")]
    assert len(told) == 1
    assert told[0].startswith("After epoch 2, where it was at equal learning (58%), none had forgotten")
    assert "17 of 105 held-out items of the same kinds" in told[0]


def test_of_plain_runs_the_strongest_is_one_that_was_measured_and_learned_the_same(tmp_path: Path) -> None:
    cpl, measured, more = (
        read_run(write_run(tmp_path / name, method=method, items=64, keep=keep, heldout=heldout))
        for name, method, keep, heldout in (("cpl", "cpl", 0.95, True), ("a", "none", 0.7, True), ("b", "none", 0.7, False))
    )
    assert baseline_of(cpl, [cpl, more, measured]) is measured
    assert any("held-out" in sentence for sentence in verdict_sentences([cpl, more, measured]) if "Forgotten at the end" in sentence)
    kept = read_run(write_run(tmp_path / "c", method="none", items=64, keep=1.0))
    assert baseline_of(cpl, [cpl, measured, kept]) is kept
    others = replace(kept, items=tuple(replace(item, prompt=f"{item.prompt}!") for item in kept.items))
    assert baseline_of(cpl, [cpl, measured, others]) is measured


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    runs = [made(tmp_path, "cpl", learned=95, forgotten=5), made(tmp_path, "none", learned=95, forgotten=30, model="another")]
    assert "cannot be compared: they trained different models (smollm2-135m and another)" in verdict_sentences(runs)[0]


def test_without_items_a_difference_is_called_untested(tmp_path: Path) -> None:
    runs = [made(tmp_path, "cpl", learned=95, forgotten=5), made(tmp_path, "none", learned=95, forgotten=30)]
    (runs[1] / "items.jsonl").unlink()
    assert "not tested item by item" in verdict_sentences(runs)[0]


def test_one_run_an_unfinished_run_and_the_limits(tmp_path: Path) -> None:
    alone = made(tmp_path, "none", learned=95, forgotten=30)
    assert "nothing to compare it with" in verdict_sentences([alone])[-1]
    unfinished = write_run(tmp_path / "unfinished", method="ewc", finished=False)
    assert any(sentence.startswith("ewc is unfinished; so far it learned") for sentence in verdict_sentences([alone, unfinished]))
    seeded = [alone, made(tmp_path, "none", learned=95, forgotten=28, seed=1)]
    assert not any("with one seed" in sentence for sentence in verdict_sentences(seeded))


def test_budget_and_broken_promise(tmp_path: Path) -> None:
    folder = made(tmp_path, "cpl", learned=95, forgotten=20, budget=0.01, violation=0.0002)
    sentences = verdict_sentences([folder])
    assert any(s.startswith("The budget of cpl was to forget at most 1%") and "over on held-out items" in s for s in sentences)
    assert any("broke its promise" in s and "2.0e-04" in s for s in sentences)


def test_several_methods_are_grouped_by_outcome(tmp_path: Path) -> None:
    runs = [
        made(tmp_path, name, learned=95, forgotten=forgot)
        for name, forgot in (("none", 30), ("cpl", 5), ("replay", 6), ("lwf", 29), ("si", 60))
    ]
    headline = verdict_sentences(runs)[0]
    assert headline == (
        "Against none (held-out items of the same kinds): cpl and replay forgot less at equal learning; "
        "lwf showed no proven difference in forgetting, at equal learning; si forgot more at equal learning."
    )
