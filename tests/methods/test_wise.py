import copy

import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.lora import LoRA
from forgetless.methods.wise import Wise
from nets import batches, loss_fn, net, same


def train(method, model, data, **task):
    model = method.prepare(model, Task("t", data, **task))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    with attach(method, model, optimizer, Task("t", data, **task), loss_fn) as session:
        for batch in data:
            session.total(loss_fn(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def ends(**task):
    """The weights before and after plain training."""
    start = net()
    end = train(Wise(alpha=1.0), copy.deepcopy(start), batches(6, 2), **task).ctx.model
    return start, end


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
def test_the_weights_are_the_blend_written_out(alpha):
    start, end = ends()
    found = train(Wise(alpha=alpha), net(), batches(6, 2)).ctx.model
    for now, first, last in zip(found.parameters(), start.parameters(), end.parameters(), strict=True):
        torch.testing.assert_close(now, (1 - alpha) * first + alpha * last, rtol=1e-6, atol=1e-7)
    assert alpha not in (0.0, 1.0) or same(found, start if alpha == 0.0 else end)


def test_a_pinned_blend():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    method, optimizer = Wise(alpha=0.25), torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(method, model, optimizer, Task("t", []), loss_fn) as session:
        session.ctx.write({"weight": torch.tensor([[5.0]])})
    assert model.weight.item() == 3.5
    assert method.chosen == 0.25
    assert session.metrics["wise_alpha"] == 0.25


def test_each_task_starts_where_the_one_before_it_ended():
    method, model = Wise(alpha=0.5), net()
    train(method, model, batches(6, 2))
    middle = copy.deepcopy(model)
    end = train(Wise(alpha=1.0), copy.deepcopy(middle), batches(6, 3), index=1).ctx.model
    train(method, model, batches(6, 3), index=1)
    for now, first, last in zip(model.parameters(), middle.parameters(), end.parameters(), strict=True):
        torch.testing.assert_close(now, (first + last) / 2, rtol=1e-6, atol=1e-7)


def slow_forgotten(start, end, alpha, retain):
    """Example by example: right at the start, wrong on the blend."""
    model = copy.deepcopy(start)
    with torch.no_grad():
        for now, last in zip(model.parameters(), end.parameters(), strict=True):
            now.copy_((1 - alpha) * now + alpha * last)
    known = lost = 0
    for x, y in retain:
        for one, label in zip(x, y, strict=True):
            if int(start(one[None]).argmax()) == int(label):
                known += 1
                lost += int(model(one[None]).argmax()) != int(label)
    return lost / known


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.3])
def test_auto_is_the_largest_step_that_keeps_the_budget_on_the_retain_set(budget):
    retain = batches(6, 30)
    start, end = ends(retain=retain)
    method = Wise(alpha="auto", budget=budget)
    train(method, net(), batches(6, 2), retain=retain)
    assert slow_forgotten(start, end, method.chosen, retain) <= budget
    assert method.chosen == 1.0 or slow_forgotten(start, end, method.chosen + 1 / 32, retain) > budget
    assert (method.chosen * 32).is_integer()


def slow_right(start, end, alpha, data):
    model = copy.deepcopy(start)
    with torch.no_grad():
        for now, last in zip(model.parameters(), end.parameters(), strict=True):
            now.copy_((1 - alpha) * now + alpha * last)
        return sum(int(model(one[None]).argmax()) == int(label) for x, y in data for one, label in zip(x, y, strict=True))


@pytest.mark.parametrize("enough", [0.7, 0.9, 1.0])
def test_least_is_the_smallest_step_that_keeps_enough_of_what_the_task_taught(enough):
    data = batches(6, 2)
    start, end = ends()
    method = Wise(alpha="least", enough=enough)
    train(method, net(), data)
    most, none = slow_right(start, end, 1.0, data), slow_right(start, end, 0.0, data)
    assert slow_right(start, end, method.chosen, data) >= enough * most > none  # so that there is something to search for
    assert method.chosen < 1.0 and slow_right(start, end, method.chosen - 1 / 32, data) < enough * most
    assert (method.chosen * 32).is_integer() and not method.needs_retain


def test_of_an_adapter_the_merged_weights_are_blended():
    start, data = net(), batches(6, 2)
    merged = []
    for alpha in (1.0, 0.4):
        method = LoRA(rank=2) >> Wise(alpha=alpha)
        merged.append(method.export(train(method, copy.deepcopy(start), data).ctx.model))
    for first, last, now in zip(start.parameters(), *(model.parameters() for model in merged), strict=True):
        torch.testing.assert_close(now, 0.6 * first + 0.4 * last, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"alpha": 1.5}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": True}, "alpha"),
        ({"budget": 1.0}, "budget"),
        ({"alpha": "most"}, "alpha"),
        ({"enough": 0.0}, "enough"),
    ],
)
def test_options_out_of_range_are_refused(wrong, where):
    with pytest.raises(InputError, match=f"wise.{where}"):
        Wise(**wrong)


def test_auto_without_a_retain_set_is_refused():
    with pytest.raises(InputError, match="retain"):
        train(Wise(alpha="auto"), net(), batches(2, 2))
