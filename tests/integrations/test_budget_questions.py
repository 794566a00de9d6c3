"""Who sees which questions under a budget, and the batches that the method sees, whatever collator the trainer has."""

from dataclasses import replace

import pytest
from transformers import AutoTokenizer, DataCollatorForLanguageModeling, DataCollatorWithPadding

import forgetless as fl
from forgetless.data.encoding import taught
from forgetless.files import write_jsonl
from trainers import make_trainer, rows

SCORER = {"scorer": "likelihood"}


def trained_on(trainer):
    """The retain set as the method sees it: of each row the tokens and the labels, without padding."""
    found = []
    for batch in trainer.forgetless.task.retain:
        for ids, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            found.append((ids[mask == 1].tolist(), labels[mask == 1].tolist()))
            assert (labels[mask == 0] == -100).all()
    return found


def expected(trainer, questions, template=None):
    """Those rows, made by hand."""
    examples = taught(questions, trainer.processing_class, template)
    return [([*one.prompt, *one.answer], [-100] * len(one.prompt) + list(one.answer)) for one in examples]


def asking(tiny, out, **changes):
    trainer = make_trainer(tiny, out, **changes)
    trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
    return trainer


@pytest.mark.parametrize("form", ["file", "list in another order"])
def test_of_questions_that_are_the_retain_set_too_the_method_sees_the_reference_alone(form, tiny, tmp_path, known):
    retain = questions = tmp_path / "known.jsonl"
    write_jsonl(retain, [{"id": q.id, "question": q.prompt, "choices": list(q.choices), "answer": q.label} for q in known])
    if form != "file":
        retain, questions = known, known[::-1]
    trainer = fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=retain, budget=fl.Budget(0.1, questions=questions, **SCORER))
    parts = trainer.forgetless.keeping.parts
    dealt = [question.id for part in (parts.reference, parts.probe, parts.promise) for question in part]
    assert sorted(dealt) == sorted(question.id for question in known) and len(parts.reference) == 16
    assert trained_on(trainer) == expected(trainer, parts.reference)


def test_other_questions_are_seen_whole_by_the_method_and_not_by_the_guard(tiny, tmp_path, known):
    trainer = fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=known[:10], budget=fl.Budget(0.1, questions=known[10:], **SCORER))
    parts = trainer.forgetless.keeping.parts
    assert sorted(q.id for q in [*parts.probe, *parts.promise]) == sorted(q.id for q in known[10:])
    assert trained_on(trainer) == expected(trainer, known[:10])


@pytest.mark.parametrize(
    ("retain", "questions", "heldout", "words"),
    [
        (slice(0, 20), slice(15, 40), None, "5 questions stand in both retain and budget.questions"),
        (slice(0, 20), slice(20, 40), slice(0, 1), "1 question stands in both retain and budget.heldout"),
        (slice(0, 40), None, slice(3, 6), "3 questions stand in both retain and budget.heldout"),
        (None, slice(0, 40), slice(3, 6), "3 questions stand in both budget.questions and budget.heldout"),
    ],
)
def test_what_the_promise_is_given_on_stands_nowhere_else(retain, questions, heldout, words, tiny, tmp_path, known):
    budget = fl.Budget(0.1, *(None if part is None else known[part] for part in (questions, heldout)), **SCORER)
    with pytest.raises(fl.InputError, match=words):
        fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=rows(8, 5) if retain is None else known[retain], budget=budget)


def test_questions_with_one_id_are_refused_and_those_without_get_one(tiny, tmp_path, known):
    with pytest.raises(fl.InputError, match="retain: the id '0' stands twice"):
        fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=[*known, replace(known[0])], budget=fl.Budget(0.1, **SCORER))
    nameless = [replace(question, id="") for question in known]
    trainer = fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=nameless, budget=fl.Budget(0.1, **SCORER))
    assert len({question.id for question in trainer.forgetless.keeping.parts.promise}) == 12


def collators(tiny):
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    return {"language": DataCollatorForLanguageModeling(tokenizer, mlm=False), "default": DataCollatorWithPadding(tokenizer)}


@pytest.mark.parametrize("collator", ["language", "default"])
def test_any_collator_will_do_and_what_stands_before_the_answer_is_no_label(collator, tiny, tmp_path, known):
    data = [{"input_ids": row["input_ids"][:5]} | ({"labels": row["labels"][:5]} if collator == "default" else {}) for row in rows(16, 0)]
    trainer = asking(tiny, tmp_path, data=data, max_steps=3)
    trainer.data_collator = collators(tiny)[collator]
    fl.protect(trainer, fl.Replay(), retain=known, budget=fl.Budget(0.1, **SCORER), retain_batch_size=5)
    assert trained_on(trainer) == expected(trainer, trainer.forgetless.keeping.parts.reference)
    assert [len(batch["input_ids"]) for batch in trainer.forgetless.task.retain] == [5, 5, 5, 1]
    trainer.train()
    assert trainer.forgetless.keeping.verdict["total"] == 12


@pytest.mark.parametrize(("options", "template"), [({"template": "plain", **SCORER}, "plain"), ({"scorer": "letter"}, "letter")])
def test_the_method_keeps_answers_in_the_wording_that_is_asked(options, template, tiny, tmp_path, known):
    trainer = fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=known, budget=fl.Budget(0.1, **options))
    assert trained_on(trainer) == expected(trainer, trainer.forgetless.keeping.parts.reference, template)
    assert trained_on(trainer) != expected(trainer, trainer.forgetless.keeping.parts.reference)


def test_a_question_longer_than_the_model_takes_is_refused_at_once(tiny, tmp_path, known):
    long = [replace(question, prompt=question.prompt + " why" * 200) for question in known]
    with pytest.raises(fl.InputError, match="the model takes 512"):
        fl.protect(asking(tiny, tmp_path), fl.Replay(), retain=long, budget=fl.Budget(0.1, every=2, **SCORER))
