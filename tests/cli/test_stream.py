"""``forgetless stream`` as a user runs it."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import yaml

FEW = ["--stream", "split-digits", "--seeds", "2", "--steps", "25", "--batch-size", "32"]


@pytest.fixture(scope="module")
def forgetless(warm):
    return lambda *arguments, cwd=None: warm.run(*map(str, arguments), cwd=cwd or Path.cwd())


@pytest.fixture(scope="module")
def folder(forgetless, tmp_path_factory):
    out = tmp_path_factory.mktemp("stream") / "replay"
    found = forgetless("stream", *FEW, "--setting", "class", "--method", "replay", "--method-arg", "replay.capacity=200", "--out", out)
    assert found.code == 0, found.err
    assert "accuracy in %, mean of 2 seeds" in found.out and "ACC:" in found.out
    return out


def test_the_folder_agrees_with_itself(folder):
    matrix = json.loads((folder / "matrix.json").read_text())
    items = [json.loads(line) for line in (folder / "items.jsonl").read_text().split("\n") if line]
    assert matrix["n_seeds"] == 2 and len(matrix["tasks"]) == 5
    for seed, record in enumerate(matrix["seeds"]):
        own = [item for item in items if item["seed"] == seed]
        for index, task in enumerate(matrix["tasks"]):
            rows = [item["right"] for item in own if item["task"] == task]
            for after in range(index, 5):
                assert sum(right[after - index] for right in rows) / len(rows) == pytest.approx(record["accuracy"][after][index])
    mean = sum(record["accuracy"][4][0] for record in matrix["seeds"]) / 2
    assert matrix["mean"][4][0] == pytest.approx(mean)
    assert matrix["figures"]["acc"]["mean"] == pytest.approx(sum(sum(record["accuracy"][4]) / 5 for record in matrix["seeds"]) / 2)
    assert matrix["state_bytes"] > 100 * 64 and matrix["seconds"]["mean"] > 0
    assert yaml.safe_load((folder / "config.yaml").read_text())["method_args"] == {"replay": {"capacity": 200}}
    assert "<table" in (folder / "report.html").read_text()


def test_a_finished_seed_is_not_run_again_and_more_may_be_added(folder, forgetless):
    before = (folder / "seeds" / "seed-0.json").stat().st_mtime_ns
    arguments = [*FEW[:2], "--seeds", "3", *FEW[4:], "--setting", "class", "--method", "replay", "--method-arg", "replay.capacity=200"]
    found = forgetless("stream", *arguments, "--resume", "--json", "--out", folder)
    assert found.code == 0, found.err
    assert json.loads(found.out)["n_seeds"] == 3
    assert (folder / "seeds" / "seed-0.json").stat().st_mtime_ns == before


def test_one_page_shows_several_methods(folder, forgetless, tmp_path):
    out = tmp_path / "none"
    assert forgetless("stream", *FEW, "--setting", "class", "--method", "none", "--out", out).code == 0
    found = forgetless("report", folder, out, "--out", tmp_path / "page.html")
    assert found.code == 0, found.err
    page = (tmp_path / "page.html").read_text()
    assert "replay: after 5 tasks" in page and "none: after 5 tasks" in page
    none, replay = (json.loads((place / "matrix.json").read_text())["figures"]["acc"]["mean"] for place in (out, folder))
    assert replay > none + 0.2


def test_question_files_make_a_stream_of_their_own(forgetless, place):
    """The tiny model of the command-line tests, through two question files."""
    stream = ["--stream", "inject.jsonl,other.jsonl", "--model", "model", "--setting", "domain", "--seeds", "1", "--epochs", "30"]
    for method in ("none", "replay", "cpl", "lora"):
        setting = ["--setting", "task"] if method == "lora" else []
        found = forgetless("stream", *stream, *setting, "--lr", "5e-3", "--method", method, "--out", method, cwd=place)
        assert found.code == 0, found.err
        matrix = json.loads((place / method / "matrix.json").read_text())
        assert [task for task in matrix["tasks"]] == ["inject", "other"] and matrix["mean"][0][0] > 0.5, method
    assert len(matrix["heldout"]) == 2 and matrix["heldout"][1][0] is not None  # inject-heldout.jsonl stands beside it
    assert "inject 0 is" in (place / "replay" / "report.html").read_text()


def test_probes_are_asked_after_every_task(forgetless, place):
    stream = [
        "--stream",
        "inject.jsonl,other.jsonl",
        "--model",
        "model",
        "--setting",
        "domain",
        "--seeds",
        "1",
        "--epochs",
        "20",
        "--lr",
        "5e-3",
    ]
    found = forgetless("stream", *stream, "--probe", "kept=retain.jsonl", "--out", "probed", cwd=place)
    assert found.code == 0, found.err
    probe = json.loads((place / "probed/matrix.json").read_text())["probes"]["kept"]
    rows = [json.loads(line) for line in (place / "probed/probes.jsonl").read_text().splitlines()]
    known = json.loads(forgetless("eval", "--model", "model", "--data", "retain.jsonl", "--out", "known.json", "--json", cwd=place).out)
    assert probe["known"] == [known["models"][0]["right"]] == [len(rows)] and rows
    lost = [sum(not row["right"][after] for row in rows) / len(rows) for after in range(2)]
    assert probe["forgotten"] == pytest.approx(lost) and max(lost) > 0 and probe["se"] == [None, None]
    assert f"forgotten of kept ({len(rows)} known before) after each task" in found.out
    assert (place / "probed/report.html").read_text().count('data-testid="probe"') == 1
    again = forgetless("stream", *stream, "--out", "probed", "--resume", cwd=place)
    assert again.code == 2 and "probes" in again.err
    (place / "empty.jsonl").write_text("")
    (place / "twice.jsonl").write_text('{"id": "same", "prompt": "one", "answer": "1"}\n{"id": "same", "prompt": "two", "answer": "2"}\n')
    for pair, told in (
        ("kept", "NAME=FILE"),
        ("x=empty.jsonl", "the file is empty"),
        ("x=twice.jsonl", "stands twice"),
        ("inject=inject.jsonl", "both the task inject and inject.jsonl"),
        ("x=none.jsonl", "none.jsonl"),
    ):
        bad = forgetless("stream", *stream, "--probe", pair, "--out", "bad", cwd=place)
        assert bad.code == 2 and told in bad.err and not (place / "bad").exists(), bad.err


def test_a_run_does_not_go_on_with_other_questions(forgetless, place, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    for name in ("inject.jsonl", "other.jsonl"):
        shutil.copy(place / name, here / name)
    stream = ["--stream", "inject.jsonl,other.jsonl", "--model", place / "model", "--setting", "domain", "--epochs", "1", "--out", "run"]
    assert forgetless("stream", *stream, "--method", "none", "--seeds", "1", cwd=here).code == 0
    before = (here / "run/seeds/seed-0.json").read_bytes()
    kept = (here / "inject.jsonl").read_text()
    (here / "inject.jsonl").write_text("\n".join(kept.splitlines()[:-1]) + "\n")
    found = forgetless("stream", *stream, "--method", "none", "--seeds", "2", "--resume", cwd=here)
    assert found.code == 2 and "its run was on other data" in found.err and len(found.err.strip().splitlines()) == 1
    (here / "inject.jsonl").write_text(kept)
    assert forgetless("stream", *stream, "--method", "none", "--seeds", "2", "--resume", cwd=here).code == 0
    assert (here / "run/seeds/seed-0.json").read_bytes() == before and (here / "run/seeds/seed-1.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--stream", "nonsense"], "nonsense"),
        (["--stream", "split-digits", "--setting", "colour"], "--setting"),
        (["--stream", "split-digits", "--seeds", "0"], "--seeds"),
        (["--stream", "split-digits", "--lr", "nan"], "--lr"),
        (["--stream", "split-digits", "--method", "magic"], "unknown method"),
        (["--stream", "split-digits", "--method", "packnet", "--setting", "class"], "must be told which task"),
        (["--stream", "split-digits", "--stream-arg", "nonsense=1"], "no such option"),
        (["--stream", "split-digits", "--method", "lora,packnet"], "both own the architecture"),
        (["--stream", "facts", "--setting", "class"], "no classes"),
        (["--stream", "facts", "--device", "tpu"], "--device"),
        (["--stream", "split-digits", "--dtype", "bfloat16"], "in float32"),
        (["--stream", "split-digits", "--probe", "kept=questions.jsonl"], "only a language model"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(arguments, told, forgetless, tmp_path):
    found = forgetless("stream", *arguments, "--out", tmp_path / "run")
    assert found.code == 2 and told in found.err
    assert len(found.err.strip().split("\n")) == 1
    assert not (tmp_path / "run").exists()


def test_a_folder_with_another_run_is_left_alone(folder, forgetless):
    found = forgetless("stream", *FEW, "--setting", "task", "--method", "replay", "--out", folder)
    assert found.code == 2 and "holds another run" in found.err
    found = forgetless("stream", *FEW, "--setting", "task", "--method", "replay", "--resume", "--out", folder)
    assert found.code == 2 and "this command" in found.err


def test_recommend_asks_for_what_it_is_not_told(forgetless):
    found = forgetless("methods", "--recommend", "--old-data", "yes")
    assert found.code == 2 and "--headroom-gb" in found.err
    told = ["--old-data", "yes", "--headroom-gb", "4", "--tasks", "1", "--task-known", "no", "--kind", "language", "--parameters", "135e6"]
    found = forgetless("methods", "--recommend", *told, "--acceptable-loss", "0.05", "--json")
    assert found.code == 0, found.err
    first = json.loads(found.out)["choices"][0]
    assert first["method"] == "auto" and "--retain" in first["command"]


def test_two_streams_in_one_folder_are_refused(warm, tmp_path):
    arguments = ["stream", *FEW[:2], "--steps", "4000", "--method", "none", "--resume", "--out", "run"]
    first = warm.start(*arguments, cwd=tmp_path)
    try:
        while not (tmp_path / "run" / "config.yaml").exists():
            time.sleep(0.05)
        second = warm.run(*arguments, cwd=tmp_path)
    finally:
        os.kill(first, signal.SIGKILL)
        warm.wait(first)
    assert second.code == 2 and "another process" in second.err and len(second.lines) == 1
