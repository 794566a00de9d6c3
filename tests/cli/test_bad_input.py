"""Bad input: exit code 2, one line that names the file, the line and the mend, and nothing written."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cli.world import read_lines, snapshot, train_arguments, write_rows


def break_file(name: str, line: int, text: str):
    def breaking(place: Path) -> None:
        lines = (place / name).read_text().splitlines()
        lines[line - 1] = text
        (place / name).write_text("\n".join(lines) + "\n")

    return breaking


def write(name: str, content: bytes):
    def writing(place: Path) -> None:
        (place / name).write_bytes(content)

    return writing


def without_weights(place: Path) -> None:
    shutil.copytree(place / "model", place / "bare", ignore=shutil.ignore_patterns("*.safetensors"))


def another_run(place: Path) -> None:
    (place / "run").mkdir()
    (place / "run/config.yaml").write_text("method: none\nfiles: {}\n")
    (place / "run/metrics.jsonl").write_text("")


def overlap(place: Path) -> None:
    write_rows(place / "retain.jsonl", [*read_lines(place / "retain.jsonl"), read_lines(place / "inject.jsonl")[0] | {"prompt": "new"}])


def nothing(place: Path) -> None:
    pass


CHOICE = '{"question": "q", "choices": ["a", "b"], "answer": "c"}'
FILES = {
    "missing file": (nothing, ["--inject", "absent.jsonl"], ["absent.jsonl: no such file"]),
    "empty file": (write("inject.jsonl", b""), [], ["inject.jsonl", "empty"]),
    "blank file": (write("inject.jsonl", b"\n\n"), [], ["inject.jsonl", "no question"]),
    "no answer": (break_file("inject.jsonl", 3, '{"prompt": "p"}'), [], ["inject.jsonl:3", "no answer"]),
    "answer outside": (break_file("retain.jsonl", 2, CHOICE), [], ["retain.jsonl:2", "'c'"]),
    "not UTF-8": (write("inject.jsonl", b'{"prompt": "a", "answer": "\xff\xfe"}\n'), [], ["inject.jsonl", "UTF-8"]),
    "broken JSON": (break_file("inject.jsonl", 5, '{"prompt": "p", "answer"'), [], ["inject.jsonl:5", "JSON"]),
    "CSV without header": (write("x.csv", b"what is red,a colour\nwhat is blue,another\n"), ["--inject", "x.csv"], ["x.csv"]),
    "duplicate ids": (
        break_file("inject.jsonl", 4, '{"id": "inject-0", "prompt": "p", "answer": "a"}'),
        [],
        ["inject.jsonl:4", "inject-0"],
    ),
    "empty retain": (write("retain.jsonl", b""), [], ["retain.jsonl", "empty"]),
    "overlapping ids": (overlap, [], ["inject-0", "retain"]),
    "a probe of what is replayed": (nothing, ["--probe", "x=retain.jsonl"], ["--retain, --probe x: 8 questions stand in both"]),
    "a probe of what is trained": (nothing, ["--probe", "x=inject.jsonl"], ["--inject, --probe x: 10 questions stand in both"]),
    "a folder as file": (nothing, ["--inject", "model"], ["model", "folder"]),
    "missing probe file": (nothing, ["--probe", "x=absent.jsonl"], ["absent.jsonl"]),
    "letters of open questions": (nothing, ["--scorer", "letter"], ["choices"]),
    "perplexity": (nothing, ["--scorer", "perplexity"], ["perplexity"]),
    "an image": (
        break_file("inject.jsonl", 2, '{"prompt": "p", "answer": "a", "image": "x.png"}'),
        [],
        ["inject.jsonl:2", "image", "protect"],
    ),
    "question too long": (break_file("inject.jsonl", 2, json.dumps({"prompt": "x " * 600, "answer": "a"})), [], ["inject.jsonl:2", "512"]),
}
OPTIONS = {
    "no such model": (nothing, ["--model", "./absent"], ["absent"]),
    "model without weights": (without_weights, ["--model", "bare"], ["bare", "safetensors"]),
    "unknown method": (nothing, ["--method", "magic"], ["'magic'", "cpl"]),
    "unknown method argument": (nothing, ["--method-arg", "cpl.magic=1"], ["'magic'", "refresh"]),
    "argument of another method": (nothing, ["--method-arg", "none.x=1"], ["'none'"]),
    "argument without value": (nothing, ["--method-arg", "cpl.refresh"], ["cpl.refresh"]),
    "argument out of range": (nothing, ["--method-arg", "cpl.refresh=0"], ["refresh"]),
    "argument not readable": (nothing, ["--method-arg", "cpl.refresh=[1"], ["cpl.refresh"]),
    "no method": (nothing, ["--method", ","], ["--method"]),
    "lr zero": (nothing, ["--lr", "0"], ["--lr: 0.0"]),
    "lr negative": (nothing, ["--lr=-1e-3"], ["--lr: -0.001"]),
    "lr nan": (nothing, ["--lr", "nan"], ["--lr: nan"]),
    "lr inf": (nothing, ["--lr", "inf"], ["--lr: inf"]),
    "lr word": (nothing, ["--lr", "fast"], ["--lr"]),
    "weight decay": (nothing, ["--weight-decay=-1"], ["--weight-decay: -1"]),
    "epochs 0": (nothing, ["--epochs", "0"], ["--epochs: 0"]),
    "batch size 0": (nothing, ["--batch-size", "0"], ["--batch-size: 0"]),
    "eval batch size 0": (nothing, ["--eval-batch-size", "0"], ["--eval-batch-size: 0"]),
    "retain batch size -1": (nothing, ["--retain-batch-size=-1"], ["--retain-batch-size: -1"]),
    "checkpoint every 0": (nothing, ["--checkpoint-every", "0"], ["--checkpoint-every: 0"]),
    "until learned 0": (nothing, ["--until-learned", "0"], ["--until-learned: 0.0"]),
    "until learned 1.5": (nothing, ["--until-learned", "1.5"], ["--until-learned: 1.5"]),
    "limit 0": (nothing, ["--limit", "0"], ["limit"]),
    "seed -1": (nothing, ["--seed=-1"], ["--seed: -1"]),
    "unknown optimizer": (nothing, ["--optimizer", "lion"], ["--optimizer: 'lion'", "adamw"]),
    "unknown scorer": (nothing, ["--scorer", "vibes"], ["'vibes'", "exact"]),
    "unknown template": (nothing, ["--template", "haiku"], ["'haiku'", "qa"]),
    "probe without a file": (nothing, ["--probe", "other2"], ["--probe: 'other2'"]),
    "probe with the name of a split": (
        nothing,
        ["--probe", "retain=other.jsonl"],
        ["'retain=other.jsonl' is not NAME=FILE with a new"],
    ),
    "probe with a slash": (nothing, ["--probe", "a/b=other.jsonl"], ["--probe", "a/b"]),
    "unknown flag": (nothing, ["--magic"], ["--magic", "train --help"]),
    "flag without value": (nothing, ["--lr"], ["--lr", "train --help"]),
    "stray argument": (nothing, ["stray"], ["stray", "train --help"]),
}
PLACES = {
    "another run": (another_run, [], ["run: the folder holds another run", "--resume"]),
    "another run, resumed": (another_run, ["--resume"], ["run: its run has"]),
    "not a run": (lambda place: (place / "run/sub").mkdir(parents=True), [], ["run: the folder is not empty"]),
    "not a run, resumed": (lambda place: (place / "run/sub").mkdir(parents=True), ["--resume"], ["run: the folder is not empty"]),
    "not a configuration": (
        lambda place: write("run/config.yaml", b"[")((place / "run").mkdir() or place),
        ["--resume"],
        ["run", "config.yaml"],
    ),
    "out is a file": (write("run", b"mine"), [], ["run: it is a file"]),
    "out under a file": (write("file", b"mine"), ["--out", "file/run"], ["file"]),
    "out in /proc": (nothing, ["--out", "/proc/forgetless/run"], ["/proc/forgetless/run"]),
    "out is a link to nothing": (lambda place: os.symlink("absent", place / "run"), [], ["run: it is a link"]),
    "name too long": (nothing, ["--out", "x" * 300], ["too long"]),
}
CONFIGS = {
    "missing": (nothing, ["absent.yaml: it cannot be read"]),
    "broken": (write("c.yaml", b"lr: 1\nepochs: [1\nseed: 2\n"), ["c.yaml:", "YAML"]),
    "a list": (write("c.yaml", b"- lr\n"), ["c.yaml: it holds no keys"]),
    "unknown key": (write("c.yaml", b"learning-rate: 1\n"), ["c.yaml: unknown key 'learning-rate'", "lr"]),
    "wrong type": (write("c.yaml", b"epochs: many\n"), ["c.yaml, key epochs: 'many'"]),
    "a list for one": (write("c.yaml", b"lr: [1, 2]\n"), ["c.yaml, key lr: [1, 2]"]),
    "a word for a switch": (write("c.yaml", b"resume: 3\n"), ["c.yaml, key resume: 3"]),
    "a mapping": (write("c.yaml", b"method-arg: {cpl.refresh: 2}\n"), ["c.yaml, key method-arg"]),
    "out of range": (write("c.yaml", b"lr: .nan\n"), ["--lr: nan"]),
    "not text": (write("c.yaml", b"\xff\xfe\x00"), ["c.yaml", "UTF-8"]),
}


def refused(warm, place: Path, arguments: list[str], expected: list[str]) -> str:
    before = snapshot(place)
    done = warm.run(*arguments, cwd=place)
    assert done.code == 2, done
    assert done.out == ""
    assert len(done.lines) == 1 and done.err.startswith("forgetless: "), done.err
    assert ". " in done.err.removeprefix("forgetless: "), f"no mend: {done.err}"
    for part in expected:
        assert part in done.err, done.err
    assert snapshot(place) == before, "something was written"
    return done.err


@pytest.mark.parametrize("case", FILES)
def test_bad_files(warm, place, case):
    prepare, more, expected = FILES[case]
    prepare(place)
    refused(warm, place, train_arguments("run", *more), expected)


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_options(warm, place, case):
    prepare, more, expected = OPTIONS[case]
    prepare(place)
    refused(warm, place, train_arguments("run", *more), expected)


@pytest.mark.parametrize("case", PLACES)
def test_bad_places(warm, place, case):
    prepare, more, expected = PLACES[case]
    prepare(place)
    refused(warm, place, train_arguments("run", *more), expected)


@pytest.mark.parametrize("case", CONFIGS)
def test_bad_configurations(warm, place, case):
    prepare, expected = CONFIGS[case]
    prepare(place)
    name = "absent.yaml" if case == "missing" else "c.yaml"
    arguments = [argument for argument in train_arguments("run") if case != "out of range" or argument not in ("--lr", "3e-3")]
    if case in ("wrong type", "a list for one"):
        arguments = ["train", "--model", "model", "--inject", "inject.jsonl", "--out", "run"]
    refused(warm, place, [*arguments, "--config", name], expected)


def test_cpl_without_a_retain_set(warm, place):
    arguments = ["train", "--model", "model", "--inject", "inject.jsonl", "--out", "run", "--method", "cpl"]
    refused(warm, place, arguments, ["cpl needs a retain set", "--retain"])
    refused(warm, place, [*arguments, "--retain", "retain.jsonl", "--hide-retain"], ["cpl needs a retain set", "--retain"])


@pytest.mark.parametrize("missing", ["--model", "--inject", "--out"])
def test_a_required_flag_is_missing(warm, place, missing):
    given = {"--model": "model", "--inject": "inject.jsonl", "--out": "run"}
    arguments = [part for name, value in given.items() if name != missing for part in (name, value)]
    refused(warm, place, ["train", *arguments], [missing, "train --help"])


RUN = ["--model", "model", "--data", "all.jsonl"]
VERBS = {
    "unknown verb": (["learn"], ["'learn'"]),
    "split: missing file": (["split", "--model", "model", "--data", "absent.jsonl", "--out", "halves"], ["absent.jsonl"]),
    "split: no such model": (["split", "--model", "./absent", "--data", "all.jsonl", "--out", "halves"], ["absent"]),
    "split: out is not empty": (["split", *RUN, "--out", "full"], ["full: the folder is not empty"]),
    "split: out is a file": (["split", *RUN, "--out", "file"], ["file: it is a file"]),
    "split: out under a file": (["split", *RUN, "--out", "file/halves"], ["file/halves"]),
    "split: out in /proc": (["split", *RUN, "--out", "/proc/x/halves"], ["/proc/x/halves"]),
    "split: perplexity": (["split", *RUN, "--out", "halves", "--scorer", "perplexity"], ["perplexity"]),
    "split: letters of open questions": (["split", *RUN, "--out", "halves", "--scorer", "letter"], ["choices"]),
    "split: batch size": (["split", *RUN, "--out", "halves", "--eval-batch-size", "0"], ["--eval-batch-size: 0"]),
    "split: template": (["split", *RUN, "--out", "halves", "--template", "haiku"], ["'haiku'"]),
    "split: configuration": (["split", *RUN, "--out", "halves", "--config", "c.yaml"], ["c.yaml: unknown key 'lr'"]),
    "eval: missing file": (["eval", "--model", "model", "--data", "absent.jsonl", "--out", "e.json"], ["absent.jsonl"]),
    "eval: no such second model": (["eval", *RUN, "--after", "./absent", "--out", "e.json"], ["absent"]),
    "eval: out is a folder": (["eval", *RUN, "--out", "full"], ["full: it is a folder"]),
    "eval: out under a file": (["eval", *RUN, "--out", "file/e.json"], ["file/e.json"]),
    "eval: out in /proc": (["eval", *RUN, "--out", "/proc/x/e.json"], ["/proc/x/e.json"]),
    "eval: scorer": (["eval", *RUN, "--out", "e.json", "--scorer", "vibes"], ["'vibes'"]),
    "eval: batch size": (["eval", *RUN, "--out", "e.json", "--eval-batch-size=-3"], ["--eval-batch-size: -3"]),
    "eval: limit": (["eval", *RUN, "--out", "e.json", "--limit", "0"], ["limit"]),
    "eval: old eval.json stays": (["eval", "--model", "./absent", "--data", "all.jsonl", "--out", "file"], ["absent"]),
    "report: missing run": (["report", "absent", "--out", "r.html"], ["absent"]),
    "report: no run": (["report", "full", "--out", "r.html"], ["full", "run folder"]),
    "report: none given": (["report", "--out", "r.html"], ["report --help"]),
    "report: a file that is none": (["report", "file", "--out", "r.html"], ["file"]),
    "report: a card of no run": (["report", "full", "--out", "r.html", "--md", "card.md"], ["full"]),
    "report: out is a folder": (["report", "full", "--out", "full"], ["full: it is a folder"]),
    "report: out under a file": (["report", "full", "--out", "file/r.html"], ["file/r.html"]),
    "methods: stray argument": (["methods", "cpl"], ["cpl"]),
    "methods: configuration": (["methods", "--config", "absent.yaml"], ["absent.yaml"]),
}


@pytest.mark.parametrize("case", VERBS)
def test_bad_input_to_every_verb(warm, place, case):
    arguments, expected = VERBS[case]
    (place / "full").mkdir()
    (place / "full/mine.txt").write_text("mine")
    (place / "file").write_text("mine")
    (place / "c.yaml").write_text("lr: 1\n")
    refused(warm, place, arguments, expected)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--lr", "1e-4"], "lr = 0.003, this command 0.0001"),
        (["--seed", "5"], "seed = 0, this command 5"),
        (["--method-arg", "cpl.refresh=4"], "method-args"),
        (["--epochs", "9"], "epochs = 4, this command 9"),
        (["--probe", "new=other.jsonl"], "no --new"),
    ],
)
def test_a_run_is_not_resumed_with_other_settings(warm, base, place, more, expected):
    write_run(base, place)
    refused(warm, place, train_arguments("run", "--resume", *more), [expected, "run: its run has", "--out"])


def write_run(base: Path, place: Path) -> None:
    """A run that was just begun with the arguments of the tests."""
    from forgetless.data.reading import read_questions
    from forgetless.methods import METHODS  # noqa: F401
    from forgetless.train.provenance import run_config
    from forgetless.train.settings import Settings

    files = {name: f"{name}.jsonl" for name in ("inject", "retain", "inject-heldout", "retain-heldout", "other")}
    settings = Settings(
        "model", files, ("cpl",), {"cpl": {"refresh": 3}}, lr=3e-3, epochs=4, batch_size=2, retain_batch_size=4, checkpoint_every=2
    )
    home = os.getcwd()
    os.chdir(place)
    try:
        config = run_config(settings, {name: read_questions(file) for name, file in files.items()})
    finally:
        os.chdir(home)
    (place / "run").mkdir()
    (place / "run/config.yaml").write_text(json.dumps(config))


def test_a_run_is_not_resumed_when_a_file_has_changed(warm, base, place):
    write_run(base, place)
    break_file("retain.jsonl", 1, '{"id": "retain-0", "prompt": "changed", "answer": "a"}')(place)
    refused(warm, place, train_arguments("run", "--resume"), ["--retain retain.jsonl: it has changed since the run began"])


def test_a_run_is_resumed_when_a_file_has_moved_and_when_checkpoints_come_more_often(warm, base, place):
    write_run(base, place)
    (place / "retain.jsonl").rename(place / "moved.jsonl")
    done = warm.run(*train_arguments("run", "--resume", "--retain", "moved.jsonl", "--checkpoint-every", 1), cwd=place)
    assert (done.code, done.err) == (0, "")
