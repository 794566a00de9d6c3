"""Every recipe is what its table says, holds only what `train` takes, and does what it says on a tiny model."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import yaml

from tiny import make_tiny_model

RECIPES = Path(__file__).parents[2] / "recipes"
FILES = sorted(file.name for file in RECIPES.glob("*.yaml"))


def command(*arguments, monkeypatch):
    """The exit code of the command line, in this process."""
    from forgetless.cli.main import app
    from forgetless.cli.options import run

    monkeypatch.setattr(sys, "argv", ["forgetless", *map(str, arguments)])
    return run(app)


def test_the_files_are_what_the_table_gives():
    made = runpy.run_path(str(RECIPES / "make.py"))["recipes"]()
    assert sorted(made) == FILES and len(FILES) == 5 * 4 * 2
    assert all((RECIPES / name).read_text("utf-8") == text for name, text in made.items())


@pytest.mark.parametrize("name", FILES)
def test_train_takes_every_key_and_value_and_then_misses_only_the_questions(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command("train", "--config", RECIPES / name, monkeypatch=monkeypatch) == 2
    told = capsys.readouterr().err
    assert f"parts/{Path(name).stem}/inject.jsonl: no such file" in told, told
    assert not list(tmp_path.iterdir())
    commands = re.findall(r"--out (\S+)", (RECIPES / name).read_text("utf-8"))
    assert commands == [f"parts/{Path(name).stem}"]


def medqa(n):
    options = {letter: f"drug {(n + shift) % 9}" for shift, letter in enumerate("ABCD")}
    right = "ABCD"[n % 4]
    return {"question": f"case {n}?", "answer": options[right], "options": options, "answer_idx": right, "meta_info": "step1"}


def arc(n):
    labels = list("ABCD") if n % 2 else list("1234")
    texts = [f"effect {(n + shift) % 7}" for shift in range(4)]
    return {"id": f"arc-{n}", "question": f"which effect {n}?", "choices": {"text": texts, "label": labels}, "answerKey": labels[n % 4]}


@pytest.mark.parametrize(("name", "rows"), [("qwen2.5-1.5b-medqa", medqa), ("llama3.2-1b-arc-c-in-set", arc)])
def test_split_and_train_as_the_recipe_says(name, rows, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_tiny_model(Path("tiny"))
    Path("rows.jsonl").write_text("".join(json.dumps(rows(n)) + "\n" for n in range(24)), "utf-8")
    recipe = RECIPES / f"{name}.yaml"
    told = (heldout,) = re.findall(r"--heldout (\w+)", recipe.read_text("utf-8"))
    given = ["--model", "tiny", "--data", "rows.jsonl", "--scorer", "letter", "--heldout", heldout, "--out", f"parts/{name}", "--json"]
    assert command("split", *given, monkeypatch=monkeypatch) == 0, told
    parts = json.loads(capsys.readouterr().out)
    whole = name.endswith("in-set")
    assert parts["known"] >= 2 and parts["inject"] == 24 - parts["known"]
    assert ("retain-heldout" in parts) != whole and parts["retain"] == (parts["known"] if whole else -(-parts["known"] // 2))

    changes = ["--model", "tiny", "--epochs", "2", "--lr", "0.05", "--json"]  # the tiny model's size; all else as it stands
    assert command("train", "--config", recipe, *changes, monkeypatch=monkeypatch) == 0
    summary = json.loads(capsys.readouterr().out)
    config = yaml.safe_load(Path(f"runs/{name}/config.yaml").read_text("utf-8"))
    assert (config["scorer"], config["optimizer"], config["batch_size"], config["dtype"]) == ("letter", "sgd", 1, "float32")
    assert config["method_args"] == {"cpl": {"refresh": "epoch"}} and config["seed"] == 0
    assert summary["steps"] == 2 * parts["inject"] and summary["inject_total"] == parts["inject"]
    assert summary["retain_total"] == parts["retain"] and summary["retain_heldout_total"] == parts.get("retain-heldout")
    assert summary["constraint_violation"] == 0.0 and 0 < summary["conflicting_fraction"] < 1
    assert summary["learned"] >= 1
