"""A long chain on every architecture: Trainer equals a loop of one's own, and with dropout it resumes bit for bit."""

import pytest

import forgetless as fl
from architectures import MODELS, by_hand, by_trainer, data, trainer_of
from trainers import apart, weights


def method():
    return fl.LwF(strength=0.5) >> fl.EWC(strength=1e3) >> fl.Replay() >> fl.GEM() >> fl.CPL(refresh=3)


@pytest.mark.parametrize("model", ["qwen2", "gpt2", "t5", "vit"])
def test_trainer_equals_a_loop_on_every_architecture(model, tmp_path):
    (trainer,) = by_trainer(MODELS[model], tmp_path, method(), (6,), 2)
    (session,) = by_hand(MODELS[model], method(), (6,), 2)
    found = {name: parameter.detach() for name, parameter in session.ctx.model.named_parameters()}
    assert apart(weights(trainer), found) == 0.0
    assert apart(weights(trainer), weights(trainer_of(MODELS[model], tmp_path))) > 1e-3
    assert trainer.forgetless.constraint_violation == 0.0


@pytest.mark.parametrize("model", ["gpt2", "qwen2", "t5"])
def test_resumes_to_the_bit_with_dropout(model, tmp_path):
    make = MODELS[model]
    whole = fl.protect(trainer_of(make, tmp_path, drop=0.2, save_strategy="steps", save_steps=3), method(), data(make, 6, 1))
    whole.train()
    resumed = fl.protect(trainer_of(make, tmp_path, drop=0.2), method(), data(make, 6, 1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert apart(weights(whole), weights(resumed)) == 0.0
