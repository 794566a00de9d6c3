"""``forgetless train --budget``: its verdict, its exit codes, its folder; and a kill at any moment changes nothing."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from cli.world import WORDS, read_lines, rows, snapshot, write_rows
from forgetless.data.reading import read_questions
from forgetless.guard.evidence import upper

BREAKING = ["--lr", "1e-2", "--epochs", 6, "--budget", 0.1, "--budget-every", 2]


@pytest.fixture
def place(place):
    """The folder of the command line's tests, with what the model knows in one file."""
    known = [row for name, count in (("retain", 8), ("retain-heldout", 6), ("other", 4)) for row in rows(name, count)]
    write_rows(place / "known.jsonl", known)
    return place


def arguments(out, *more, method="none", retain="known.jsonl"):
    plain = ["train", "--model", "model", "--inject", "inject.jsonl", "--retain", retain, "--method", method, "--batch-size", 2]
    return [str(part) for part in [*plain, "--retain-batch-size", 4, "--checkpoint-every", 2, "--out", out, "--json", *more]]


def without_times(line):
    return {key: value for key, value in line.items() if key not in ("seconds", "eval_seconds", "share_of_training", "peak_memory_bytes")}


def result(run: Path):
    """What two equal runs share: weights, items, metrics, looks and acts, and the summary, without the times."""
    summary = without_times(json.loads((run / "summary.json").read_text("utf-8")))
    summary["budget"] = without_times(summary["budget"])
    lines = [[without_times(line) for line in read_lines(run / name)] for name in ("metrics.jsonl", "budget.jsonl")]
    return (run / "model/model.safetensors").read_bytes(), (run / "items.jsonl").read_bytes(), *lines, summary


def test_a_budget_that_is_kept_exits_0_and_the_verdict_is_that_of_the_items(warm, place):
    done = warm.run(*arguments("run", "--lr", "1e-7", "--epochs", 1, "--budget", 0.1), cwd=place)
    assert done.code == 0, done.err
    summary = json.loads((place / "run/summary.json").read_text("utf-8"))
    budget, items = summary["budget"], read_lines(place / "run/items.jsonl")
    asked = [item for item in items if item["split"] == "retain-heldout" and item["before"]]
    assert budget["total"] == len(asked) > 0
    assert budget["forgotten"] == sum(not item["after"] for item in asked) == 0
    assert (budget["kept"], budget["acts"], budget["blend"]) == (True, 0, None)
    assert budget["upper"] == pytest.approx(upper(0, len(asked)))
    assert budget["verdict"] in summary["verdict"]
    assert "kept on the sample" in budget["verdict"]
    assert [line["kind"] for line in read_lines(place / "run/budget.jsonl")] == ["start", *["look"] * budget["looks"]]


def test_method_guard_and_promise_see_different_items_and_all_of_them(warm, place):
    done = warm.run(*arguments("run", "--lr", "1e-7", "--epochs", 1, "--budget", 0.1), cwd=place)
    assert done.code == 0, done.err
    dealt = {name: [] for name in ("retain", "budget-probe", "retain-heldout")}
    for item in read_lines(place / "run/items.jsonl"):
        if item["split"] in dealt:
            dealt[item["split"]].append(item["id"])
    every = [question.id for question in read_questions(place / "known.jsonl")]
    assert sorted(name for part in dealt.values() for name in part) == sorted(every)
    assert all(dealt.values())
    lines = read_lines(place / "run/metrics.jsonl")
    epochs = [line["splits"] for line in lines if line["kind"] == "epoch" and line["epoch"]]
    assert [list(splits) for splits in epochs] == [["inject"]], "the promise's items wait for the end"


def test_a_broken_budget_exits_3_and_leaves_a_whole_folder(warm, place):
    """What is learned says the opposite of the promise's items, and the probe knows nothing of it."""
    promised = rows("other", 4)
    wrong = [WORDS[(WORDS.index(row["answer"]) + 1) % len(WORDS)] for row in promised]
    against = [
        {"id": f"{row['id']}-{n}", "prompt": "!" * n + row["prompt"], "answer": word}
        for row, word in zip(promised, wrong, strict=True)
        for n in (1, 2, 3)
    ]
    write_rows(place / "inject.jsonl", against)
    more = ["--retain-heldout", "other.jsonl", "--lr", "1e-2", "--epochs", 20, "--budget", 0.3, "--budget-every", 1000]
    done = warm.run(*arguments("run", *more, method="replay", retain="retain.jsonl"), cwd=place)
    assert done.code == 3, done.err
    summary = json.loads(done.out)
    assert summary["budget"]["kept"] is False
    assert summary["budget"]["forgotten"] > 0.3 * summary["budget"]["total"]
    assert "The promise was broken" in summary["verdict"]
    assert {"model", "items.jsonl", "summary.json", "budget.jsonl", "config.yaml"} <= {path.name for path in (place / "run").iterdir()}
    again = warm.run(*arguments("run", *more, "--resume", method="replay", retain="retain.jsonl"), cwd=place)
    assert (again.code, json.loads(again.out)) == (3, summary), "a finished run says the same again"


