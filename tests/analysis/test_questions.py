"""Questions as batches: the loss does not depend on how they are cut, groups are by subject."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from forgetless.analysis.questions import MOST_GROUPS, answer_loss, encoded, grouped
from forgetless.core.predictions import Predictions
from forgetless.data.encoding import encode, target
from forgetless.data.model import load_model
from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES
from forgetless.errors import InputError
from forgetless.train.batches import Batches
from language import language_batches, language_model
from tiny import make_tiny_model


def test_the_loss_is_the_mean_of_each_examples_mean_over_its_answer() -> None:
    model, batch = language_model().eval(), language_batches(1, 3, size=5)[0]
    logs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.log_softmax(-1)
    each = []
    for row, labels in enumerate(batch["labels"]):
        places = [at for at in range(1, len(labels)) if labels[at] != -100]
        each.append(-sum(float(logs[row, at - 1, labels[at]].detach()) for at in places) / len(places))
    assert answer_loss(model, batch).item() == pytest.approx(sum(each) / len(each), rel=1e-5)
    single = [answer_loss(model, example).item() for example in Predictions().examples(batch)]
    assert single == pytest.approx(each, rel=1e-5)
    assert len({int((labels != -100).sum()) for labels in batch["labels"]}) > 1, "the answers have different lengths"
    plain = model(**batch).loss
    assert not torch.isclose(plain, answer_loss(model, batch)), "a mean over all tokens is something else"


def question(number: int, subject: str | None) -> Question:
    return Question(id=str(number), kind="open", prompt="p", answers=("a",), subject=subject)


def test_groups_are_subjects_and_the_largest_comes_first() -> None:
    asked = [question(0, "b"), question(1, "a"), question(2, "a"), question(3, None)]
    assert grouped(asked, "subject") == {"a": [1, 2], "b": [0], "other": [3]}
    assert grouped(asked, "none") == {"all": [0, 1, 2, 3]} == grouped([question(n, "a") for n in range(4)], "subject")
    with pytest.raises(InputError, match="group-by"):
        grouped(asked, "colour")


def test_of_many_subjects_the_smallest_are_put_together() -> None:
    asked = [question(n, f"s{n % 20:02d}") for n in range(50)]
    found = grouped(asked, "subject")
    assert len(found) == MOST_GROUPS and list(found)[-1] == "other"
    assert sorted(index for own in found.values() for index in own) == list(range(50))


@pytest.mark.parametrize("template", [None, "plain", *OPTION_NAMES])
def test_a_diagnosis_reads_questions_as_training_does(tmp_path: Path, template: str | None) -> None:
    language = load_model(str(make_tiny_model(tmp_path)))
    asked = [Question(id="q", kind="choice", prompt="which", choices=("red", "blue"), label=1, answers=("blue",))]
    example, batch = encoded(language, asked, template)[0], next(iter(Batches(asked, language, template, 1)))
    assert batch["input_ids"].tolist() == [[*example.prompt, *example.answer]]
    assert [label for label in batch["labels"][0].tolist() if label != -100] == list(example.answer)
    with_end = encode(asked[0], target(asked[0], template), language.tokenizer, template, end=True)
    assert (example == with_end) == (template not in OPTION_NAMES)
