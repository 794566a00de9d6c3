"""Every verb for people and for machines: help, version, JSON, configuration files, exit codes, tracebacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise

import pytest
import yaml

from cli.world import read_lines, result, snapshot, train_arguments

VERBS = ("demo", "split", "diagnose", "train", "compare", "eval", "stream", "report", "methods")
SUMMARY = (
    *("method", "model", "seed", "steps", "seconds", "peak_memory_bytes", "inject_total", "learned", "learned_heldout", "retain_total"),
    *("forgotten", "retain_heldout_total", "forgotten_heldout", "conflicting_fraction", "constraint_violation", "budget", "verdict"),
)


@pytest.fixture(scope="module")
def run(warm, base):
    done = warm.run(*train_arguments("told"), cwd=base)
    assert (done.code, done.err) == (0, "")
    return base / "told", done


def commands(place) -> dict[str, list[str]]:
    questions = ["--model", "model", "--data", "all.jsonl"]
    return {
        "split": ["split", *questions, "--out", "halves"],
        "train": [argument for argument in train_arguments("run") if argument != "--json"],
        "eval": ["eval", *questions, "--out", "eval.json"],
        "eval two": ["eval", *questions, "--after", "told/model", "--out", "eval.json"],
        "report": ["report", "told", "--out", "report.html"],
        "methods": ["methods"],
    }


@pytest.mark.parametrize("verb", ["split", "train", "eval", "eval two", "report", "methods"])
def test_json_alone_on_standard_output_and_nothing_on_standard_error(warm, place, run, verb):
    os.symlink(run[0], place / "told")
    done = warm.run(*commands(place)[verb], "--json", cwd=place)
    assert (done.code, done.err) == (0, "")
    told = json.loads(done.out)
    expected = {
        "split": lambda: told["known"] == told["retain"] + told["retain-heldout"] and told["total"] == 28,
        "train": lambda: told == json.loads((place / "run/summary.json").read_text()),
        "eval": lambda: told["n"] == 28 and "items" not in told and told["models"][0]["right"] > 5,
        "eval two": lambda: told["paired"]["learned"] >= 1 and told["kl"]["mean"] > 0,
        "report": lambda: told["out"] == "report.html" and (place / "report.html").read_text().startswith("<!"),
        "methods": lambda: {"none", "cpl"} <= {row["name"] for row in told},
    }
    assert expected[verb]()


@pytest.mark.parametrize("verb", ["split", "train", "eval", "eval two", "report", "methods"])
def test_without_json_people_get_sentences_and_only_progress_on_standard_error(warm, place, run, verb):
    os.symlink(run[0], place / "told")
    done = warm.run(*commands(place)[verb], cwd=place)
    assert done.code == 0 and len(done.out.strip()) > 10
    with pytest.raises(ValueError):
        json.loads(done.out)
    assert all(" in " in line and line.split()[0].rstrip(":") in ("scoring", "epoch", "drift") for line in done.lines), done.err


def test_the_help_of_the_command_names_every_verb(warm, place):
    done = warm.run("--help", cwd=place)
    assert done.code == 0 and done.err == "" and "..." not in done.out.split("Commands:")[1]
    assert [line.split()[0] for line in done.out.split("Commands:")[1].strip().splitlines()] == list(VERBS)
    bare = warm.run(cwd=place)
    assert bare.code == 2 and bare.err == done.out and bare.out == ""


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_explains_every_flag(warm, place, verb):
    done = warm.run(verb, "--help", cwd=place)
    assert done.code == 0 and done.err == ""
    assert done.out.startswith(f"Usage: forgetless {verb}")
    flags = [line for line in done.out.splitlines() if line.startswith("  --")]
    assert len(flags) >= 4 and all(name in done.out for name in ("--config", "--json", "--debug"))
    assert all(len(line.split("  ", 2)[-1].strip()) > 10 or "--keep-checkpoint /" in line for line in flags)


def test_the_version(warm, place):
    from importlib.metadata import version

    done = warm.run("--version", cwd=place)
    assert (done.code, done.out, done.err) == (0, f"forgetless {version('forgetless')}\n", "")


def test_python_dash_m_is_the_same_command_and_starts_without_torch(place):
    began = [sys.executable, "-X", "importtime", "-m", "forgetless", "train", "--lr", "0", "--model", "m", "--inject", "i", "--out", "o"]
    done = subprocess.run(began, capture_output=True, text=True, cwd=place, check=False)
    assert done.returncode == 2 and done.stdout == ""
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert said == ["forgetless: --lr: 0.0 is not allowed. Give a number above 0"]


def test_a_configuration_gives_the_same_run_as_the_flags(warm, place, run):
    arguments = train_arguments("run")
    config: dict[str, object] = {"json": True}
    for name, value in pairwise(arguments):
        if name.startswith("--") and name != "--json":
            config[name[2:]] = [value] if name in ("--probe", "--method-arg") else value
    (place / "c.yaml").write_text(yaml.safe_dump(config))
    done = warm.run("train", "--config", "c.yaml", cwd=place)
    assert (done.code, done.err) == (0, "")
    assert result(place / "run") == result(run[0]) and json.loads(done.out)["steps"] == 20


def test_flags_win_over_the_configuration_which_may_write_keys_and_values_as_it_likes(warm, place):
    (place / "c.yaml").write_text(
        "model: model\ninject: inject.jsonl\nretain: retain.jsonl\nlr: 1e-3\nepochs: 7\nbatch_size: 5\nprobe: other=other.jsonl\n"
        "until_learned: null\nkeep-checkpoint: no\njson: yes\n"
    )
    done = warm.run("train", "--config", "c.yaml", "--epochs", "1", "--out", "run", cwd=place)
    assert (done.code, done.err) == (0, "")
    written = yaml.safe_load((place / "run/config.yaml").read_text())
    assert {key: written[key] for key in ("lr", "epochs", "batch_size", "until_learned")} == {
        "lr": 1e-3,
        "epochs": 1,
        "batch_size": 5,
        "until_learned": None,
    }
    assert set(written["files"]) == {"inject", "retain", "other"} and not (place / "run/checkpoint").exists()


def test_a_configuration_works_for_every_verb(warm, place, run):
    os.symlink(run[0], place / "told")
    (place / "report.yaml").write_text("runs: [told]\nout: r.html\ntitle: A title of mine\njson: true\n")
    assert warm.run("report", "--config", "report.yaml", cwd=place).code == 0
    assert "A title of mine" in (place / "r.html").read_text()
    (place / "q.yaml").write_text("model: model\ndata: all.jsonl\nlimit: 5\n")
    for verb, out in (("split", "halves"), ("eval", "e.json")):
        done = warm.run(verb, "--config", "q.yaml", "--out", out, "--json", cwd=place)
        assert (done.code, done.err) == (0, "")
    assert json.loads((place / "e.json").read_text())["n"] == 5
    (place / "m.yaml").write_text("")
    assert warm.run("methods", "--config", "m.yaml", cwd=place).code == 0


def test_a_traceback_only_with_debug(warm, place):
    bad = ["train", "--model", "model", "--inject", "absent.jsonl", "--out", "run", "--method", "none"]
    plain, debug = warm.run(*bad, cwd=place), warm.run(*bad, "--debug", cwd=place)
    assert plain.code == debug.code == 2 and len(plain.lines) == 1 and "Traceback" not in plain.err
    assert "Traceback" in debug.err and debug.lines[-1] == plain.lines[0]
    early = warm.run("train", "--config", "absent.yaml", "--debug", cwd=place)
    assert early.code == 2 and "Traceback" in early.err
    (place / "d.yaml").write_text("debug: true\n")
    assert "Traceback" in warm.run(*bad, "--config", "d.yaml", cwd=place).err


def test_a_failed_run_exits_with_1_and_one_line_and_leaves_the_checkpoint(warm, place):
    arguments = ["train", "--model", "model", "--inject", "inject.jsonl", "--method", "none", "--optimizer", "sgd", "--lr", "1e30"]
    done = warm.run(*arguments, "--out", "run", "--batch-size", 2, "--checkpoint-every", 1, "--json", cwd=place)
    assert done.code == 1 and done.out == "" and len(done.lines) == 1
    assert "the loss is" in done.err and "lower --lr" in done.err
    assert not (place / "run/summary.json").exists() and not (place / "run/model").exists()


def test_an_error_nobody_thought_of_is_one_line_too(monkeypatch, capsys):
    from forgetless.cli import options

    def broken(standalone_mode: bool) -> None:
        raise RuntimeError("first\nsecond")

    monkeypatch.setattr(sys, "argv", ["forgetless"])
    assert options.run(broken) == 1
    assert capsys.readouterr().err == "forgetless: RuntimeError: first second (--debug shows where)\n"


def test_what_a_run_folder_holds(run):
    folder, done = run
    names = {path.name for path in folder.iterdir()}
    assert names == {"config.yaml", "metrics.jsonl", "before.json", "items.jsonl", "summary.json", "model", "checkpoint"}
    summary, config = json.loads((folder / "summary.json").read_text()), yaml.safe_load((folder / "config.yaml").read_text())
    assert set(SUMMARY) <= set(summary) and summary == json.loads(done.out)
    assert (summary["steps"], summary["epochs_run"], summary["constraint_violation"]) == (20, 4, 0.0)
    card = (folder / "model" / "README.md").read_text("utf-8")
    assert "## What it learned and what it forgot" in card and f"| Learned | {summary['learned']} of {summary['inject_total']} |" in card
    assert 0 < summary["conflicting_fraction"] < 1 and summary["seconds"] > 0 and summary["peak_memory_bytes"] > 1e8
    assert {"torch", "transformers", "forgetless", "python"} <= set(config["versions"]) and "git" in config
    assert config["seed"] == 0 and config["optimizer"] == "adamw" and config["method_args"] == {"cpl": {"refresh": 3}}
    assert all(len(file["sha256"]) == 64 for file in config["files"].values())
    lines = read_lines(folder / "metrics.jsonl")
    steps, epochs = ([line for line in lines if line["kind"] == kind] for kind in ("step", "epoch"))
    assert [line["step"] for line in steps] == list(range(1, 21)) and [line["epoch"] for line in epochs] == [0, 1, 2, 3, 4]
    splits = {"inject", "inject-heldout", "retain", "retain-heldout", "other"}
    assert all(set(line["splits"]) == splits for line in epochs)
    assert all({"loss", "lr", "seconds", "method"} <= set(line) for line in steps)
    assert [line["step"] for line in steps if line["method"].get("refresh")] == [4, 7, 10, 13, 16, 19]
    assert all(0 <= share <= 1 for line in epochs[1:] for share in line["layers"].values()) and epochs[1]["layers"]
    items = read_lines(folder / "items.jsonl")
    assert len(items) == 32 and set(items[0]) >= {"id", "split", "prompt", "answer", "before", "after"}
    for name, key in (("inject", "learned"), ("inject-heldout", "learned_heldout")):
        assert summary[key] == sum(item["split"] == name and item["after"] and not item["before"] for item in items)
    for name, key, total in (("retain", "forgotten", "retain_total"), ("retain-heldout", "forgotten_heldout", "retain_heldout_total")):
        known = [item for item in items if item["split"] == name and item["before"]]
        assert summary[total] == len(known) > 0 and summary[key] == sum(not item["after"] for item in known)


def test_the_saved_model_gives_the_verdicts_of_the_run(warm, place, run):
    os.symlink(run[0], place / "told")
    items = read_lines(run[0] / "items.jsonl")
    for name in ("inject", "retain", "retain-heldout", "other"):
        done = warm.run(
            "eval", "--model", "model", "--after", "told/model", "--data", f"{name}.jsonl", "--out", "e.json", "--json", cwd=place
        )
        assert (done.code, done.err) == (0, "")
        scored = {item["id"]: (item["right_before"], item["right_after"]) for item in json.loads((place / "e.json").read_text())["items"]}
        assert scored == {item["id"]: (item["before"], item["after"]) for item in items if item["split"] == name}


def test_until_learned_stops_after_the_epoch_that_reaches_the_share(warm, place):
    arguments = train_arguments("run", "--until-learned", "0.5", method="none", epochs=40)
    done = warm.run(*arguments, cwd=place)
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    epochs = [line for line in read_lines(place / "run/metrics.jsonl") if line["kind"] == "epoch"]
    shares = [line["splits"]["inject"]["learned"] / summary["inject_total"] for line in epochs]
    assert summary["stopped_because"] == "until_learned reached" and shares[-1] >= 0.5 and all(share < 0.5 for share in shares[:-1])
    assert summary["epochs_run"] == len(epochs) - 1 < 40
    before = snapshot(place / "run")
    assert json.loads(warm.run(*arguments, "--resume", cwd=place).out) == summary and snapshot(place / "run") == before


def test_plain_training_needs_no_retain_set(warm, place):
    done = warm.run(
        "train", "--model", "model", "--inject", "inject.jsonl", "--method", "none", "--epochs", 1, "--out", "run", "--json", cwd=place
    )
    assert (done.code, done.err) == (0, "")
    summary = json.loads(done.out)
    assert summary["retain_total"] is None and summary["forgotten"] is None and summary["constraint_violation"] is None


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd", "momentum"])
def test_cpl_learns_under_every_optimizer_and_keeps_its_promise(warm, place, optimizer):
    lr = {"sgd": "0.3", "momentum": "0.02"}.get(optimizer, "3e-3")
    done = warm.run(*train_arguments("run", "--lr", lr, optimizer=optimizer, epochs=6), cwd=place)
    assert (done.code, done.err) == (0, "")
    losses = [line["loss"] for line in read_lines(place / "run/metrics.jsonl") if line["kind"] == "step"]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5]), losses
    assert json.loads(done.out)["constraint_violation"] == 0.0
