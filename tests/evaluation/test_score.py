"""Every scorer against a slow, obvious twin, and in batches of any size, on a tiny model."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import twins
from forgetless.data.encoding import encode
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import ForgetlessError, InputError
from forgetless.evaluation.score import SCORERS, Verdict, check_scorer, score

CHOICES = [
    Question(f"c{n}", "choice", f"{place} is", choices=choices, label=n % len(choices), answers=(choices[n % len(choices)],))
    for n, place in enumerate(("Oslo", "Lima", "Quito", "Accra", "Bern", "Riga", "Cairo", "Dhaka"))
    for choices in (("one", "B"), ("sixteen", "x9", "7", "forty-two"), ("eel", "ox", "a b c", "Zürich", "到了"))
]
TEXTS = [Question(f"t{n}", "text", "All is well that ends well. " * (n + 1)) for n in range(6)]


def rights(verdicts: list[Verdict]) -> list[bool | None]:
    return [verdict.right for verdict in verdicts]


def test_exact_is_greedy_decoding(taught: Language, facts: list[Question]) -> None:
    verdicts = score(taught, facts)
    assert rights(verdicts) == [twins.exact(taught, question) for question in facts]
    assert 4 <= sum(bool(right) for right in rights(verdicts)) <= 20
    for question, verdict in zip(facts, verdicts, strict=True):
        example = encode(question, question.answers[0], taught.tokenizer)
        assert verdict.value == pytest.approx(twins.log_probability(taught, example.prompt, example.answer), abs=1e-4)
        if verdict.right:
            assert verdict.said == question.answers[0]


def test_exact_of_an_untrained_model_and_of_its_own_words(tiny: Language, facts: list[Question]) -> None:
    assert rights(score(tiny, facts)) == [twins.exact(tiny, question) for question in facts]
    own = []
    for question in facts:
        prompt = encode(question, "x", tiny.tokenizer, "qa").prompt
        text = tiny.tokenizer.decode(twins.greedy(tiny, prompt, 5))
        again = replace(question, answers=(text,)) if text.strip() else question
        own.append(again)
    assert rights(score(tiny, own, template="qa")) == [twins.exact(tiny, question, "qa") for question in own]


@pytest.mark.parametrize("place", [0, 1, 2])
def test_exact_takes_any_accepted_answer(taught: Language, facts: list[Question], place: int) -> None:
    known = next(question for question, verdict in zip(facts, score(taught, facts), strict=True) if verdict.right)
    answers = ["nothing of the kind", "nor that"]
    answers.insert(place, known.answers[0])
    several = replace(known, answers=tuple(answers))
    verdict = score(taught, [several, replace(several, answers=("nor that",))], batch_size=1)
    assert rights(verdict) == [True, False]
    assert verdict[0].value == pytest.approx(score(taught, [known])[0].value, abs=1e-5)
    if place == 0:
        assert verdict[0].said == known.answers[0]
    else:
        assert len(verdict[0].said or "") > len(known.answers[0])  # said where it is shown the first answer, a longer one


def test_exact_with_the_same_question_twice_and_answers_twice(taught: Language, facts: list[Question]) -> None:
    once = score(taught, facts[:4])
    twice = score(taught, [*facts[:4], *(replace(q, answers=q.answers * 2) for q in facts[:4])])
    assert rights(twice) == rights(once) * 2


LONG = ("instructions", "refuses", "complies")
ASKED = [(scorer, template) for scorer in sorted(SCORERS) for template in (None, "qa", "chat") if scorer != "letter" or template is None]


@pytest.mark.parametrize(("scorer", "template"), ASKED)
def test_the_size_of_a_batch_changes_no_verdict(taught: Language, facts: list[Question], scorer: str, template: str | None) -> None:
    facts = [replace(question, row={"checks": [{"type": "words", "at_most": 3}, {"type": "no-commas"}]}) for question in facts]
    questions = {"letter": CHOICES, "likelihood": CHOICES, "perplexity": facts + TEXTS}.get(scorer, facts[:6] if scorer in LONG else facts)
    alone = score(taught, questions, scorer=scorer, template=template, batch_size=1)
    assert len({verdict.said for verdict in alone}) > 1 or scorer == "perplexity"
    for size in (3, 8, 64):
        together = score(taught, questions, scorer=scorer, template=template, batch_size=size)
        assert [(v.right, v.said) for v in together] == [(v.right, v.said) for v in alone]
        assert [v.value for v in together] == pytest.approx([v.value for v in alone], rel=1e-3)


def test_likelihood_is_the_mean_per_token(taught: Language) -> None:
    verdicts = score(taught, CHOICES, scorer="likelihood")
    expected = [twins.likeliest(taught, question) for question in CHOICES]
    assert [verdict.said for verdict in verdicts] == [q.choices[n] for q, n in zip(CHOICES, expected, strict=True)]
    assert rights(verdicts) == [n == q.label for q, n in zip(CHOICES, expected, strict=True)]
    assert {True, False} == set(rights(verdicts))


def test_likelihood_of_two_options_with_the_same_text_does_not_hang_on_their_order(taught: Language) -> None:
    one = Question("1", "choice", "Oslo is", choices=("same", "same"), label=0, answers=("same",))
    assert rights(score(taught, [one, replace(one, label=1)], scorer="likelihood")) == [True, True]


def test_letter_is_the_largest_logit_of_the_letters(taught: Language) -> None:
    for question, verdict in zip(CHOICES, score(taught, CHOICES, scorer="letter"), strict=True):
        options = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCDE", question.choices, strict=False))
        text = f"<user>{question.prompt}\n{options}\nAnswer with the letter of the right option.\n<assistant>"
        logits = twins.next_logits(taught, taught.tokenizer(text)["input_ids"])
        among = logits[[taught.tokenizer(letter)["input_ids"][0] for letter in "ABCDE"[: len(question.choices)]]].log_softmax(-1)
        choice = int(among.argmax())
        assert (verdict.said, verdict.right) == ("ABCDE"[choice], choice == question.label)
        assert verdict.value == pytest.approx(float(among[question.label or 0]), abs=1e-4)


def test_letter_refuses_a_tokenizer_that_writes_a_letter_in_two_tokens(taught: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taught.tokenizer, "chat_template", None)  # then " A" is asked for: a byte-level tokenizer has no such token
    with pytest.raises(InputError, match="the letter A in 2 tokens"):
        score(taught, CHOICES, scorer="letter")


def test_letters_are_what_counts_under_the_template_letter(taught: Language) -> None:
    """Training under it teaches letters, so the other scorers must ask for letters too."""
    by_letter = score(taught, CHOICES, scorer="letter")
    values = score(taught, CHOICES, scorer="likelihood", template="letter")
    assert [v.said for v in values] == [q.choices["ABCDE".index(str(v.said))] for q, v in zip(CHOICES, by_letter, strict=True)]
    exact = score(taught, CHOICES, scorer="exact", template="letter")
    for question, verdict in zip(CHOICES, exact, strict=True):
        prompt = encode(question, "A", taught.tokenizer, "letter").prompt
        said = taught.tokenizer.decode(twins.greedy(taught, prompt, 1))
        assert verdict.right == (said == "ABCDE"[question.label or 0])


def test_perplexity_is_the_exponential_of_the_models_own_loss(taught: Language, facts: list[Question]) -> None:
    for question in (*TEXTS[:3], *facts[:5]):
        example = encode(question, question.answers[0] if question.answers else "", taught.tokenizer)
        ids = torch.tensor([example.prompt + example.answer])
        labels = ids.clone()
        labels[0, : len(example.prompt)] = -100
        with torch.no_grad():
            loss = float(taught.model(input_ids=ids, labels=labels).loss)
        verdict = score(taught, [question], scorer="perplexity")[0]
        assert verdict.right is None
        assert verdict.value == pytest.approx(math.exp(loss), rel=1e-4)


def test_perplexity_is_finite_where_the_model_is_sure_of_something_else(tiny: Language) -> None:
    with torch.no_grad():
        tiny.model.model.norm.weight.mul_(1e6)
    try:
        value = score(tiny, [Question("1", "open", "a", ("zzz",))], scorer="perplexity")[0].value
    finally:
        with torch.no_grad():
            tiny.model.model.norm.weight.div_(1e6)
    assert 1e100 < value < math.inf


def test_a_broken_model_is_an_error_not_a_wrong_answer(tiny: Language, facts: list[Question]) -> None:
    kept = tiny.model.model.norm.weight.detach().clone()
    with torch.no_grad():
        tiny.model.model.norm.weight.fill_(math.nan)
    try:
        with pytest.raises(ForgetlessError, match="not numbers"):
            score(tiny, facts)
    finally:
        with torch.no_grad():
            tiny.model.model.norm.weight.copy_(kept)


def test_the_mode_of_every_module_and_of_torch_is_left_as_it_was(tiny: Language, facts: list[Question]) -> None:
    tiny.model.train()
    tiny.model.model.norm.eval()
    try:
        for scorer in ("exact", "generate"):
            score(tiny, facts[:3], scorer=scorer)
            assert tiny.model.training and not tiny.model.model.norm.training
        assert not torch.is_inference_mode_enabled() and torch.is_grad_enabled()
    finally:
        tiny.model.eval()


@pytest.mark.parametrize("scorer", sorted(SCORERS))
def test_every_question_is_told_to_the_bar_once(taught: Language, facts: list[Question], scorer: str) -> None:
    told: list[int] = []
    checks = {"checks": [{"type": "json"}]}
    own = [replace(q, answers=(*q.answers, "other"), row=checks) for q in (facts[:7] if scorer in LONG else facts)]
    questions = CHOICES if scorer in ("letter", "likelihood") else own
    score(taught, questions, scorer=scorer, batch_size=5, advance=lambda done, note="": told.append(done))
    assert sum(told) == len(questions)


@pytest.mark.parametrize(
    ("scorer", "template", "question", "message"),
    [
        ("exact", None, TEXTS[0], "plain text has no answer"),
        ("generate", None, TEXTS[0], "plain text has no answer"),
        ("letter", None, Question("7", "open", "a", ("b",), where="f.jsonl:7"), "f.jsonl:7: it has no choices"),
        ("likelihood", None, Question("7", "open", "a", ("b",)), "it has no choices"),
        ("letter", "qa", CHOICES[0], "its own template"),
        ("exact", None, Question("7", "open", "a"), "7: it has no answer"),
        ("generate", None, Question("7", "open", "a"), "7: it has no answer"),
        ("exact", None, Question("7", "open", "a", (" ",)), "its answer is empty"),
        ("perplexity", None, Question("7", "open", "a"), "its answer is empty"),
        ("exact", None, Question("7", "open", "a" * 600, ("b",), where="f.jsonl:7"), "f.jsonl:7: it has 602 tokens, the model takes 512"),
        ("best", None, CHOICES[0], "scorer: 'best' is unknown"),
        ("exact", "mine", CHOICES[0], "template: 'mine' is unknown"),
    ],
)
def test_what_does_not_fit_is_refused(tiny: Language, scorer: str, template: str | None, question: Question, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(tiny, [question], scorer=scorer, template=template)


def test_a_scorer_without_right_and_wrong_is_refused_where_it_must_have_them() -> None:
    check_scorer("perplexity")
    with pytest.raises(InputError, match="no right from wrong"):
        check_scorer("perplexity", right_and_wrong=True)


def test_no_questions_no_verdicts(tiny: Language) -> None:
    assert score(tiny, []) == []
