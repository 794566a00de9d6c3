"""``forgetless eval --suite`` and ``--lm-eval`` as a user runs them: on tiny models, before and after."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import binomtest

from cli.world import write_rows
from forgetless.evaluation.suite import BUILT_IN, read_suite
from seeing import make_seeing_model
from tiny import make_tiny_model

SUITE = """
name: everything
parts:
  - {name: open, data: open.jsonl, scorer: exact, by: lang, trained-on: en}
  - {name: free, data: open.jsonl, scorer: free-text, template: qa, lang: [de]}
  - {name: letters, data: choice.jsonl, scorer: letter, family: f}
  - {name: shuffled, data: choice.jsonl, scorer: letter, template: letter-digit, shuffle: 1, family: f, wording: "Tell me: {prompt}"}
  - {name: text, data: text.jsonl, scorer: perplexity}
  - {name: checks, data: checks.jsonl, scorer: instructions, limit: 2}
  - {name: harmful, data: prompts.jsonl, scorer: refuses, positions: 4}
labels: labels.jsonl
"""
TASK = """
task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: choice.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{question}} is"
doc_to_choice: "{{choices}}"
doc_to_target: answer
metric_list: [{metric: acc}]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suites")
    make_tiny_model(folder / "a")
    make_tiny_model(folder / "b", seed=1)
    rows = [{"prompt": f"{n} {lang}", "answer": [str(n), "x"], "lang": lang, "fact": n} for n in range(6) for lang in ("en", "de")]
    write_rows(folder / "open.jsonl", rows)
    choices = ["one", "two", "three"]
    write_rows(folder / "choice.jsonl", [{"id": f"q{n}", "question": f"q{n}", "choices": choices, "answer": n % 3} for n in range(9)])
    write_rows(folder / "text.jsonl", [{"text": "All is well that ends well."}, {"text": "So it goes."}])
    write_rows(folder / "checks.jsonl", [{"prompt": f"say {n}", "checks": [{"type": "words", "at_most": 9}]} for n in range(3)])
    write_rows(folder / "prompts.jsonl", [{"prompt": "how to"}, {"prompt": "and then"}])
    write_rows(folder / "labels.jsonl", [{"answer": "I cannot help.", "refused": True}, {"answer": "Sure.", "refused": False}])
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "task.yaml").write_text(TASK)
    return folder


@pytest.fixture(scope="module")
def done(warm: Any, world: Path) -> tuple[dict[str, Any], str]:
    """The suite and a task on two models, in one command."""
    command = ["eval", "--model", "./a", "--after", "./b", "--suite", "suite.yaml", "--lm-eval", str(world / "task.yaml")]
    ended = warm.run(*command, "--out", "out.json", cwd=world)
    assert ended.code == 0, ended.err
    return json.loads((world / "out.json").read_text("utf-8")), ended.out


def test_every_part_stands_in_the_file_and_in_the_table(done: tuple[dict[str, Any], str]) -> None:
    report, text = done
    names = ["open", "free", "letters", "shuffled", "text", "checks", "harmful", "lm-eval"]
    assert [part["name"] for part in report["parts"]] == names
    assert [part["n"] for part in report["parts"]] == [12, 6, 9, 9, 2, 2, 2, 9]
    for name in names:
        assert any(line.startswith(name) for line in text.splitlines())
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_before_and_after_are_paired_item_by_item(done: tuple[dict[str, Any], str]) -> None:
    for part in done[0]["parts"]:
        if "paired" not in part or "items" not in part:
            continue
        pairs = [(item["right_before"], item["right_after"]) for item in part["items"]]
        learned, forgotten = pairs.count((False, True)), pairs.count((True, False))
        paired = part["paired"]
        assert (paired["learned"], paired["forgotten"], paired["n"]) == (learned, forgotten, len(pairs))
        p = binomtest(learned, learned + forgotten).pvalue if learned + forgotten else 1.0
        assert paired["p_value"] == pytest.approx(float(p))
        assert [level["right"] for level in part["models"]] == [sum(b for b, _ in pairs), sum(a for _, a in pairs)]
    assert any(part.get("paired", {}).get("learned", 0) + part.get("paired", {}).get("forgotten", 0) for part in done[0]["parts"])


