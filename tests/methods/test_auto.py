"""The recipe is its parts: replay and null-space where there are old examples, null-space, and lwf if asked for, where there are none."""

import copy

import pytest
import torch

import forgetless as fl
from forgetless.core.session import attach
from language import language_batches, language_loss, language_model
from nets import batches, net, same
from running import run

FEW = {"texts": 3, "length": 4, "prompted": 3}
DISTILLED = FEW | {"distillation": 0.4}


def after(method, task, model=None, loss=language_loss):
    model = language_model() if model is None else model
    run(method, model, task, loss, make=torch.optim.AdamW, lr=1e-2)
    return model


def new(old=None, **more):
    return fl.Task("new", language_batches(4, 1), old, **more)


def test_without_a_retain_set_it_is_null_space_and_with_distillation_lwf_before_it():
    assert same(after(fl.Auto(**FEW), new()), after(fl.NullSpace(**FEW), new()))
    own = after(fl.Auto(**DISTILLED), new())
    assert same(own, after(fl.LwF(strength=0.4) >> fl.NullSpace(**FEW), new()))
    assert not same(own, after(fl.Auto(**FEW), new()))


def test_with_a_retain_set_it_is_replay_and_null_space_and_keeps_no_teacher():
    old = language_batches(2, 9)
    method = fl.Auto(**DISTILLED)
    assert same(after(method, new(old)), after(fl.Replay(ratio=0.25) >> fl.NullSpace(**FEW), new(old)))
    assert not method.methods[2].teacher


def test_it_keeps_a_copy_of_the_trained_weights_alone():
    method = fl.Auto(**DISTILLED)
    model = after(method, new(), method.prepare(language_model(), new()))
    kept = {name for name in method.methods[2].teacher if name in dict(model.named_parameters())}
    assert kept and all(name.endswith("down_proj.weight") for name in kept)


def test_without_a_retain_set_it_goes_on_from_saved_state_to_the_same_bits():
    task = new()
    model = language_model()
    session = attach(fl.Auto(**DISTILLED), model, torch.optim.AdamW(model.parameters(), lr=1e-2), task, language_loss).start()
    for step, batch in enumerate(task.train):
        if step == 2:
            state, optimizer = copy.deepcopy(session.state_dict()), session.ctx.optimizer
            session.close(finished=False)
            session = attach(fl.Auto(**DISTILLED), model, optimizer, task, language_loss)
            session.load_state_dict(state)
            session.start()
            assert session.method.methods[2].teacher and session.method.methods[1].made_up
        session.total(language_loss(model, batch), batch).backward()
        session.ctx.optimizer.step()
        session.ctx.optimizer.zero_grad()
    assert same(model, after(fl.Auto(**DISTILLED), task))


def test_after_a_task_that_is_followed_by_others_old_examples_stand_for_the_old():
    method, model = fl.Auto(**DISTILLED), language_model()
    after(method, new(index=0), model)
    assert method.methods[2].teacher
    after(method, fl.Task("next", language_batches(2, 5), index=1), model)
    assert not method.methods[2].teacher and len(method.methods[0].memory)


def test_a_network_that_knows_nothing_yet_is_not_held_to_its_answers():
    task = fl.Task("first", batches(3, 2))
    method = fl.Auto(distillation=1.0)
    run(method, own := net(), task)
    assert not method.methods[2].teacher
    run(fl.Plain(), plain := net(), task)
    assert same(own, plain)


def test_strength_0_turns_all_of_it_off():
    for task in (new(), new(language_batches(2, 9))):
        assert same(after(fl.Auto(strength=0.0, distillation=1.0), task), after(fl.Plain(), task))


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), "auto"])
def test_a_distillation_out_of_range_is_refused(wrong):
    with pytest.raises(fl.InputError, match=r"auto\.distillation"):
        fl.Auto(distillation=wrong)
