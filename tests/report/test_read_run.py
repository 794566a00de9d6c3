"""Reading run folders: what fits is read whole, what does not is an InputError that says where."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forgetless.errors import InputError
from forgetless.report.figures import disagreements, figures, labels
from forgetless.report.numbers import Share
from forgetless.report.read_run import read_run
from report.folders import write_run


def test_a_finished_run_is_read_whole(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "cpl", items=40, epochs=3, steps=30)
    run = read_run(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert run.finished and run.method == "cpl" and run.seed == 0
    assert len(run.steps) == 30 and [epoch.epoch for epoch in run.epochs] == [0, 1, 2, 3]
    assert len(run.items) == 5 * 40
    assert run.probes == ("other-kinds",)
    assert run.summary is not None and run.summary.learned == summary["learned"] and run.notes == ()
    assert figures(run).forgotten["retain"] == Share(summary["forgotten"], summary["retain_total"])
    assert disagreements(run) == []


def test_an_unfinished_run_is_read_with_its_last_epoch_and_a_torn_line_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    metrics = folder / "metrics.jsonl"
    whole = metrics.read_text()
    last = json.loads(whole.splitlines()[-1])
    metrics.write_text(whole + '{"kind":"step","step":9')
    run = read_run(folder)
    assert not run.finished and len(run.notes) == 2
    assert "cut off" in run.notes[0] and "Unfinished" in run.notes[1]
    learned = figures(run).learned
    assert learned is not None and learned.count == last["splits"]["inject"]["learned"]


def test_a_torn_line_of_a_finished_run_is_an_error_with_its_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    metrics = folder / "metrics.jsonl"
    lines = metrics.read_text().count("\n")
    metrics.write_text(metrics.read_text() + '{"kind":"step"')
    with pytest.raises(InputError, match=rf"metrics\.jsonl:{lines + 1}"):
        read_run(folder)


def test_a_missing_folder_and_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no run folder: it has no config\.yaml"):
        read_run(tmp_path)
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(InputError, match="is not a folder"):
        read_run(file)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("summary.json", "learned", "12", "'learned' must be a whole number, not str"),
        ("summary.json", "learned", True, "'learned' must be a whole number, not bool"),
        ("summary.json", "seconds", None, "'seconds' is missing"),
        ("summary.json", "probes", [1], "must be a mapping of keys to values, not list"),
        ("summary.json", "learned", -1, "'learned' is -1, and there are"),
        ("summary.json", "learned", 10_000, "'learned' is 10000, and there are"),
        ("summary.json", "learned_heldout", 10_000, "'learned_heldout' is 10000, and there are"),
        ("summary.json", "forgotten", 10_000, "'forgotten' is 10000, and there are"),
        ("summary.json", "forgotten_heldout", -2, "'forgotten_heldout' is -2, and there are"),
        ("summary.json", "probes", {"other": {"total": 3, "forgotten": 4}}, "probes.other: 'forgotten' is 4, and there are 3 to count"),
        ("summary.json", "probes", {"a\nb\x1b[31m": None}, r"probes.a\nb\x1b[31m: must be a mapping of keys to values, not null"),
        ("summary.json", "budget", {"allowed": 0.1, "forgotten": 3, "total": 2}, "budget: 'forgotten' is 3, and there are 2 to count"),
        ("items.jsonl", "before", 1, "'before' must be true or false, not int"),
        ("items.jsonl", "prompt", None, "'prompt' is missing"),
        ("metrics.jsonl", "kind", "other", "'kind' must be 'step' or 'epoch', not 'other'"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, name: str, key: str, value: object, message: str) -> None:
    folder = write_run(tmp_path / "run")
    first, *rest = (folder / name).read_text().split("\n")
    (folder / name).write_text("\n".join([json.dumps({**json.loads(first), key: value}), *rest]))
    with pytest.raises(InputError) as caught:
        read_run(folder)
    assert message in str(caught.value) and name in str(caught.value)


@pytest.mark.parametrize(
    ("change", "of"),
    [
        ({"right": 9}, "'right' is 9, and there are 8 to count"),
        ({"learned": 4}, "'learned' is 4, and there are 3 to count"),
        ({"forgotten": 6}, "'forgotten' is 6, and there are 5 to count"),
    ],
)
def test_nothing_is_learned_or_forgotten_beyond_what_was_wrong_or_right_before(tmp_path: Path, change: dict[str, int], of: str) -> None:
    folder = write_run(tmp_path / "run", finished=False)
    counts = {"total": 8, "right": 5, "learned": 0, "forgotten": 0}
    lines = [{"kind": "epoch", "epoch": n, "step": n, "seconds": 1.0, "splits": {"retain": counts}} for n in range(2)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_run(folder).epochs[1].splits["retain"].right == 5
    lines[1]["splits"] = {"retain": counts | change}
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError) as caught:
        read_run(folder)
    assert of in str(caught.value) and "metrics.jsonl:2, splits.retain" in str(caught.value)


def test_a_summary_that_miscounts_its_items_is_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    summary["forgotten"] += 1
    (folder / "summary.json").write_text(json.dumps(summary))
    (problem,) = disagreements(read_run(folder))
    assert f"{summary['forgotten']} of {summary['retain_total']} forgotten on retain" in problem


def test_missing_items_are_noted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "items.jsonl").unlink()
    run = read_run(folder)
    assert run.items == () and "items.jsonl is missing" in run.notes[0]


def test_labels_are_short_and_distinct(tmp_path: Path) -> None:
    runs = [
        read_run(write_run(tmp_path / name, method=method, seed=seed, items=16))
        for name, method, seed in (("a", "cpl", 0), ("b", "none", 0), ("c", "none", 1), ("d", "none", 1))
    ]
    assert labels(runs) == ["cpl", "none seed 0", "none seed 1 (c)", "none seed 1 (d)"]
    assert labels([runs[0], runs[0]]) == ["cpl seed 0 (a) #1", "cpl seed 0 (a) #2"]