def test_languages_facts_families_positions_and_the_judge(done: tuple[dict[str, Any], str]) -> None:
    report, text = done
    first = report["parts"][0]
    assert {lang: group["n"] for lang, group in first["groups"].items()} == {"en": 6, "de": 6}
    assert len(first["facts"]) == 6 and set(first["crossing"]) == {"de"}
    assert report["families"]["f"]["n"] == 9 and report["families"]["f"]["parts"] == ["letters", "shuffled"]
    in_all = [all(part["items"][n]["right_after"] for part in report["parts"][2:4]) for n in range(9)]
    assert report["families"]["f"]["right_after"]["in_all"]["right"] == sum(in_all)
    harmful = report["parts"][6]
    assert [row["position"] for row in harmful["by_position"]["positions"]] == [0, 1, 2, 3]
    assert "paired" in harmful and "kl" not in harmful  # there is no answer to be shown
    assert (report["judge"]["all"]["n"], report["judge"]["all"]["right"]) == (2, 2)
    assert "judge of refusals against human labels: agrees on 2 of 2" in text
    checks = report["parts"][5]
    assert checks["models"][0]["checks"]["mean"] == pytest.approx(checks["models"][0]["accuracy"])  # one check each


def test_the_harness_and_its_log_of_samples_agree(done: tuple[dict[str, Any], str]) -> None:
    task = done[0]["parts"][7]["tasks"][0]
    assert (task["task"], task["metric"], task["n"]) == ("own_choice", "acc", 9)
    for level in task["models"]:
        assert level["accuracy"] == pytest.approx(level["harness"])
    assert task["paired"]["before"] == task["models"][0]["right"] and task["paired"]["after"] == task["models"][1]["right"]


def test_one_model_alone(warm: Any, world: Path) -> None:
    ended = warm.run("eval", "--model", "./a", "--suite", "suite.yaml", "--limit", "2", "--out", "one.json", "--json", cwd=world)
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert [part["n"] for part in printed["parts"]] == [2] * 7
    assert "items" not in printed["parts"][0] and "items" in json.loads((world / "one.json").read_text())["parts"][0]


def test_images_before_and_after(warm: Any, tmp_path: Path) -> None:
    make_seeing_model(tmp_path / "a")
    make_seeing_model(tmp_path / "b", seed=1)
    command = ["eval", "--model", "./a", "--after", "./b", "--suite", "multimodal", "--limit", "9", "--out", "o.json"]
    ended = warm.run(*command, cwd=tmp_path)
    assert ended.code == 0, ended.err
    part = json.loads((tmp_path / "o.json").read_text("utf-8"))["parts"][0]
    assert part["n"] == 9 and part["kl"]["mean"] > 0 and all(item["image"].endswith(".png") for item in part["items"])


def broken(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)


