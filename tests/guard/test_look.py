"""What a look measures, against one question at a time."""

import pytest
import torch

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.evaluation.score import score
from forgetless.guard.look import NEIGHBOURS, expected_share, margin, standing


def slow_margin(logits, answer):
    found = []
    for row, token in zip(logits.log_softmax(-1).tolist(), answer, strict=True):
        found.append(row[token] - max(value for index, value in enumerate(row) if index != token))
    return min(found)


def test_the_margin_is_the_least_lead_in_log_probability():
    draw = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = torch.randn(3, 11, generator=draw)
        answer = torch.randint(0, 11, (3,), generator=draw).tolist()
        assert margin(logits, answer) == pytest.approx(slow_margin(logits, answer), abs=1e-5)


def test_a_tie_counts_as_the_argmax_decides_it():
    logits = torch.tensor([[1.0, 1.0, 0.0]])
    assert int(logits.argmax()) == 0
    assert margin(logits, [0]) > 0
    assert margin(logits, [1]) <= 0


def slow_expected(before, now):
    order = sorted(range(len(before)), key=lambda index: (before[index], index))
    size, total = max(1, round(NEIGHBOURS * len(order))), 0.0
    for rank, item in enumerate(order):
        first = min(max(0, rank - size // 2), len(order) - size)
        near = order[first : first + size]
        total += sum(before[item] + now[other] - before[other] <= 0 for other in near) / size
    return total / len(order)


def test_the_expected_share_is_the_mean_over_items_and_neighbours():
    draw = torch.Generator().manual_seed(1)
    for count in (1, 2, 7, 40):
        before = (torch.rand(count, generator=draw) * 3 + 1e-3).tolist()
        now = [value - change for value, change in zip(before, torch.randn(count, generator=draw).tolist(), strict=True)]
        assert expected_share(before, now) == pytest.approx(slow_expected(before, now))


def test_untouched_margins_lead_to_expect_nothing_and_lost_ones_everything():
    before = [0.1, 0.5, 1.0, 2.0, 3.0]
    assert expected_share(before, before) == 0.0
    assert expected_share(before, [-1.0] * 5) == 1.0


def test_the_expected_share_rises_before_the_first_item_turns():
    before = [0.2 + 0.1 * index for index in range(30)]
    now = [value - (0.35 if index % 2 and value > 0.36 else 0.0) for index, value in enumerate(before)]
    assert min(now) > 0
    assert expected_share(before, now) > 0.02


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tiny import make_tiny_model

    folder = make_tiny_model(tmp_path_factory.mktemp("tiny"))
    return Language(AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder), "tiny")


def questions(answers):
    return [Question(id=f"{index}", kind="open", prompt=f"item {index} is", answers=tuple(own)) for index, own in enumerate(answers)]


def test_a_look_agrees_with_the_scorer_and_with_margins_item_by_item(language):
    asked = questions([["a"], ["red"], ["b", "cd"], ["xyz"], ["q"]])
    found = standing(language, asked, "exact", None, 2)
    assert found.right == [bool(verdict.right) for verdict in score(language, asked)]
    alone = [standing(language, [question], "exact", None, 1).margins[0] for question in asked]
    assert found.margins == pytest.approx(alone, abs=1e-4)


def test_of_several_accepted_answers_the_best_counts(language):
    one, other, both = (standing(language, questions([own]), "exact", None, 4).margins[0] for own in (["b"], ["cd"], ["b", "cd"]))
    assert both == pytest.approx(max(one, other), abs=1e-4)


def test_a_scorer_without_margins_gives_accuracy_alone(language):
    asked = [Question(id="0", kind="choice", prompt="x", choices=("a", "bb"), label=0, answers=("a",))]
    found = standing(language, asked, "likelihood", None, 4)
    assert found.margins is None
    assert found.right == [bool(verdict.right) for verdict in score(language, asked, scorer="likelihood")]
