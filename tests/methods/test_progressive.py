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


def second_column(adapter, model):
    """Copies of what trains in the second column, in the order of its parameters, and Eq. 1 or 2 over them."""
    old = [weight.detach() for weight in model.columns[0].parameters()]
    own = [weight.detach().clone().requires_grad_() for weight in [*model.columns[1].parameters(), *model.laterals[1].parameters()]]

    def answer(x):
        first, start, second, bias, *lateral = own
        hidden, earlier = torch.tanh(x @ first.T + start), torch.tanh(x @ old[0].T + old[1])
        if adapter == "linear":
            joined = earlier @ lateral[0].T
        else:
            scale, reduce, shift, out = lateral
            joined = torch.relu(scale * earlier @ reduce.T + shift) @ out.T
        return hidden @ second.T + bias + joined

    return own, answer


@pytest.mark.parametrize("adapter", ["mlp", "linear"])
def test_the_second_task_equals_plain_autograd_on_the_papers_equations(adapter):
    method, model = Progressive(adapter=adapter), net(dtype=torch.float64)
    model = method.prepare(model, Task("first", []))
    task = Task("second", batches(6, 3, torch.float64), index=1)
    model = method.prepare(model, task)
    own, answer = second_column(adapter, model)
    start = [weight.detach().clone() for weight in own]
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.1)
    with attach(method, model, optimizer, task, loss_fn):
        for x, y in task.train:
            loss_fn(model, (x, y)).backward()
            optimizer.step()
            optimizer.zero_grad()
            parts = torch.autograd.grad(nn.functional.cross_entropy(answer(x), y), own)
            with torch.no_grad():
                for weight, part in zip(own, parts, strict=True):
                    weight -= 0.1 * part
    trained = [*model.columns[1].parameters(), *model.laterals[1].parameters()]
    for now, expected, was in zip(trained, own, start, strict=True):
        torch.testing.assert_close(now, expected, rtol=0, atol=1e-12)
        assert not torch.equal(now, was)


def test_pinned_a_step_of_two_columns_of_single_units():
    """x = 1: the first column has h = 2, the second 5; 7·5 + 13·2 = 61. With the answer as the loss its gradients are 7, 5 and h = 2."""
    method = Progressive(adapter="linear")
    first = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).double()
    task = Task("second", [torch.ones(1, 1, dtype=torch.float64)], index=1)
    model = method.prepare(method.prepare(first, Task("first", [])), task)
    weights = list(model.parameters())
    with torch.no_grad():
        for weight, value in zip(weights, [2, 3, 5, 7, 13], strict=True):
            weight.fill_(value)
    optimizer = torch.optim.SGD([weight for weight in weights if weight.requires_grad], lr=0.1)
    with attach(method, model, optimizer, task, lambda model, x: model(x).sum()) as session:
        (batch,) = task.train
        loss = model(batch).sum()
        assert loss.item() == 61.0
        session.total(loss, batch).backward()
        optimizer.step()
    assert [weight.item() for weight in weights] == pytest.approx([2, 3, 4.3, 6.5, 12.8], abs=1e-12)
    assert model(batch).item() == pytest.approx(6.5 * 4.3 + 12.8 * 2)
    model.active = 0
    assert model(batch).item() == 6.0


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
    drawn = []
    for seed in range(3):
        method, model = Progressive(seed=seed), net()
        for index in range(3):
            model = method.prepare(model, task_of(index))
        drawn += [column[0].weight.tolist() for column in list(model.columns)[1:]]
    assert all(one != other for place, one in enumerate(drawn) for other in drawn[:place]), "for every seed and task another"


def test_the_exported_model_is_the_model():
    model = Progressive().prepare(net(), task_of(0))
    assert Progressive().export(model) is model
    assert isinstance(model.columns[0], nn.Sequential)


@pytest.mark.parametrize("options", [{"adapter": "none"}, {"adapter": None}, {"seed": -1}, {"seed": True}, {"seed": 1.5}])
def test_nonsense_options_are_refused(options):
    with pytest.raises(InputError, match=f"progressive.{next(iter(options))}"):
        Progressive(**options)