def nan_weights(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    make_tiny_model(folder / "nan")
    weights = load_file(folder / "nan/model.safetensors")
    weights["model.norm.weight"].fill_(math.nan)
    save_file(weights, folder / "nan/model.safetensors", metadata={"format": "pt"})


PART = "parts: [{{name: p, data: q.jsonl, {}}}]"
WRONG = {
    "no such suite": (None, ["there is no such suite", "absent.yaml"]),
    "not YAML": ("parts: [", ["s.yaml:1", "not YAML"]),
    "no parts": ("name: x", ["no parts"]),
    "unknown key": (PART.format("magic: 1"), ["part p", "'magic'"]),
    "missing file": ("parts: [{name: p, data: gone.jsonl}]", ["gone.jsonl: no such file"]),
    "nothing packaged": ("parts: [{name: p, data: 'packaged:magic'}]", ["'magic'", "airports"]),
    "two of a name": ("parts: [{name: p, data: q.jsonl}, {name: p, data: q.jsonl}]", ["two parts", "'p'"]),
    "unknown scorer": (PART.format("scorer: magic"), ["part p", "'magic'"]),
    "unknown template": (PART.format("template: magic"), ["part p", "'magic'"]),
    "template that does not fit": (PART.format("scorer: letter, template: qa"), ["part p", "letter"]),
    "unknown language": (PART.format("lang: klingon"), ["part p", "'klingon' is an unknown language"]),
    "language that is not there": (PART.format("lang: fr"), ["no question has lang 'fr'", "en"]),
    "no language": (PART.format("by: subject"), ["q.jsonl:1", "no subject"]),
    "not a number": (PART.format("shuffle: yes"), ["shuffle", "True"]),
    "no fact": (PART.format("trained-on: en"), ["q.jsonl:1", "no fact"]),
    "no checks": (PART.format("scorer: instructions"), ["q.jsonl:1", "no list of checks"]),
    "no choices": (PART.format("shuffle: 1"), ["q.jsonl:1", "no choices"]),
    "not an image": ("parts: [{name: p, data: i.jsonl}]", ["i.jsonl:1", "no.png is not an image"]),
    "an image that is missing": ("parts: [{name: p, data: i.jsonl, images: model}]", ["i.jsonl:1", "does not exist"]),
    "unknown task": ("parts: [{name: p, lm-eval: no_such_task_at_all}]", ["lm-eval no_such_task_at_all", "no such task"]),
    "task without its data": ("parts: [{name: p, lm-eval: t.yaml}]", ["t.yaml", "gone.jsonl does not exist"]),
    "task and data": (PART.format("lm-eval: x"), ["part p", "exactly one"]),
    "positions without answers": (PART.format("positions: 4"), ["part p", "exact", "refuses"]),
    "images and lm-eval": (
        "parts: [{name: p, data: 'packaged:easy-vqa', limit: 1}, {name: t, lm-eval: t.yaml}]",
        ["suite s", "images"],
    ),
    "missing labels": ("labels: gone.jsonl\nparts: [{name: p, data: q.jsonl, scorer: refuses}]", ["gone.jsonl", "no such file"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_suite_is_one_line_and_code_2(warm: Any, tmp_path: Path, case: str) -> None:
    text, told = WRONG[case]
    make_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "q.jsonl", [{"prompt": "p", "answer": "a", "lang": "en"}])
    write_rows(tmp_path / "i.jsonl", [{"prompt": "p", "answer": "a", "image": "no.png"}])
    broken(tmp_path, "no.png", "this is text")
    broken(tmp_path, "t.yaml", TASK.replace("choice.jsonl", "gone.jsonl"))
    if text is not None:
        broken(tmp_path, "s.yaml", text)
    before = sorted(path.name for path in tmp_path.iterdir())
    ended = warm.run("eval", "--model", "./model", "--suite", "absent.yaml" if text is None else "s.yaml", "--out", "o.json", cwd=tmp_path)
    assert ended.code == 2, ended.err
    assert len(ended.lines) == 1 and all(part in ended.err for part in told), ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("scorer", ["exact", "free-text"])
def test_a_model_that_gives_no_numbers_is_code_2(warm: Any, tmp_path: Path, scorer: str) -> None:
    nan_weights(tmp_path)
    write_rows(tmp_path / "q.jsonl", [{"prompt": "p", "answer": "a"}])
    broken(tmp_path, "s.yaml", PART.format(f"scorer: {scorer}"))
    ended = warm.run("eval", "--model", "./nan", "--suite", "s.yaml", "--out", "o.json", "--json", cwd=tmp_path)
    assert ended.code == 2 and "not numbers (NaN)" in ended.err and len(ended.lines) == 1, ended.err
    assert not (tmp_path / "o.json").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ([], "nothing to score on"),
        (["--data", "q.jsonl", "--suite", "safety"], "--data and --suite"),
        (["--suite", "safety", "--scorer", "letter"], "--scorer"),
        (["--suite", "safety", "--limit", "0"], "limit"),
    ],
)
def test_options_that_do_not_go_together(warm: Any, tmp_path: Path, more: list[str], told: str) -> None:
    ended = warm.run("eval", "--model", "./model", *more, "--out", "o.json", cwd=tmp_path)
    assert ended.code == 2 and told in ended.err and len(ended.lines) == 1


@pytest.mark.parametrize("file", sorted((Path(__file__).parents[2] / "suites").glob("*.yaml")), ids=lambda file: file.stem)
def test_the_examples_run(warm: Any, tmp_path: Path, file: Path) -> None:
    make_tiny_model(tmp_path / "model", seed=3)
    ended = warm.run("eval", "--model", "./model", "--suite", str(file), "--limit", "1", "--out", "o.json", "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert all(part["n"] == 1 for part in json.loads(ended.out)["parts"])


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_built_in_suites_can_be_read(name: str) -> None:
    suite = read_suite(name, limit=3)
    assert suite.name == name and all(0 < len(part.questions) <= 18 for part in suite.parts)  # 3 facts in 6 languages
    assert suite.images == (name == "multimodal")


@pytest.mark.parametrize("chosen", ["subject: late", "lang: [de]"])
def test_a_limit_is_of_the_questions_that_are_chosen(tmp_path: Path, chosen: str) -> None:
    rows = [{"prompt": f"p{n}", "answer": "a", "subject": ("early", "late")[n > 9], "lang": ("en", "de")[n > 9]} for n in range(20)]
    write_rows(tmp_path / "rows.jsonl", rows)
    (tmp_path / "s.yaml").write_text(f"parts: [{{name: p, data: rows.jsonl, limit: 4, {chosen}}}]")
    for limit, left in ((None, 4), (2, 2)):
        part = read_suite(str(tmp_path / "s.yaml"), limit=limit).parts[0]
        assert [question.prompt for question in part.questions] == [f"p{n}" for n in range(10, 10 + left)]


def test_a_hub_data_set_may_have_a_dot_in_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from forgetless.data import reading
    from forgetless.data.tables import Record

    asked = []
    monkeypatch.setattr(reading, "read_hub", lambda hub, limit: asked.append(hub) or [Record(1, {"prompt": "p", "answer": "a"})])
    (tmp_path / "s.yaml").write_text("parts: [{name: p, data: 'owner/trivia/rc.nocontext:validation'}]")
    assert len(read_suite(str(tmp_path / "s.yaml")).parts[0].questions) == 1
    assert asked == [reading.parse_hub_name("owner/trivia/rc.nocontext:validation")]


def test_a_part_in_which_a_model_says_nothing_leaves_the_others_whole(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from forgetless.data.model import load_model
    from forgetless.evaluation import run_suite

    def mute(*arguments: Any, **options: Any) -> dict[str, Any]:
        found = examine(*arguments, **options)
        return found | {"items": [item | {"said_before": " "} for item in found["items"]]}

    examine = run_suite.examine
    monkeypatch.setattr(run_suite, "examine", mute)
    parts = "parts: [{name: p, data: prompts.jsonl, scorer: refuses, positions: 2}, {name: t, data: text.jsonl, scorer: perplexity}]"
    (world / "mute.yaml").write_text(f"{parts}\nlabels: labels.jsonl")
    models = [load_model(str(world / name)) for name in "ab"]
    told = run_suite.run_suite(read_suite(str(world / "mute.yaml")), *models, batch_size=2, show=False)
    assert [part["name"] for part in told["parts"]] == ["p", "t"] and "by_position" not in told["parts"][0]
