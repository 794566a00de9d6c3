"""lm-evaluation-harness in process: its figures, its log of samples, and the state of the world left alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy
import pytest
import torch

import twins
from forgetless.data.encoding import encode
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.suite import Part
from forgetless.integrations.lm_eval import _number, load_tasks, run_harness

CHOICE = {
    "task": "tiny_choice",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "docs.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "target_delimiter": " ",
    "metric_list": [{"metric": "acc"}],
}
TEXT = {
    "task": "tiny_text",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "docs.jsonl"}},
    "test_split": "test",
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "{{question}} {{choices[0]}}",
    "metric_list": [{"metric": "byte_perplexity"}],
}


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    rows = [{"question": f"q{n}", "choices": ["aa", "bc", "xy"], "answer": n % 3} for n in range(7)]
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for task in (CHOICE, TEXT):
        (tmp_path / f"{task['task']}.json").write_text(json.dumps(task))
    return tmp_path


def test_tasks_of_local_files_are_scored_as_by_hand_and_paired(tasks: Path, tiny: Language, taught: Language) -> None:
    random.seed(5)
    numpy.random.seed(5)
    torch.manual_seed(5)
    kept = random.getstate(), numpy.random.get_state()[1].tolist(), torch.random.get_rng_state()
    tiny.model.train()
    files = tuple(str(tasks / f"{task['task']}.json") for task in (CHOICE, TEXT))
    try:
        found = run_harness(Part("p", lm_eval=files), tiny, taught, 4, False)
        assert tiny.model.training
    finally:
        tiny.model.eval()
    assert random.getstate() == kept[0] and numpy.random.get_state()[1].tolist() == kept[1]
    assert torch.equal(torch.random.get_rng_state(), kept[2])
    choice, text = found["tasks"]
    assert (found["n"], choice["n"], text["n"]) == (14, 7, 7)
    rights = []
    for place, language in enumerate((tiny, taught)):
        right = []
        for n in range(7):
            question = Question("1", "open", f"q{n}")
            values = []
            for option in ("aa", "bc", "xy"):
                example = encode(question, option, language.tokenizer, "plain")
                values.append(twins.log_probability(language, example.prompt, example.answer))  # all of one length
            right.append(values.index(max(values)) == n % 3)
        rights.append(right)
        assert choice["models"][place]["right"] == sum(right)
        assert choice["models"][place]["accuracy"] == pytest.approx(choice["models"][place]["harness"])
    pairs = list(zip(*rights, strict=True))
    assert (choice["paired"]["learned"], choice["paired"]["forgotten"]) == (pairs.count((False, True)), pairs.count((True, False)))
    assert text["change"]["mean"] == pytest.approx(text["models"][1]["mean"] - text["models"][0]["mean"])
    assert text["change"]["low"] < text["change"]["high"]


@pytest.mark.parametrize(
    ("value", "number"), [(True, 1.0), (3, 3.0), (numpy.float32(0.5), 0.5), ((-6.0, 3), 2.0), (("a", "b"), None), ("x", None)]
)
def test_a_sample_as_a_number(value: object, number: float | None) -> None:
    assert _number(value) == number


def test_wrong_tasks_are_told(tasks: Path) -> None:
    file = tasks / "bad.json"
    for content, message in (
        ("{}", "names no task"),
        (json.dumps(CHOICE | {"dataset_kwargs": {"data_files": "gone.jsonl"}}), "gone.jsonl does not exist"),
        (json.dumps(CHOICE | {"output_type": "magic"}), "cannot be loaded"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=message):
            load_tasks([str(file)])
    with pytest.raises(InputError, match="no such file"):
        load_tasks([str(tasks / "absent.yaml")])
    with pytest.raises(InputError, match="named twice"):
        load_tasks([str(tasks / "tiny_text.json")] * 2)
    with pytest.raises(InputError, match="no such folder"):
        load_tasks([str(tasks / "tiny_text.json")], str(tasks / "absent"))
