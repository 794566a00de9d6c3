"""The callback's counts are those of scoring before and after by hand; it stops at the budget."""

import copy
import json
import shutil

import pytest
import torch
from transformers import AutoTokenizer, TrainerCallback

import forgetless as fl
from forgetless.data.model import Language
from forgetless.evaluation.drift import kl_drift
from trainers import apart, make_trainer, rows, weights


class Look(TrainerCallback):
    """After each step, behind all others: the weights, the optimizer's moments, the method's state, the rate of the next step."""

    def __init__(self, trainer):
        self.trainer, self.seen = trainer, {}

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        method = self.trainer.forgetless.method.state_dict() if hasattr(self.trainer, "forgetless") else {}
        inner = optimizer.optimizer
        rate = inner.param_groups[0]["lr"]
        self.seen[state.global_step] = copy.deepcopy((weights(self.trainer), inner.state_dict()["state"], method, rate))


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
    whole, watch = watched(tiny, tmp_path / "out", files, options={"every": 2, "kl": True}, **changes)
    whole.train()
    resumed, again = watched(tiny, tmp_path / "out", files, options={"every": 2, "kl": True}, **changes)
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))
    assert again.history == watch.history[1:] and again.history[-1]["kl_to_base"] > 0 and again.history[-1]["forgotten"] > 0
    (tmp_path / "out" / "checkpoint-3" / "forgetless_retention.jsonl").unlink()
    with pytest.raises(fl.InputError, match="no record of what was right before"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))


