"""``forgetless diagnose`` as a user runs it: what it writes and prints, what it refuses, that nothing half-written stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from cli.world import read_lines, snapshot, write_rows
from forgetless.data.model import load_model


def arguments(*more: object) -> list[str]:
    own = ["diagnose", "--model", "model", "--inject", "inject.jsonl", "--retain", "retain.jsonl", "--out", "found"]
    return [*own, "--rates", "1e-5,1e-3", "--curve-items", "2", *(str(one) for one in more)]


def test_it_prints_and_writes_the_same_figures(warm: Any, place: Path) -> None:
    done = warm.run(*arguments("--png"), cwd=place)
    assert done.code == 0, done.err
    found = json.loads((place / "found/diagnosis.json").read_text("utf-8"))
    assert f"conflicting weights: {found['conflict']['all']['share']:.1%}" in done.out
    assert f"{found['against']} of 10 inject questions pull against" in done.out
    assert repr(found["items"][0]["prompt"]) in done.out and "suggested: --method" in done.out
    assert found["n"]["retain"] == 8 and len(found["items"]) == 10 and set(found["curve"]) == {"sgd", "adamw"}
    assert found["files"]["inject"]["sha256"] and found["versions"]["torch"]
    names = {path.name for path in (place / "found").iterdir()}
    assert {"diagnosis.json", "report.html", "curve.png", "harm-ranking.png"} <= names and not [name for name in names if "tmp" in name]
    again = warm.run("report", "found", "--out", "page.html", cwd=place)
    assert again.code == 0 and (place / "page.html").read_text("utf-8") == (place / "found/report.html").read_text("utf-8")


def test_it_answers_in_json_alone_and_a_file_gives_the_flags(warm: Any, place: Path) -> None:
    (place / "d.yaml").write_text("fast: true\ncheck: 5\ncurve-items: 0\nlr: 1e-4\noptimizer: adamw\n")
    done = warm.run(*arguments()[:-4], "--config", "d.yaml", "--json", cwd=place)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (
        found["ranking"]["mode"] == "last layers"
        and found["ranking"]["lr"] == 1e-4
        and found["ranking"]["optimizer"] == "adamw"
        and found["curve"] == {}
    )
    assert found["ranking"]["fast_against_exact"]["n"] == 5 and done.err == ""


def broken_model(place: Path) -> None:
    language = load_model(str(place / "model"))
    language.model.model.norm.weight.data[0] = float("nan")
    language.model.save_pretrained(place / "nan")
    language.tokenizer.save_pretrained(place / "nan")


def without_template(place: Path) -> None:
    shutil.copytree(place / "model", place / "bare")
    for name in ("chat_template.jinja",):
        (place / "bare" / name).unlink(missing_ok=True)
    config = json.loads((place / "bare/tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (place / "bare/tokenizer_config.json").write_text(json.dumps(config))


def full_folder(place: Path) -> None:
    (place / "found").mkdir()
    (place / "found/mine.txt").write_text("mine")


def overlap(place: Path) -> None:
    write_rows(place / "retain.jsonl", [*read_lines(place / "retain.jsonl"), read_lines(place / "inject.jsonl")[0] | {"prompt": "new"}])


def nothing(place: Path) -> None:
    pass


BAD = {
    "missing file": (nothing, ["--inject", "absent.jsonl"], ["absent.jsonl: no such file"]),
    "empty file": (lambda place: (place / "retain.jsonl").write_bytes(b""), [], ["retain.jsonl", "empty"]),
    "blank file": (lambda place: (place / "inject.jsonl").write_bytes(b"\n\n"), [], ["inject.jsonl", "no question"]),
    "a question in both": (overlap, [], ["inject-0"]),
    "no numbers": (broken_model, ["--model", "nan"], ["not a finite number"]),
    "no chat template": (without_template, ["--model", "bare", "--template", "chat"], ["chat template"]),
    "letters of open questions": (nothing, ["--template", "letter"], ["choices"]),
    "too long": (lambda place: write_rows(place / "inject.jsonl", [{"prompt": "x " * 600, "answer": "a"}]), [], ["inject.jsonl:1", "512"]),
    "a rate of zero": (nothing, ["--rates", "1e-5,0"], ["rates"]),
    "a rate below zero": (nothing, ["--lr", "-1e-5"], ["lr"]),
    "a rate that is no number": (nothing, ["--rates", "fast"], ["--rates", "'fast'"]),
    "an infinite rate": (nothing, ["--rates", "inf"], ["rates"]),
    "no rates": (nothing, ["--rates", ","], ["rates"]),
    "unknown group": (nothing, ["--group-by", "colour"], ["colour"]),
    "unknown optimizer": (nothing, ["--optimizer", "magic"], ["--optimizer", "'magic'"]),
    "no memory": (nothing, ["--hold-gb", "0"], ["--hold-gb"]),
    "no such model": (nothing, ["--model", "./absent"], ["absent"]),
    "folder in use": (full_folder, [], ["found", "not empty"]),
    "unknown template": (nothing, ["--template", "poem"], ["'poem'"]),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_writes_nothing(warm: Any, place: Path, name: str) -> None:
    prepare, more, wanted = BAD[name]
    prepare(place)
    before = snapshot(place)
    done = warm.run(*arguments(*more), cwd=place)
    assert done.code == 2 and len(done.lines) == 1, done.err
    assert all(word in done.err for word in wanted), done.err
    assert snapshot(place) == before


def test_an_interrupt_leaves_nothing(warm: Any, place: Path) -> None:
    before = snapshot(place)
    pid = warm.start(*arguments("--rates", "1e-7,1e-6,1e-5,1e-4,1e-3,1e-2,1e-1", "--curve-items", 10), cwd=place)
    warm.wait_for_main()
    os.kill(pid, signal.SIGINT)
    done = warm.wait(pid)
    assert done.code == 1 and done.lines[-1] == "forgetless: interrupted", done.err  # nothing to go on with
    assert snapshot(place) == before
