"""A protected trainer under a budget: the reference loop's guard, its verdict, its resume, its refusals."""

import pytest
import torch
from transformers import AutoTokenizer
from transformers.trainer_utils import get_last_checkpoint

import forgetless as fl
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.files import write_jsonl
from trainers import apart, make_trainer, rows, weights


def budgeted(tiny, out, known, *, allowed=0.1, method=None, budget=None, retain=None, **changes):
    trainer = make_trainer(tiny, out, **({"learning_rate": 0.02, "max_steps": 8} | changes))
    trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
    budget = budget or fl.Budget(allowed, questions=known, every=2, scorer="likelihood")
    return fl.protect(trainer, method or fl.METHODS["none"](), retain=rows(8, 5) if retain is None else retain, budget=budget)


def right(trainer, questions):
    language = Language(trainer.model, trainer.processing_class, "tiny")
    return [bool(verdict.right) for verdict in fl.score(language, questions, scorer="likelihood")]


def test_the_verdict_is_that_of_scoring_by_hand_and_stands_in_the_log(tiny, tmp_path, known):
    trainer = budgeted(tiny, tmp_path, known)
    keeping = trainer.forgetless.keeping
    promised = keeping.parts.promise
    before = right(trainer, promised)
    trainer.train()
    after = right(trainer, promised)
    lost = sum(b and not a for b, a in zip(before, after, strict=True))
    assert keeping.verdict["total"] == sum(before) > 0
    assert keeping.verdict["forgotten"] == lost
    assert keeping.verdict["kept"] is (lost <= 0.1 * sum(before))
    (logged,) = [line for line in trainer.state.log_history if "forgetless/budget_kept" in line]
    assert logged["forgetless/budget_forgotten"] == lost
    assert not {q.id for q in promised} & {q.id for q in keeping.parts.probe}


def test_the_guard_acts_and_leaves_weights_within_the_budget_on_its_probe(tiny, tmp_path, known):
    trainer = budgeted(tiny, tmp_path, known)
    keeping = trainer.forgetless.keeping
    before = right(trainer, keeping.parts.probe)
    trainer.train()
    assert {line["act"] for line in keeping.history if line["kind"] == "act"} >= {"tighten"}
    after = right(trainer, keeping.parts.probe)
    assert sum(b and not a for b, a in zip(before, after, strict=True)) <= 0.1 * sum(before)
    assert keeping.guard.last.forgotten == sum(b and not a for b, a in zip(before, after, strict=True))


def test_without_anything_forgotten_it_trains_as_without_a_budget(tiny, tmp_path, known):
    trainer = budgeted(tiny, tmp_path / "a", known, learning_rate=1e-7)
    trainer.train()
    plain = make_trainer(tiny, tmp_path / "b", learning_rate=1e-7, max_steps=8)
    plain.train()
    assert trainer.forgetless.keeping.verdict["acts"] == 0
    assert apart(weights(trainer), weights(plain)) == 0.0


def test_questions_alone_are_reference_probe_and_promise(tiny, tmp_path, known):
    rows_of = [{"id": q.id, "question": q.prompt, "choices": list(q.choices), "answer": q.label} for q in known]
    write_jsonl(tmp_path / "known.jsonl", rows_of)
    trainer = make_trainer(tiny, tmp_path / "out", learning_rate=1e-6)
    trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
    fl.protect(trainer, fl.CPL(), retain=str(tmp_path / "known.jsonl"), budget=fl.Budget(0.2, scorer="likelihood"))
    parts = trainer.forgetless.keeping.parts
    assert len(parts.reference) + len(parts.probe) + len(parts.promise) == len(known)
    assert sum(len(batch["input_ids"]) for batch in trainer.forgetless.task.retain) == len(parts.reference)
    trainer.train()
    assert trainer.forgetless.keeping.verdict["kept"] is True


