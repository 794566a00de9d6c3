"""Options in another order, under other names, and other wordings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.templates import OPTION_NAMES, accepted, wording
from forgetless.errors import InputError
from forgetless.evaluation.generate import matches
from forgetless.evaluation.reorder import reworded, shuffled
from forgetless.evaluation.score import score

CHOICES = [
    Question(f"{n}", "choice", f"q{n}", choices=tuple(f"{n}{k}" for k in "abcd"), label=n % 4, answers=(f"{n}{'abcd'[n % 4]}",))
    for n in range(40)
]


def test_shuffling_moves_the_options_and_keeps_the_right_one() -> None:
    made = shuffled(CHOICES, 0)
    for old, new in zip(CHOICES, made, strict=True):
        assert sorted(new.choices) == sorted(old.choices) and new.choices != old.choices
        assert new.choices[new.label or 0] == old.choices[old.label or 0] and (new.id, new.prompt) == (old.id, old.prompt)
    assert len({question.label for question in made}) == 4
    assert sum(new.label == old.label for old, new in zip(CHOICES, made, strict=True)) < 20


def test_the_order_hangs_on_seed_and_id_alone() -> None:
    assert shuffled(CHOICES[5:9], 3) == shuffled(CHOICES, 3)[5:9]
    assert shuffled(CHOICES, 3) != shuffled(CHOICES, 4)


def test_what_has_no_options_is_not_shuffled() -> None:
    with pytest.raises(InputError, match="no choices to shuffle"):
        shuffled([Question("1", "open", "a", ("b",))], 0)


@pytest.mark.parametrize(
    ("template", "names"), [("letter", "ABCD"), ("letter-lower", "abcd"), ("letter-late", "PQRS"), ("letter-digit", "1234")]
)
def test_options_under_other_names(taught: Language, template: str, names: str) -> None:
    text = wording(CHOICES[1], taught.tokenizer, template).before
    assert all(f"{name}. {choice}\n" in text for name, choice in zip(names, CHOICES[1].choices, strict=True))
    assert accepted(CHOICES[1], template) == (names[1],)
    assert matches(f"({names[1]})", CHOICES[1], template) and not matches(names[2], CHOICES[1], template)
    verdicts = score(taught, CHOICES[:6], scorer="letter", template=template)
    assert {verdict.said for verdict in verdicts} <= set(names)
    for question, verdict in zip(CHOICES, verdicts, strict=False):
        assert verdict.right == (verdict.said == names[question.label or 0])
    chosen = score(taught, CHOICES[:6], scorer="likelihood", template=template)
    assert [v.right for v in chosen] == [v.right for v in verdicts]


def test_more_options_than_names_are_refused(taught: Language) -> None:
    many = replace(CHOICES[0], choices=tuple(map(str, range(12))))
    for template in ("letter-late", "letter-digit"):
        with pytest.raises(InputError, match=f"more than there are {'numbers' if template == 'letter-digit' else 'letters'}"):
            wording(many, taught.tokenizer, template)
    assert len(OPTION_NAMES["letter-late"]) == 11


def test_another_wording() -> None:
    chat = Question("c", "chat", "hi", ("yes",), messages=({"role": "system", "content": "s"}, {"role": "user", "content": "hi"}))
    one, two = reworded([CHOICES[0], chat], "Say: {prompt} ({x})")
    assert (one.prompt, one.id) == ("Say: q0 ({x})", "0")
    assert two.messages[-1]["content"] == two.prompt == "Say: hi ({x})" and two.messages[0] == chat.messages[0]


@pytest.mark.parametrize("text", ["no place", "{prompt} and {prompt}"])
def test_a_wording_needs_one_place(text: str) -> None:
    with pytest.raises(InputError, match="does not hold"):
        reworded(CHOICES, text)


def test_plain_text_has_no_wording() -> None:
    with pytest.raises(InputError, match="plain text"):
        reworded([Question("t", "text", "abc")], "x {prompt}")
