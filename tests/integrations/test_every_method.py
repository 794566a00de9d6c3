"""Every method in a Trainer does what it does in a loop of one's own, through two tasks, or is refused for the architecture by name."""

from functools import lru_cache

import pytest

import forgetless as fl
from architectures import MODELS, by_hand, by_trainer, trainer_of
from trainers import apart, weights

STEPS = (3, 10)  # of two tasks: many methods begin to act in the second
OPTIONS = {  # else a method has its defaults; where they would do next to nothing in ten steps, they are stronger
    "cpl": {"refresh": 3},
    "l2sp": {"strength": 10.0},
    "ewc": {"strength": 1e3},
    "online-ewc": {"strength": 1e3},
    "mas": {"strength": 1e3},
    "si": {"strength": 100.0},
    "gradient-protection": {"statistic": "element", "history": 3},
    "null-space": {"texts": 4, "length": 4},
    "auto": {"texts": 4, "length": 4},
    "generative-replay": {"count": 4, "length": 4, "hidden": (16,), "latent": 4, "generator_steps": 4},
}
REFUSED = {
    **{("progressive", model): "cannot become a column" for model in MODELS},
    ("osf", "gpt2"): "has no linear layer to adapt",  # its layers are transformers' Conv1D
    ("null-space", "gpt2"): "has no linear layer to adapt",
    ("auto", "gpt2"): "has no linear layer to adapt",
    ("generative-replay", "t5"): "an encoder-decoder answers inputs that it cannot make up",
}
CASES = [(name, model, accumulation) for name in fl.METHODS for model in MODELS for accumulation in (1, 4) if (name, model) not in REFUSED]


def made(name):
    return fl.METHODS[name](**OPTIONS.get(name, {}))


def difference(one, other):
    return apart(*({name: p.detach() for name, p in model.named_parameters()} for model in (one, other)))


def acted(one, other):
    return {name for name, _ in one.named_parameters()} != {name for name, _ in other.named_parameters()} or difference(one, other) > 1e-5


@lru_cache
def plain(model, accumulation):
    return by_hand(MODELS[model], fl.Plain(), STEPS, accumulation)[1].ctx.model


@pytest.mark.parametrize(("name", "model", "accumulation"), CASES)
def test_trainer_and_loop_end_with_the_same_weights(name, model, accumulation, tmp_path):
    trainers = by_trainer(MODELS[model], tmp_path, made(name), STEPS, accumulation)
    sessions = by_hand(MODELS[model], made(name), STEPS, accumulation)
    assert [trainer.forgetless.session.ctx.step for trainer in trainers] == list(STEPS) == [session.ctx.step for session in sessions]
    assert difference(trainers[1].model, sessions[1].ctx.model) < 1e-6
    assert acted(trainers[1].model, plain(model, accumulation)) == (name != "none")  # else equal weights would say nothing
    found = trainers[1].forgetless.constraint_violation
    assert found == pytest.approx(sessions[1].constraint_violation) and (found is None or found <= fl.METHODS[name].tolerance)


@pytest.mark.parametrize(("name", "model"), REFUSED)
def test_what_does_not_apply_to_an_architecture_is_refused_before_a_step(name, model, tmp_path):
    trainer = trainer_of(MODELS[model], tmp_path)
    before = weights(trainer)
    with pytest.raises(fl.InputError, match=REFUSED[name, model]):
        fl.protect(trainer, made(name), trainer.train_dataset).train()
    assert trainer.state.global_step == 0 and apart(before, weights(trainer)) == 0.0
    with pytest.raises(fl.InputError, match=REFUSED[name, model]):
        by_hand(MODELS[model], made(name), (1,), 1)