@pytest.fixture(scope="module")
def alone(warm, base, tmp_path_factory):
    """A run whose guard tightens, lowers the rate and goes back, left alone."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "model").symlink_to(base / "model")
    for name, count in (("inject", 10), ("retain", 8)):
        write_rows(folder / f"{name}.jsonl", rows(name, count))
    write_rows(
        folder / "known.jsonl", [row for name, count in (("retain", 8), ("retain-heldout", 6), ("other", 4)) for row in rows(name, count)]
    )
    done = warm.run(*arguments("alone", *BREAKING), cwd=folder, count=folder / "operations.json")
    assert done.code in (0, 3), done.err
    acts = [line["act"] for line in read_lines(folder / "alone/budget.jsonl") if line["kind"] == "act"]
    assert {"tighten", "roll back", "lower the rate"} <= set(acts)
    return folder, done.code, result(folder / "alone"), json.loads((folder / "operations.json").read_text("utf-8"))


def test_a_run_killed_while_the_guard_acts_goes_on_to_the_same_bits(warm, alone):
    """Killed by itself at durable operations spread over the run, and resumed until it ends."""
    folder, code, expected, operations = alone
    places = random.Random(1).sample(range(1, len(operations)), 5)
    for number, place in enumerate(sorted(places)):
        done = warm.run(*arguments(f"run-{number}", *BREAKING, "--resume"), cwd=folder, die_at=place)
        assert done.code == -signal.SIGKILL
        done = warm.run(*arguments(f"run-{number}", *BREAKING, "--resume"), cwd=folder)
        assert done.code == code, done.err
        for name, one, other in zip(
            ("weights", "items", "metrics", "budget", "summary"), result(folder / f"run-{number}"), expected, strict=True
        ):
            assert one == other, f"{name}: killed at operation {place} of {len(operations)}"


def test_resuming_with_another_budget_is_refused(warm, alone):
    folder, *_ = alone
    more = [0.2 if part == 0.1 else part for part in BREAKING]
    done = warm.run(*arguments("alone", *more, "--resume"), cwd=folder)
    assert done.code == 2
    assert "budget = 0.1, this command 0.2" in done.err


def test_an_adapter_keeps_a_budget_too_and_is_merged(warm, place):
    done = warm.run(*arguments("run", "--lr", "3e-2", "--epochs", 4, "--budget", 0.1, "--budget-every", 2, method="lora"), cwd=place)
    assert done.code in (0, 3), done.err
    lines = read_lines(place / "run/budget.jsonl")
    assert any(line["kind"] == "act" for line in lines)
    summary = json.loads((place / "run/summary.json").read_text("utf-8"))
    assert summary["budget"]["probe"]["forgotten"] <= 0.1 * summary["budget"]["probe"]["total"]
    probe = ["eval", "--model", "run/model", "--data", "known.jsonl", "--out", "eval.json", "--json"]
    assert warm.run(*probe, cwd=place).code == 0


def test_a_last_resort_blends_or_goes_back_where_training_ends_over_the_budget(warm, place):
    more = ["--lr", "3e-2", "--epochs", 3, "--budget", 0.1, "--budget-every", 1000]
    for flag in ("--blend", "--no-blend"):
        done = warm.run(*arguments(flag.strip("-"), *more, flag), cwd=place)
        assert done.code in (0, 3), done.err
        (act,) = [line for line in read_lines(place / flag.strip("-") / "budget.jsonl") if line["kind"] == "act"][-1:]
        budget = json.loads((place / flag.strip("-") / "summary.json").read_text("utf-8"))["budget"]
        assert act["act"] in (("blend", "roll back") if flag == "--blend" else ("roll back",))
        assert (budget["blend"] is not None) == (act["act"] == "blend")
        assert budget["probe"]["forgotten"] <= 0.1 * budget["probe"]["total"]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--budget", "1"], "--budget: 1.0 is not allowed. Give a number from 0 up, and below 1"),
        (["--budget", "-0.1"], "--budget: -0.1 is not allowed"),
        (["--budget", "nan"], "--budget: nan is not allowed"),
        (["--budget", "7"], "--budget: 7.0 is not allowed"),
        (["--blend"], "--blend: there is no budget"),
        (["--budget-every", "4"], "--budget-every: there is no budget"),
        (["--budget", "0.1", "--budget-every", "0"], "--budget-every: 0 is not allowed"),
        (["--budget", "0.1", "--limit", "1"], "too few for a reference, a probe and a promise"),
        (["--budget", "0.1", "--probe", "budget-probe=other.jsonl"], "not budget-probe"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused_and_nothing_is_written(warm, place, more, told):
    before = snapshot(place)
    done = warm.run(*arguments("run", *more), cwd=place)
    assert done.code == 2
    assert told in done.err
    assert len(done.lines) == 1
    assert snapshot(place) == before


def test_a_budget_without_a_retain_set_is_refused(warm, place):
    done = warm.run("train", "--model", "model", "--inject", "inject.jsonl", "--method", "none", "--budget", 0.1, "--out", "run", cwd=place)
    assert done.code == 2
    assert "--budget: it needs a retain set" in done.err


def test_a_model_that_knows_nothing_of_it_is_refused(warm, place):
    write_rows(place / "known.jsonl", [{"id": str(n), "prompt": f"zzz {n}?", "answer": "xylophone"} for n in range(12)])
    done = warm.run(*arguments("run", "--budget", 0.1), cwd=place)
    assert done.code == 2
    assert "nothing to keep" in done.err
    assert not (place / "run").exists()
