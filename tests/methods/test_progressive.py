import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from five_tasks import make_model, through
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.progressive import Progressive
from nets import batches, loss_fn, net, same
from tiny import make_tiny_model


def task_of(index):
    return Task(f"task {index}", batches(6, 2 + index), index=index, steps=12)


def train(method, model, task, which=range(12)):
    """All of the model's parameters go to the optimizer, with weight decay, so that a frozen one has every chance to move."""
    model = method.prepare(model, task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.5)
    with attach(method, model, optimizer, task, loss_fn) as session:
        for step in which:
            session.total(loss_fn(model, task.train[step % 6]), task.train[step % 6]).backward()
            optimizer.step()
    return session


@pytest.mark.parametrize("adapter", ["mlp", "linear"])
def test_after_five_tasks_every_task_is_answered_as_right_after_it(adapter):
    rows = through(Progressive(adapter=adapter), make_model(10))
    for row in rows:
        assert all(torch.equal(outputs, row[0][0]) and share == row[0][1] for outputs, share in row)
    assert min(row[0][1] for row in rows) >= 0.9, "and it does learn"


def test_earlier_columns_do_not_move_by_one_bit_even_with_weight_decay_and_old_gradients():
    method, model = Progressive(), net()
    first = train(method, model, task_of(0)).ctx.model
    assert model[0].weight.grad is not None
    kept = copy.deepcopy(model.state_dict())
    train(method, first, task_of(1))
    assert all(torch.equal(now, kept[name]) for name, now in model.state_dict().items())


def test_preparing_the_same_task_again_changes_nothing():
    method, task = Progressive(), task_of(1)
    model = method.prepare(method.prepare(net(), task_of(0)), task)
    state = copy.deepcopy(model.state_dict())
    assert method.prepare(model, task) is model
    assert model.tasks == [0, 1] and list(state) == list(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(state.values(), model.state_dict().values(), strict=True))


def test_a_new_process_that_prepares_every_task_so_far_can_load_the_weights():
    method, model = Progressive(), net()
    for index in range(3):
        model = train(method, model, task_of(index)).ctx.model
    later, again = Progressive(), net(seed=8)
    for index in range(3):
        again = later.prepare(again, task_of(index))
    again.load_state_dict(model.state_dict())
    probe = torch.randn(4, 7)
    for column in range(3):
        model.active = again.active = column
        assert torch.equal(model(probe), again(probe))
    again.active = model.active = 2
    assert same(train(method, model, task_of(3)).ctx.model, train(later, again, task_of(3)).ctx.model)


def test_a_task_whose_column_is_frozen_is_refused():
    method = Progressive()
    model = method.prepare(method.prepare(net(), task_of(0)), task_of(1))
    with pytest.raises(InputError, match="its column is frozen"):
        method.prepare(model, task_of(0))


def test_a_task_without_a_column_is_answered_by_the_newest():
    method = Progressive()
    session = train(method, method.prepare(net(), task_of(0)), task_of(1))
    session.ctx.task = task_of(0)
    method.activate(session.ctx)
    assert session.ctx.model.active == 0
    session.ctx.task = task_of(7)
    method.activate(session.ctx)
    assert session.ctx.model.active == 1


def test_a_transformer_is_refused_with_what_to_use_instead(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    with pytest.raises(InputError, match=r"a LlamaForCausalLM cannot become a column.*use lora"):
        Progressive().prepare(model, Task("words", []))


def test_a_seed_gives_other_columns():
    def column(**options):
        method = Progressive(**options)
        return method.prepare(method.prepare(net(), task_of(0)), task_of(1)).columns[1][0].weight

    assert torch.equal(column(seed=1), column(seed=1))
    assert not torch.equal(column(seed=1), column(seed=2))


def test_the_exported_model_is_the_model():
    model = Progressive().prepare(net(), task_of(0))
    assert Progressive().export(model) is model
    assert isinstance(model.columns[0], nn.Sequential)


@pytest.mark.parametrize("options", [{"adapter": "none"}, {"adapter": None}, {"seed": -1}, {"seed": True}, {"seed": 1.5}])
def test_nonsense_options_are_refused(options):
    with pytest.raises(InputError, match=f"progressive.{next(iter(options))}"):
        Progressive(**options)
