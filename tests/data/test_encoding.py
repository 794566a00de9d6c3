"""Questions as tokens, with tokenizers of every habit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from forgetless.data.encoding import IGNORED, collate, encode, pad_id, target, taught
from forgetless.data.model import load_model
from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES
from forgetless.errors import InputError
from forgetless.train.batches import Batches
from habits import STYLES, make_tokenizer
from tiny import make_tiny_model

PARIS = Question("1", "open", "The capital of France is", ("Paris",), where="f.jsonl:1")


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_a_text_is_opened_but_never_closed(kind: str, style: str) -> None:
    tokenizer = make_tokenizer(kind, style)
    example = encode(PARIS, "Paris", tokenizer)
    ids = [*example.prompt, *example.answer]
    assert ids == [*([1] if "bos" in style else []), *tokenizer("The capital of France is Paris", add_special_tokens=False)["input_ids"]]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "The capital of France is Paris"
    assert tokenizer.decode(example.answer).strip() == "Paris"
    text = encode(Question("2", "text", "The capital of Peru"), "", tokenizer)
    assert [*text.prompt, *text.answer] == tokenizer("The capital of Peru")["input_ids"][: None if "eos" not in style else -1]
    assert len(text.prompt) == 1


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_blanks_between_prompt_and_answer_make_no_difference(kind: str) -> None:
    """``"is"``, ``"is "`` and a completion ``" Paris"`` are all the same text to the model."""
    tokenizer = make_tokenizer(kind, "bos")
    expected = encode(PARIS, "Paris", tokenizer)
    spaced = Question("1", "open", "The capital of France is ", ("Paris",))
    assert encode(spaced, "Paris", tokenizer) == encode(PARIS, " Paris", tokenizer) == expected


def test_an_end_that_the_text_itself_holds_is_kept() -> None:
    tokenizer = make_tokenizer("bytes", "bos+eos")
    example = encode(Question("1", "text", "Paris</s>"), "", tokenizer)
    assert example.answer[-1] == 2 and example.answer.count(2) == 1


@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_an_answer_that_would_merge_with_the_prompt_leaves_the_prompt_as_it_is(kind: str) -> None:
    """The prompt has the tokens that it has when the model is used; the answer stands by itself, without a blank of its own."""
    tokenizer = make_tokenizer(kind, "bos")
    opening = Question("1", "open", "is\n", ("\n\nParis",))
    example = encode(opening, opening.answers[0], tokenizer)
    assert list(example.prompt) == tokenizer("is\n")["input_ids"]
    joined = tokenizer("is\n\n\nParis")["input_ids"]
    assert joined[: len(example.prompt)] != list(example.prompt)  # it would merge
    assert tokenizer.decode([*example.prompt, *example.answer], skip_special_tokens=True) == "is\n\n\nParis"


def test_an_empty_prompt_needs_a_token_to_start_from() -> None:
    question = Question("1", "open", "", ("Paris",), where="f.jsonl:1")
    assert encode(question, "Paris", make_tokenizer("bytes", "bos")).prompt == (1,)
    assert encode(question, "Paris", make_tokenizer("bytes", "eos")).prompt == (2,)
    with pytest.raises(InputError, match=r"^f.jsonl:1: it has fewer than two tokens"):
        encode(question, "Paris", make_tokenizer("bytes", "none"))


def test_a_chat_template_writes_its_own_marks() -> None:
    tokenizer = make_tokenizer("bytes", "bos+eos")
    tokenizer.chat_template = "<s>{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    chat = Question("1", "chat", "Paris", ("Lima",), messages=({"role": "user", "content": "Paris"},))
    example = encode(chat, "Lima", tokenizer)
    assert example.prompt.count(1) == 1 and example.prompt[0] == 1 and example.prompt[-1] == 2
    assert 2 not in example.answer
    assert encode(chat, "Lima", tokenizer, end=True).answer == (*example.answer, 2)


@pytest.mark.parametrize("template", sorted(OPTION_NAMES))
def test_training_teaches_the_name_of_an_option_without_an_end_and_a_chats_answer_with_one(template: str) -> None:
    tokenizer = make_tokenizer("bytes", "bos+eos")
    tokenizer.chat_template = "<s>{% for m in messages %}{{ m.content }}</s>{% endfor %}"
    choice = Question("1", "choice", "Paris", ("Lima",), choices=("Oslo", "Lima"), label=1)
    chat = Question("2", "chat", "Paris", ("Lima",), messages=({"role": "user", "content": "Paris"},))
    assert taught([choice], tokenizer, template) == [encode(choice, target(choice, template), tokenizer, template)]
    assert taught([chat], tokenizer) == [encode(chat, "Lima", tokenizer, end=True)] != [encode(chat, "Lima", tokenizer)]


@pytest.mark.parametrize("template", ["plain", "qa"])
def test_without_a_chat_template_nothing_ends_an_answer(template: str) -> None:
    tokenizer = make_tokenizer("bytes", "bos+eos")
    assert encode(PARIS, "Paris", tokenizer, template, end=True) == encode(PARIS, "Paris", tokenizer, template)


def test_what_is_too_long_names_its_row() -> None:
    tokenizer = make_tokenizer("bytes", "bos")
    length = len(encode(PARIS, "Paris", tokenizer))
    assert len(encode(PARIS, "Paris", tokenizer, room=length)) == length
    with pytest.raises(InputError, match=rf"^f.jsonl:1: it has {length} tokens, the model takes {length - 1}"):
        encode(PARIS, "Paris", tokenizer, room=length - 1)


@pytest.mark.parametrize("answer", ["", " ", "\n"])
def test_an_empty_answer_is_refused(answer: str) -> None:
    with pytest.raises(InputError, match=r"^f.jsonl:1: its answer is empty"):
        encode(PARIS, answer, make_tokenizer("bytes", "bos"))


def test_a_text_of_one_token_is_refused() -> None:
    with pytest.raises(InputError, match="fewer than two tokens"):
        encode(Question("1", "text", "a"), "", make_tokenizer("bytes", "none"))


def test_training_sees_the_tokens_that_scoring_looks_at(tmp_path: Path) -> None:
    language = load_model(str(make_tiny_model(tmp_path)))
    choice = Question("c", "choice", "Which?", choices=("red", "blue"), label=1, answers=("blue",))
    for question, template in ((PARIS, None), (PARIS, "qa"), (choice, None), (choice, "letter"), (Question("t", "text", "abc d"), None)):
        example = encode(question, target(question, template), language.tokenizer, template)
        (batch,) = Batches([question], language, template, 1)
        length = len(example)
        assert batch["input_ids"][0, :length].tolist() == [*example.prompt, *example.answer]
        labels = batch["labels"][0].tolist()
        assert labels[:length] == [IGNORED] * len(example.prompt) + list(example.answer)


def test_padding_changes_neither_loss_nor_gradient(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    examples = [encode(Question("1", "open", "ab" * n, ("xyz",)), "xyz", tokenizer) for n in (1, 9, 30)]
    together = collate(examples, pad_id(tokenizer))
    assert together["attention_mask"].sum(1).tolist() == [len(example) for example in examples]
    assert (together["labels"][together["attention_mask"] == 0] == IGNORED).all()
    with torch.no_grad():
        alone = sum(float(model(**collate([example], 0)).loss) for example in examples) / 3  # each has as many answer tokens
        for pad in (0, 77):
            assert float(model(**collate(examples, pad)).loss) == pytest.approx(alone, rel=1e-5)


def test_any_token_will_do_for_padding() -> None:
    tokenizer = make_tokenizer("bytes", "bos")
    assert pad_id(tokenizer) == 2
    tokenizer.pad_token = "<unk>"
    assert pad_id(tokenizer) == 0
    tokenizer.pad_token = tokenizer.eos_token = None
    assert pad_id(tokenizer) == 0