@pytest.mark.parametrize("protected", ["not", "before", "after"])
def test_it_goes_on_from_the_folder_that_train_was_given_wherever_that_lies(protected, tiny, tmp_path, files):
    options = {"every": 2, "kl": True, "beyond": "restore", "good": bad_at()}

    def build(out, **changes):
        if protected != "before":
            trainer, watch = watched(tiny, out, files, options=options, **changes)
            return (trainer if protected == "not" else fl.protect(trainer, fl.Replay(), rows(8, 1))), watch
        trainer = fl.protect(make_trainer(tiny, out, learning_rate=0.02, **changes), fl.Replay(), rows(8, 1))
        trainer.processing_class = AutoTokenizer.from_pretrained(tiny)
        watch = fl.RetentionCallback(trainer, **files, scorer="likelihood", **options)
        trainer.add_callback(watch)
        return trainer, watch

    whole, watch = build(tmp_path / "out", save_strategy="steps", save_steps=3)
    whole.train()
    away, stale = tmp_path / "backup" / "kept", tmp_path / "other" / "checkpoint-3"
    shutil.move(tmp_path / "out" / "checkpoint-3", away)
    for moved in (False, True):
        if moved:  # of another training, at the same step
            shutil.copytree(away, stale)
            lines = [{"set": name, "right": [False] * 18} for name in files] + [{"rollbacks": []}]
            (stale / "forgetless_retention.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        resumed, again = build(tmp_path / "other")
        resumed.train(resume_from_checkpoint=str(away))
        assert again.history == watch.history[1:] and again.history[-1]["kl_to_base"] > 0 < again.history[-1]["retain_total"]
        assert apart(weights(whole), weights(resumed)) == 0.0
    last, again = build(tmp_path / "out")
    shutil.move(away, tmp_path / "out" / "checkpoint-3")
    shutil.rmtree(tmp_path / "out" / "checkpoint-6")
    last.train(resume_from_checkpoint=True)
    assert again.history == watch.history[1:]


def test_a_budget_is_not_broken_by_the_rounding_of_a_product(tiny, tmp_path, files):
    watch = watched(tiny, tmp_path, files, options={"budget": 0.29})[1]
    assert 0.29 * 100 < 29 and watch._is_good({"forgotten": 29, "retain_total": 100})
    assert not watch._is_good({"forgotten": 30, "retain_total": 100})


@pytest.mark.parametrize("beyond", ["restore", "retry"])
def test_the_best_model_in_place_of_the_one_that_was_good_is_refused(beyond, tiny, tmp_path, files):
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class, trainer.args.load_best_model_at_end = AutoTokenizer.from_pretrained(tiny), True
    with pytest.raises(fl.InputError, match="load_best_model_at_end"):
        fl.RetentionCallback(trainer, **files, budget=0.1, beyond=beyond)
    assert fl.RetentionCallback(trainer, **files, budget=0.1).beyond == "stop"


def bad_at(*steps):
    """A look that is not good at these steps; what is forgotten does not matter."""
    return lambda look: look["step"] not in steps


def rolled(tiny, out, files, beyond, bad, method=None, **changes):
    options = {"every": 1, "beyond": beyond, "good": bad_at(*bad), "retries": 2}
    trainer, watch = watched(tiny, out, files, options=options, **changes)
    if method is not None:
        fl.protect(trainer, method, rows(8, 1))
    look = Look(trainer)
    trainer.add_callback(look)
    trainer.train()
    return trainer, watch, look.seen


def alike(one, other):
    """Nested values, tensors bit for bit."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


def test_restore_ends_with_the_weights_of_the_last_good_look(tiny, tmp_path, files):
    trainer, watch, seen = rolled(tiny, tmp_path, files, "restore", [4], fl.GEM() >> fl.CPL(refresh=2))
    assert watch.stopped and watch.rollbacks == [(4, 3)] and trainer.state.global_step == 4
    assert alike(weights(trainer), seen[3][0]) and not alike(seen[3][0], seen[2][0])
    assert [line for line in trainer.state.log_history if line.get("forgetless/rolled_back_to") == 3.0]
    stopped, watch, seen = rolled(tiny, tmp_path, files, "stop", [4])
    assert watch.stopped and not watch.rollbacks and alike(weights(stopped), seen[4][0]) and not alike(seen[4][0], seen[3][0])


def test_retry_goes_on_from_the_last_good_point_with_the_batches_that_follow_at_a_lower_rate(tiny, tmp_path, files):
    method = fl.Replay() >> fl.SI(strength=10.0) >> fl.CPL(refresh=2)
    trainer, watch, seen = rolled(tiny, tmp_path, files, "retry", [3, 4], method)
    plain_rates = [0.02 * (6 - step) / 6 for step in range(1, 7)]  # linear, after each step
    assert [seen[step][3] for step in range(1, 7)] == pytest.approx(
        [rate * factor for rate, factor in zip(plain_rates, (1, 1, 0.5, 0.25, 0.25, 0.25), strict=True)]
    )
    assert watch.rollbacks == [(3, 2), (4, 2)] and not watch.stopped and trainer.state.global_step == 6
    for step in (3, 4):  # weights, moments and the method's state are those after step 2
        assert alike(seen[step][:3], seen[2][:3])
    assert not alike(seen[5][0], seen[2][0]) and trainer.forgetless.constraint_violation == 0.0


def test_retry_gives_up_after_so_many_times_and_leaves_the_good_weights(tiny, tmp_path, files):
    trainer, watch, seen = rolled(tiny, tmp_path, files, "retry", [2, 3, 4, 5])
    assert watch.rollbacks == [(2, 1), (3, 1), (4, 1)] and watch.stopped and trainer.state.global_step == 4
    assert alike(weights(trainer), seen[1][0])


def test_when_even_the_first_look_is_bad_it_goes_back_to_the_start(tiny, tmp_path, files):
    trainer, watch, _ = rolled(tiny, tmp_path, files, "restore", [1], fl.EWC(strength=10.0))
    assert watch.rollbacks == [(1, 0)] and apart(weights(trainer), weights(make_trainer(tiny, tmp_path))) == 0.0


@pytest.mark.parametrize("checkpoint", [2, 3, 4])
def test_a_training_that_went_back_resumes_to_the_bit_before_and_after_it(checkpoint, tiny, tmp_path, files):
    def method():
        return fl.Replay() >> fl.CPL(refresh=2)

    saving, order = {"save_strategy": "steps", "save_steps": 1}, {"train_sampling_strategy": "random"}
    whole, watch, _ = rolled(tiny, tmp_path, files, "retry", [3, 5], method(), **saving, **order)
    options = {"every": 1, "beyond": "retry", "good": bad_at(3, 5), "retries": 2}
    resumed, again = watched(tiny, tmp_path, files, options=options, **order)
    fl.protect(resumed, method(), rows(8, 1)).train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint}"))
    assert watch.rollbacks == again.rollbacks == [(3, 2), (5, 4)]
    assert apart(weights(whole), weights(resumed)) == 0.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "RetentionCallback.every"),
        ({"budget": 1.5}, "RetentionCallback.budget"),
        ({"scorer": "perplexity"}, "no right from wrong"),
        ({"retain": []}, "it is empty"),
        ({"beyond": "undo"}, "RetentionCallback.beyond"),
        ({"beyond": "retry"}, "nothing says when to go back"),
        ({"beyond": "retry", "budget": 0.1, "retries": 0}, "RetentionCallback.retries"),
        ({"beyond": "retry", "budget": 0.1, "retry_factor": float("nan")}, "RetentionCallback.retry_factor"),
        ({"budget": 0.1, "good": bool}, "takes the place of budget"),
    ],
)
def test_nonsense_is_refused(options, words, tiny, tmp_path, files):
    with pytest.raises(fl.InputError, match=words):
        watched(tiny, tmp_path, files, options=options)
    trainer = make_trainer(tiny, tmp_path)
    trainer.processing_class = None
    with pytest.raises(fl.InputError, match="no tokenizer"):
        fl.RetentionCallback(trainer, **files)
