"""Texts go to the tokenizer together and once, and come out as they would one by one."""

from __future__ import annotations

from typing import Any

import pytest

from forgetless.data import tokens
from forgetless.data.encoding import encode_all
from forgetless.data.question import Question
from forgetless.data.tokens import tokenized
from habits import CORPUS, STYLES, make_tokenizer

TEXTS = ["", "Paris", " Paris", "Paris</s>", "The capital of Peru is", "The capital of Peru is Lima.", "a\n\nb", "é ( Oslo ) ü", *CORPUS]


class Counting:
    """A tokenizer that keeps the texts that it is given, call by call."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.calls = tokenizer, []  # type: ignore[var-annotated]  # lists of texts

    def __len__(self) -> int:
        return len(self.tokenizer)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.calls.append(texts)
        return self.tokenizer(texts, **options)

    @property
    def seen(self) -> list[str]:
        """All texts but the sample that shows whether the tokenizer is what it was."""
        return [text for call in self.calls for text in call if text != tokens._SAMPLE[0]]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("kind", ["bytes", "metaspace", "prepend"])
def test_together_is_one_by_one(kind: str, style: str) -> None:
    tokenizer = make_tokenizer(kind, style)
    wanted = [(text, special) for text in TEXTS for special in (True, False)]
    together = tokenized(tokenizer, wanted)
    for text, special in wanted:
        own = tokenizer(text, add_special_tokens=special)["input_ids"]
        closed = special and "eos" in style and len(own) > 1
        assert together[text, special] == tuple(own[:-1] if closed else own)
        assert tokenized(make_tokenizer(kind, style), [(text, special)]) == {(text, special): together[text, special]}


def test_a_text_goes_to_the_tokenizer_once_and_all_new_ones_together() -> None:
    counting = Counting(make_tokenizer("bytes", "bos"))
    questions = [Question(str(n), "open", f"The capital of {n} is", ("Paris",)) for n in range(5)]
    first = encode_all([(question, "Paris") for question in questions], counting)
    assert len(counting.seen) == len(set(counting.seen)) == 10 and len(counting.calls) == 2  # the sample and everything else
    again = encode_all([(question, "Paris") for question in (*questions, *questions)], counting)
    assert again == first * 2 and len(counting.seen) == 10
    encode_all([(questions[0], "Lima"), (questions[0], "Lima")], counting)
    assert counting.seen[10:] == ["The capital of 0 is Lima"]


def test_what_is_remembered_is_of_one_tokenizer() -> None:
    opening, plain = make_tokenizer("bytes", "bos"), make_tokenizer("bytes", "none")
    text = ("Paris", True)
    assert tokenized(opening, [text])[text] == (1, *tokenized(plain, [text])[text])


def test_a_tokenizer_that_changes_is_asked_anew() -> None:
    tokenizer = make_tokenizer("bytes", "bos")
    text = ("Paris is Zanzibar", True)
    before = tokenized(tokenizer, [text])[text]
    tokenizer.add_tokens(["Zanzibar"])
    assert tokenized(tokenizer, [text])[text] == tuple(tokenizer(text[0])["input_ids"]) != before
    tokenizer.backend_tokenizer.post_processor = make_tokenizer("bytes", "bos+eos").backend_tokenizer.post_processor
    assert tokenized(tokenizer, [text])[text] == tuple(tokenizer(text[0])["input_ids"][:-1])
    tokenizer.backend_tokenizer.post_processor = make_tokenizer("bytes", "eos").backend_tokenizer.post_processor
    assert tokenized(tokenizer, [text])[text] == tuple(tokenizer(text[0])["input_ids"][:-1])


def test_it_remembers_so_many_tokens_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "MOST", 20)
    counting = Counting(make_tokenizer("bytes", "none"))
    for n in range(30):
        text = (f"The capital of {n}", False)
        assert tokenized(counting, [text])[text] == tuple(counting.tokenizer(text[0])["input_ids"])
        assert sum(map(len, tokens._memories[counting].known.values())) <= 20 + len(text[0])  # what came last


def test_many_texts_go_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_AT_ONCE", 3)
    counting = Counting(make_tokenizer("bytes", "bos"))
    wanted = [(text, True) for text in TEXTS]
    assert tokenized(counting, wanted) == tokenized(make_tokenizer("bytes", "bos"), wanted)
    assert max(map(len, counting.calls)) == 3 and counting.seen == TEXTS


def test_a_tokenizer_is_not_kept_alive() -> None:
    tokenizer = make_tokenizer("bytes", "none")
    tokenized(tokenizer, [("Paris", False)])
    held = len(tokens._memories)
    del tokenizer
    assert len(tokens._memories) == held - 1
