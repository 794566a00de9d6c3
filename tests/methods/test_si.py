import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.si import SI
from nets import batches, loss_fn, net
from tiny import make_tiny_model


def train(method, model, data, loss=loss_fn, make=None, chunk_bytes=1 << 20, **task):
    optimizer = (make or adamw)(model.parameters())
    session = attach(method, model, optimizer, Task("t", data, **task), loss, chunk_bytes=chunk_bytes)
    with session:
        for batch in data:
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.8)


class Twin:
    """Eq. 3-5 with dictionaries of clones; the gradient of the task's loss and of the penalty taken apart by autograd."""

    def __init__(self, strength, xi):
        self.strength, self.xi, self.omega = strength, xi, {}

    def train(self, model, data, make):
        named, optimizer = dict(model.named_parameters()), make(model.parameters())
        start = {name: p.detach().clone() for name, p in named.items()}
        path = {name: torch.zeros_like(p) for name, p in named.items()}
        for batch in data:
            task = torch.autograd.grad(loss_fn(model, batch), list(named.values()))
            penalty = sum((self.strength * o * (named[name] - start[name]) ** 2).sum() for name, o in self.omega.items())
            pulls = torch.autograd.grad(penalty, list(named.values())) if self.omega else [torch.zeros_like(g) for g in task]
            before = {name: p.detach().clone() for name, p in named.items()}
            for p, g, pull in zip(named.values(), task, pulls, strict=True):
                p.grad = g + pull
            optimizer.step()
            for (name, p), g in zip(named.items(), task, strict=True):
                path[name] -= g * (p.detach() - before[name])
        for name, p in named.items():
            gained = path[name] / ((p.detach() - start[name]) ** 2 + self.xi)
            self.omega[name] = (self.omega.get(name, 0) + gained).clamp(min=0)


@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("chunk_bytes", [600, 1 << 20], ids=["in pieces of rows", "whole"])
def test_three_tasks_equal_the_equations_written_out(make, chunk_bytes):
    def wide():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(7, 200), nn.Tanh(), nn.Linear(200, 5)).double()

    method, twin, ours, theirs = SI(strength=2.0, xi=0.01), Twin(2.0, 0.01), wide(), wide()
    pulled = 0.0
    for index in range(3):
        data = batches(5, index, torch.float64)
        session = train(method, ours, data, make=make, chunk_bytes=chunk_bytes, index=index)
        pulled = max(pulled, max(float(o.max()) for o in method.importance.values()))
        twin.train(theirs, data, make)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
        for name, omega in twin.omega.items():
            torch.testing.assert_close(method.importance[name], omega, rtol=1e-7, atol=1e-10)
    assert pulled > 0.01 and method.penalty(session.ctx).item() == 0.0


def test_the_path_integral_sums_to_the_drop_in_loss():
    model, data = net(dtype=torch.float64), batches(1, 3, torch.float64) * 400
    method, before = SI(), loss_fn(model, data[0]).item()
    session = train(method, model, data, make=lambda p: torch.optim.SGD(p, lr=0.02), last=True)
    drop = before - loss_fn(session.ctx.model, data[0]).item()
    assert drop > 0.2
    assert sum(float(path.sum()) for path in method.path.values()) == pytest.approx(drop, rel=0.05)


def test_in_a_second_task_it_sums_to_the_drop_in_the_tasks_loss_not_to_the_penaltys():
    model, first, second = net(dtype=torch.float64), batches(1, 3, torch.float64) * 200, batches(1, 4, torch.float64) * 400
    method = SI(strength=5.0, xi=0.01)
    make = lambda p: torch.optim.SGD(p, lr=0.02)  # noqa: E731
    train(method, model, first, make=make)
    before = loss_fn(model, second[0]).item()
    session = train(method, model, second, make=make, last=True)
    drop = before - loss_fn(model, second[0]).item()
    penalty = method.penalty(session.ctx).item()
    assert drop > 0.05 and penalty > 0.1 * drop, "the penalty is no trifle"
    assert sum(float(path.sum()) for path in method.path.values()) == pytest.approx(drop, rel=0.05)


def test_a_pinned_importance_and_penalty():
    """One weight, loss w^2 / 2, plain descent with rate 1/2: 4 -> 2 -> 1; gradients 4, 2; path 4*2 + 2*1 = 10; way 3."""
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    nn.init.constant_(model.weight, 4.0)
    method = SI(strength=0.5, xi=1.0)

    def loss(model, batch):
        return model.weight.square().sum() / 2

    session = train(method, model, [0, 0], loss, make=lambda p: torch.optim.SGD(p, lr=0.5))
    assert method.importance["weight"].item() == pytest.approx(1.0)  # 10 / (9 + 1)
    session.ctx.write({"weight": torch.tensor([[3.0]])})
    assert method.penalty(session.ctx).item() == pytest.approx(2.0)  # 0.5 * 1 * (3 - 1)^2


def test_a_weight_that_made_the_loss_rise_has_no_importance():
    model = nn.Linear(1, 1, bias=False)
    method = SI()
    train(method, model, [0, 0], lambda model, batch: model.weight.sum(), make=lambda p: torch.optim.SGD(p, lr=0.1, maximize=True))
    assert method.importance["weight"].item() == 0.0


def test_the_first_task_is_plain_training_and_the_last_is_not_consolidated():
    from nets import same

    ours, plain, method = net(), net(), SI()
    data = batches(3, 0)
    train(method, ours, data, last=True)
    optimizer = adamw(plain.parameters())
    for batch in data:
        loss_fn(plain, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert same(ours, plain) and method.importance == {}


def test_a_transposed_weight_is_followed_element_by_element():
    ours, straight = net(), net()
    ours[0].weight = nn.Parameter(straight[0].weight.detach().t().contiguous().t())
    one, two, data = SI(), SI(), batches(3, 0)
    train(one, ours, data)
    train(two, straight, data)
    assert not ours[0].weight.is_contiguous()
    torch.testing.assert_close(one.importance["0.weight"], two.importance["0.weight"], rtol=1e-4, atol=1e-6)


def test_a_language_model_forgets_less_of_the_task_before(tmp_path):
    from transformers import AutoModelForCausalLM

    def loss(model, batch):
        return model(**batch).loss

    make_tiny_model(tmp_path, hidden=16, layers=1)
    old = {"input_ids": torch.tensor([[5, 9, 17, 30], [7, 40, 11, 12]])}
    new = {"input_ids": torch.tensor([[8, 9, 60, 61], [3, 41, 62, 63]])}
    old, new = ({**batch, "labels": batch["input_ids"].clone()} for batch in (old, new))
    lost, learned = [], []
    for strength in (0.0, 20.0):
        model, method = AutoModelForCausalLM.from_pretrained(tmp_path), SI(strength=strength)
        train(method, model, [old] * 30, loss, make=lambda p: torch.optim.SGD(p, lr=0.2))
        known, unknown = loss(model, old).item(), loss(model, new).item()
        train(method, model, [new] * 20, loss, make=lambda p: torch.optim.SGD(p, lr=0.005), last=True)
        lost.append(loss(model, old).item() - known)
        learned.append(unknown - loss(model, new).item())
    assert lost[1] < 0.9 * lost[0] and learned[1] > 0.8 * learned[0] > 0, (lost, learned)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"strength": float("nan")}, {"xi": 0.0}, {"xi": True}], ids=str)
def test_nonsense_options_are_refused(wrong):
    with pytest.raises(InputError, match=f"si.{next(iter(wrong))}"):
        SI(**wrong)
