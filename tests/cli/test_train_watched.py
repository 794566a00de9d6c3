"""``forgetless train --watch --watch-steps --tensorboard``: what it adds, that it changes no weight, and that it resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cli.world import read_lines, train_arguments

FLAGS = ("--watch", "--watch-steps", "--tensorboard")


@pytest.fixture(scope="module")
def ran(warm: Any, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run that was watched and one that was not."""
    import os

    place = tmp_path_factory.mktemp("watched")
    for file in base.glob("*.jsonl"):
        (place / file.name).write_bytes(file.read_bytes())
    os.symlink(base / "model", place / "model")
    for out, more in (("plain", ()), ("watched", FLAGS)):
        done = warm.run(*train_arguments(out, *more, epochs=2), cwd=place)
        assert done.code == 0, done.err
    return place


def test_the_weights_are_the_same_and_the_lines_say_more(ran: Path) -> None:
    assert (ran / "plain/model/model.safetensors").read_bytes() == (ran / "watched/model/model.safetensors").read_bytes()
    plain, watched = read_lines(ran / "plain/metrics.jsonl"), read_lines(ran / "watched/metrics.jsonl")
    steps = [line for line in watched if line["kind"] == "step"]
    assert all(set(line["first_order"]) == {"predicted", "real"} for line in steps)
    epochs = [line for line in watched if line["kind"] == "epoch" and line["epoch"]]
    for line in epochs:
        assert set(line["kl"]) == {"inject", "retain"} and line["kl"]["inject"]["forward"]["mean"] > 0
        assert line["moved"].keys() == {"0", "1", "outside"} and -1 <= line["circuit"] <= 1
        assert set(line["flips"]) == {"0", "1", "outside"}, "of the refreshes in it, by layer"
    assert epochs[1]["kl"]["inject"]["forward"]["mean"] > epochs[0]["kl"]["inject"]["forward"]["mean"]
    assert not any("sign_flips_by_layer" in line.get("method", {}) for line in (*plain, *watched))
    assert [line["loss"] for line in plain if line["kind"] == "step"] == [line["loss"] for line in steps]
    real = [line["first_order"]["real"] for line in steps]
    assert any(value != 0 for value in real)


def test_tensorboard_holds_the_same_numbers(ran: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(ran / "watched/tensorboard"))
    events.Reload()
    steps = [line for line in read_lines(ran / "watched/metrics.jsonl") if line["kind"] == "step"]
    told = events.Scalars("step/loss")
    assert [event.step for event in told] == [line["step"] for line in steps]
    assert [event.value for event in told] == pytest.approx([line["loss"] for line in steps], rel=1e-6)
    assert {"step/method/conflicting_fraction", "epoch/kl/inject/forward/mean", "epoch/moved/0", "epoch/circuit"} <= set(
        events.Tags()["scalars"]
    )
    assert not (ran / "plain/tensorboard").exists()


def test_a_killed_run_goes_on_to_the_same_lines(warm: Any, ran: Path) -> None:
    arguments = train_arguments("killed", *FLAGS, epochs=2)
    assert warm.run(*arguments, cwd=ran, die_at=30).code == -9
    assert not (ran / "killed/summary.json").exists() and (ran / "killed/metrics.jsonl").exists()
    done = warm.run(*arguments, "--resume", cwd=ran)
    assert done.code == 0, done.err
    lines = [
        [{k: v for k, v in line.items() if k != "seconds"} for line in read_lines(ran / name / "metrics.jsonl")]
        for name in ("killed", "watched")
    ]
    assert lines[0] == lines[1]


def test_the_page_draws_it(warm: Any, ran: Path) -> None:
    done = warm.run("report", "watched", "plain", "--out", "page.html", cwd=ran)
    assert done.code == 0, done.err
    page = (ran / "page.html").read_text("utf-8")
    for chart in ("kl-inject", "kl-retain", "circuit", "moved", "flips", "first-order"):
        assert f'id="chart-{chart}"' in page
    assert json.loads((ran / "watched/summary.json").read_text())["steps"] > 0


def test_steps_cannot_be_watched_without_a_retain_set(warm: Any, place: Path) -> None:
    arguments = ["train", "--model", "model", "--inject", "inject.jsonl", "--method", "none", "--watch-steps", "--out", "run", "--json"]
    done = warm.run(*arguments, cwd=place)
    assert done.code == 2 and "--watch-steps" in done.err and not (place / "run").exists()
