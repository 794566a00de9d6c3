"""One prompt for several answers: the same numbers as a row each, and the plain way where a model cannot."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel

import twins
from forgetless.data.encoding import Example
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.evaluation import forward, packed
from forgetless.evaluation.forward import answer_logits, both_logits
from forgetless.evaluation.score import score


def questions(count: int) -> list[Question]:
    draw = random.Random(0)
    made = []
    for n in range(count):
        options = tuple("".join(draw.choices("abcdefg ", k=draw.randint(1, 9))).strip() + str(k) for k in range(draw.randint(2, 5)))
        made.append(Question(f"{n}", "choice", "x" * draw.randint(1, 30), choices=options, label=0, answers=(options[0],)))
    return made


def test_packed_rows_give_the_numbers_of_one_answer_at_a_time(taught: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions(17)
    used = []
    monkeypatch.setattr(packed, "packed_logits", lambda *a, real=packed.packed_logits: (used.append(len(a[2])), real(*a))[1])
    together = score(taught, asked, scorer="likelihood", batch_size=5)
    assert sum(used) == len(asked) + 1 and max(used) <= 5  # the longest one twice: once to try
    for question, verdict in zip(asked, together, strict=True):
        assert verdict.said == question.choices[twins.likeliest(taught, question)]
        alone = score(taught, [question], scorer="likelihood")[0]
        assert (verdict.right, verdict.said) == (alone.right, alone.said)
        assert verdict.value == pytest.approx(alone.value, abs=1e-4)


def test_an_answer_does_not_see_the_others(taught: Language) -> None:
    prompt, answers = (5, 6, 7), [(8, 9, 10), (11,), (8, 12)]
    examples = [Example(prompt, answer) for answer in answers]
    for index, logits in packed.packed_logits(taught, examples, [[0, 1, 2]], True):
        for place in range(len(answers[index])):
            expected = twins.next_logits(taught, [*prompt, *answers[index][:place]])
            assert torch.allclose(logits[place], expected, atol=1e-4)


def test_only_neighbours_with_the_same_prompt_share_a_row() -> None:
    examples = [Example((1,), (2,)), Example((1,), (3,)), Example((4,), (2,)), Example((1,), (5,))]
    assert packed.groups(examples) == [[0, 1], [2], [3]]


@pytest.mark.parametrize(("size", "positions", "tokens"), [(3, 10**6, None), (64, 40, None), (64, 10**6, 60), (1, 10**6, None)])
def test_batches_keep_to_their_bounds_and_lose_nothing(size: int, positions: int, tokens: int | None) -> None:
    draw = random.Random(1)
    examples = [Example((n,) * draw.randint(1, 20), (1,) * draw.randint(1, 6)) for n in range(30) for _ in range(3)]
    found = packed.groups([Example((n, *one.prompt[1:]), one.answer) for n, one in enumerate(examples)])
    seen = []
    for rows in packed.batches(examples, found, size, positions, tokens):
        wide = max(sum(len(examples[i].answer) - 1 for i in group) for group in rows)
        tall = max(len(examples[group[0]].prompt) for group in rows)
        assert len(rows) == 1 or (
            len(rows) <= size and len(rows) * (wide + 1) <= positions and (tokens is None or len(rows) * (wide + tall) <= tokens)
        )
        seen += [i for group in rows for i in group]
    assert sorted(seen) == list(range(len(examples)))


def plain_only(language: Language, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool | None, str | None]]:
    with monkeypatch.context() as patch:
        patch.setattr(forward, "PACK_FROM", 10**9)
        return [(v.right, v.said) for v in score(language, questions(8), scorer="likelihood")]


def test_a_model_with_positions_by_distance_is_found_out_and_asked_the_plain_way(tiny: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bloom's ALiBi reads distances off the mask, so options side by side would count as text in between."""
    torch.manual_seed(0)
    config = BloomConfig(vocab_size=257, hidden_size=32, n_layer=2, n_head=2, initializer_range=0.5)
    bloom = Language(BloomForCausalLM(config).eval(), tiny.tokenizer, "bloom")
    batches = []
    monkeypatch.setattr(packed, "batches", lambda *a: batches.append(a) or iter(()))
    found = [(v.right, v.said) for v in score(bloom, questions(8), scorer="likelihood")]
    assert not batches
    assert found == plain_only(bloom, monkeypatch)


def test_a_model_with_learned_positions_is_packed(tiny: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=257, n_embd=32, n_layer=2, n_head=2, n_positions=256, initializer_range=0.5)).eval()
    gpt = Language(model, tiny.tokenizer, "gpt2")
    used = []
    monkeypatch.setattr(packed, "batches", lambda *a, real=packed.batches: (used.append(1), real(*a))[1])
    found = [(v.right, v.said) for v in score(gpt, questions(8), scorer="likelihood")]
    assert used and found == plain_only(gpt, monkeypatch)


def test_logits_come_for_every_example_once(taught: Language) -> None:
    examples = (
        [Example((1, 2), (k, 3)) for k in range(4, 9)] * 2
        + [Example((9,), (1,))]
        + [Example((7, k), (1, 2)) for k in range(6) for _ in "ab"]
    )
    assert sorted(index for index, _ in answer_logits(taught, examples, batch_size=4)) == list(range(len(examples)))


@pytest.mark.parametrize("first", [True, False])
def test_two_models_of_which_one_does_not_pack_are_asked_in_one_order(taught: Language, first: bool) -> None:
    coarse = Language(copy.deepcopy(taught.model).bfloat16(), taught.tokenizer, "coarse")
    pair = (taught, coarse) if first else (coarse, taught)
    examples = [Example((7,) * (9 - k), answer) for k in range(6) for answer in ((1, 2), (3,) * (5 * k + 1))]
    found = {index: (old, new) for index, old, new in both_logits(*pair, examples, batch_size=4)}
    alone = [dict(answer_logits(one, examples, batch_size=1)) for one in pair]
    assert [len(old) for _, (old, _) in sorted(found.items())] == [len(example.answer) for example in examples]
    for index, both in found.items():
        for mine, theirs in zip(both, (one[index] for one in alone), strict=True):
            torch.testing.assert_close(mine.log_softmax(-1), theirs.log_softmax(-1), atol=0.1, rtol=0)
