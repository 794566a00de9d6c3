"""The callback's counts are those of scoring before and after by hand; it stops at the budget."""

import json

import pytest
import torch
from transformers import AutoTokenizer

import forgetless as fl
from forgetless.data.model import Language
from forgetless.evaluation.drift import kl_drift
from trainers import apart, make_trainer, rows, weights


@pytest.fixture
def files(tmp_path):
    found = {}
    for name, start in (("retain", 0), ("inject", 40)):
        lines = [{"question": f"{n} is?", "choices": ["odd", "even", "neither"], "answer": n % 3} for n in range(start, start + 18)]
        found[name] = tmp_path / f"{name}.jsonl"
        found[name].write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return found


def watched(tiny, out, files, *, options=None, **changes):
    trainer = make_trainer(tiny, out, learning_rate=0.02, **changes)
    trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
    watch = fl.RetentionCallback(trainer, **({**files, "scorer": "likelihood", "every": 4} | (options or {})))
    trainer.add_callback(watch)
    return trainer, watch


def right(trainer, file):
    language = Language(trainer.model, trainer.processing_class, "tiny")
    return [verdict.right for verdict in fl.score(language, fl.read_questions(file), scorer="likelihood")]


def test_counts_are_those_of_scoring_by_hand_and_stand_in_the_log(tiny, tmp_path, files):
    trainer, watch = watched(tiny, tmp_path, files, options={"kl": True})
    before = {name: right(trainer, file) for name, file in files.items()}
    trainer.train()
    after = {name: right(trainer, file) for name, file in files.items()}
    assert [look["step"] for look in watch.history] == [4, 6]  # every fourth, and the last
    last = watch.history[-1]
    assert last["forgotten"] == sum(b and not a for b, a in zip(before["retain"], after["retain"], strict=True)) > 0
    assert last["learned"] == sum(a and not b for b, a in zip(before["inject"], after["inject"], strict=True)) > 0
    assert (last["retain_total"], last["inject_total"]) == (sum(before["retain"]), 18 - sum(before["inject"]))
    lines = [line for line in trainer.state.log_history if "forgetless/forgotten" in line]
    assert [(line["step"], line["forgetless/forgotten"]) for line in lines] == [(k["step"], k["forgotten"]) for k in watch.history]
    fresh = Language(make_trainer(tiny, tmp_path).model, trainer.processing_class, "base")
    drift = kl_drift(fresh, Language(trainer.model, trainer.processing_class, "after"), fl.read_questions(files["retain"]), None)
    assert last["kl_to_base"] == pytest.approx(sum(drift) / len(drift), rel=1e-3) and last["kl_to_base"] > 0.01


def test_training_stops_at_the_budget_and_only_then(tiny, tmp_path, files):
    trainer, watch = watched(tiny, tmp_path, files, options={"every": 1, "budget": 0.0})
    trainer.train()
    assert watch.stopped and trainer.state.global_step < 6
    assert watch.history[-1]["forgotten"] > 0 and all(not look["forgotten"] for look in watch.history[:-1])
    trainer, watch = watched(tiny, tmp_path, files, options={"every": 1, "budget": 1.0})
    trainer.train()
    assert not watch.stopped and trainer.state.global_step == 6


def test_looking_changes_nothing_in_the_training(tiny, tmp_path, files):
    plain = fl.protect(make_trainer(tiny, tmp_path, learning_rate=0.02), fl.Replay() >> fl.CPL(refresh=2), rows(8, 1))
    plain.train()
    trainer, watch = watched(tiny, tmp_path, files, options={"every": 1, "kl": True})
    fl.protect(trainer, fl.Replay() >> fl.CPL(refresh=2), rows(8, 1))
    trainer.train()
    assert len(watch.history) == 6 and apart(weights(plain), weights(trainer)) == 0.0
    assert not any(isinstance(value, torch.Tensor) for look in watch.history for value in look.values())


def test_a_resumed_training_counts_from_before_the_first_step(tiny, tmp_path, files):
    changes = {"save_strategy": "steps", "save_steps": 3}
    whole, watch = watched(tiny, tmp_path / "out", files, options={"every": 2}, **changes)
    whole.train()
    resumed, again = watched(tiny, tmp_path / "out", files, options={"every": 2}, **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    assert again.history == watch.history[1:] and again.history[-1]["forgotten"] > 0
    (tmp_path / "out" / "checkpoint-3" / "forgetless_retention.jsonl").unlink()
    with pytest.raises(fl.InputError, match="no record of what was right before"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "RetentionCallback.every"),
        ({"budget": 1.5}, "RetentionCallback.budget"),
        ({"scorer": "perplexity"}, "no right from wrong"),
        ({"retain": []}, "it is empty"),
    ],
)
def test_nonsense_is_refused(options, words, tiny, tmp_path, files):
    with pytest.raises(fl.InputError, match=words):
        watched(tiny, tmp_path, files, options=options)
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class = None
    with pytest.raises(fl.InputError, match="no tokenizer"):
        fl.RetentionCallback(trainer, **files)