def test_the_line_to_the_start_is_kept_once_while_the_weights_are_those_it_begins_at(tiny, tmp_path, known):
    trainer = budgeted(tiny, tmp_path, known)
    keeping, start = trainer.forgetless.keeping, weights(trainer)
    trainer.train()
    first, own = keeping._first._origin, keeping.guard._origin
    assert own.keys() == start.keys() and all(own[name] is first[name] for name in own)
    assert all(torch.equal(own[name], start[name]) for name in own)
    begun = weights(trainer)
    trainer.train()
    again = keeping.guard._origin
    assert all(torch.equal(again[name], begun[name]) for name in again) and not torch.equal(again[name := next(iter(again))], start[name])


def test_the_best_model_in_place_of_the_one_that_was_looked_at_is_refused(tiny, tmp_path, known):
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class, trainer.args.load_best_model_at_end = AutoTokenizer.from_pretrained(tiny), True
    with pytest.raises(fl.InputError, match=r"load_best_model_at_end .* guard"):
        fl.protect(trainer, fl.Replay(), retain=known, budget=fl.Budget(0.1, scorer="likelihood"))
    assert not hasattr(trainer, "forgetless")


@pytest.mark.parametrize("stop", [3, 6])
def test_a_resumed_training_is_the_same_bit_for_bit(tiny, tmp_path, known, stop):
    whole = budgeted(tiny, tmp_path / "whole", known)
    whole.train()
    first = budgeted(tiny, tmp_path / "parts", known, save_strategy="steps", save_steps=stop)
    first.train()
    again = budgeted(tiny, tmp_path / "parts", known, save_strategy="no")
    again.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{stop}"))
    assert get_last_checkpoint(str(tmp_path / "parts")) is not None
    assert apart(weights(whole), weights(again)) == 0.0
    one, other = (
        [{key: value for key, value in line.items() if key != "seconds"} for line in trainer.forgetless.keeping.history]
        for trainer in (whole, again)
    )
    assert one == other
    assert any(line["kind"] == "act" for line in one)


def test_another_budget_or_none_cannot_take_up_a_checkpoint(tiny, tmp_path, known):
    budgeted(tiny, tmp_path, known, save_strategy="steps", save_steps=4).train()
    other = budgeted(tiny, tmp_path, known, allowed=0.3)
    with pytest.raises(fl.InputError, match=r"its run has budget = 0.1, this trainer 0.3"):
        other.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    unguarded = make_trainer(tiny, tmp_path / "none", max_steps=4, save_strategy="steps", save_steps=2)
    fl.protect(unguarded, fl.METHODS["none"]())
    unguarded.train()
    guarded = budgeted(tiny, tmp_path / "none", known)
    with pytest.raises(fl.InputError, match="holds no state of a budget"):
        guarded.train(resume_from_checkpoint=str(tmp_path / "none" / "checkpoint-2"))


def test_a_dataset_tells_no_budget(tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
    with pytest.raises(fl.InputError, match=r"Budget\(0.01, questions=...\)"):
        fl.protect(trainer, fl.METHODS["none"](), retain=rows(8, 5), budget=0.01)


def test_questions_without_a_budget_are_no_retain_set(tiny, tmp_path, known):
    with pytest.raises(fl.InputError, match="under a budget only"):
        fl.protect(make_trainer(tiny, tmp_path), fl.Replay(), retain=known)


@pytest.mark.parametrize("allowed", [1, -0.1, float("nan")])
def test_a_share_that_makes_no_sense_is_refused(tiny, tmp_path, known, allowed):
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
    with pytest.raises(fl.InputError, match="budget"):
        fl.protect(trainer, fl.METHODS["none"](), retain=known, budget=allowed)


def test_a_trainer_without_a_tokenizer_is_refused(tiny, tmp_path, known):
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class = None
    with pytest.raises(fl.InputError, match="no tokenizer"):
        fl.protect(trainer, fl.METHODS["none"](), retain=known, budget=0.1)


def test_a_model_that_knows_nothing_is_refused_before_the_first_step(tiny, tmp_path):
    unknown = [Question(id=str(n), kind="open", prompt=f"{n}?", answers=("zebra",)) for n in range(12)]
    trainer = budgeted(tiny, tmp_path, unknown, budget=fl.Budget(0.1, questions=unknown))
    with pytest.raises(fl.InputError, match="nothing to keep"):
        trainer.train()
    assert trainer.state.global_step == 0
