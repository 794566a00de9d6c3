"""A run ends exactly at its limit of steps, killed or not, and soon after its limit of seconds."""

from __future__ import annotations

import json
import signal

import pytest

from cli.world import read_lines, result, train_arguments

STEPS_IN_AN_EPOCH = 5  # 10 inject questions, 2 in a batch


def summary_of(place, name):
    return json.loads((place / name / "summary.json").read_text("utf-8"))


def test_a_limit_of_steps_ends_in_the_middle_of_an_epoch_which_is_scored_and_logged(warm, place):
    assert warm.run(*train_arguments("run", "--max-steps", 7), cwd=place).code == 0
    summary, lines = summary_of(place, "run"), read_lines(place / "run/metrics.jsonl")
    assert (summary["steps"], summary["epochs_run"], summary["stopped_because"]) == (7, 2, "step limit")
    assert [(line["epoch"], line["step"]) for line in lines if line["kind"] == "epoch"] == [(0, 0), (1, 5), (2, 7)]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 8))
    last = [line for line in lines if line["kind"] == "epoch"][-1]
    assert last["splits"]["inject"]["learned"] == summary["learned"]
    assert all(0 <= share <= 1 for share in last["layers"].values())  # means over the steps that were done


def test_a_limit_at_the_end_of_an_epoch_leaves_no_empty_epoch_behind(warm, place):
    assert warm.run(*train_arguments("run", "--max-steps", 2 * STEPS_IN_AN_EPOCH), cwd=place).code == 0
    summary, lines = summary_of(place, "run"), read_lines(place / "run/metrics.jsonl")
    assert (summary["steps"], summary["epochs_run"], summary["stopped_because"]) == (10, 2, "step limit")
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [0, 1, 2]


@pytest.mark.parametrize("limit", [6, 7, 8])  # one of them falls on a checkpoint of --checkpoint-every 2
def test_a_run_with_a_limit_of_steps_goes_on_after_kills_to_the_same_bits(warm, place, limit):
    count = place / "operations.json"
    assert warm.run(*train_arguments("alone", "--max-steps", limit), cwd=place, count=count).code == 0
    operations = json.loads(count.read_text())
    moments = [index for index, name in enumerate(operations, 1) if name.startswith("after replace")]
    for number, at in enumerate(moments[-3 - limit % 2 :: 2]):  # the last checkpoints, the model, the summary
        done = warm.run(*train_arguments(f"run-{number}", "--max-steps", limit), cwd=place, die_at=at)
        assert done.code == -signal.SIGKILL
        assert warm.run(*train_arguments(f"run-{number}", "--max-steps", limit, "--resume"), cwd=place).code == 0
        assert result(place / f"run-{number}") == result(place / "alone")


def test_a_limit_of_seconds_ends_after_the_step_in_which_it_is_reached(warm, place):
    assert warm.run(*train_arguments("run", "--max-seconds", 0.05, epochs=1000), cwd=place).code == 0
    summary = summary_of(place, "run")
    assert summary["stopped_because"] == "time limit" and summary["seconds"] >= 0.05
    seconds = [line["seconds"] for line in read_lines(place / "run/metrics.jsonl") if line["kind"] == "step"]
    assert len(seconds) == summary["steps"] and all(value < 0.05 for value in seconds[:-1])


@pytest.mark.parametrize("flag, value", [("--max-steps", "0"), ("--max-steps", "-3"), ("--max-seconds", "0"), ("--max-seconds", "nan")])
def test_a_limit_that_is_none_is_refused(warm, place, flag, value):
    done = warm.run(*train_arguments("run", flag, value), cwd=place)
    assert done.code == 2 and len(done.lines) == 1 and flag in done.err and not (place / "run").exists()
