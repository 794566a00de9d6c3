import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.ewc import EWC
from forgetless.methods.online_ewc import OnlineEWC
from nets import batches, loss_fn, net
from tiny import make_tiny_model


def train(method, model, data, loss=loss_fn, rate=0.05, **task):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.5)
    with attach(method, model, optimizer, Task("t", data, **task), loss) as session:
        for batch in data:
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def squares(model, data):
    """The mean over examples of squared gradients of log p(y|x), one by one."""
    pairs = [pair for x, y in data for pair in zip(x, y, strict=True)]
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for x, y in pairs:
        for sum_, grad in zip(total, torch.autograd.grad(model(x[None])[0].log_softmax(-1)[y], list(model.parameters())), strict=True):
            sum_ += grad**2 / len(pairs)
    return total


class Twin:
    """All penalties kept apart, in lists of clones; with gamma one running Fisher and the latest weights."""

    def __init__(self, strength, gamma=None):
        self.strength, self.gamma, self.kept = strength, gamma, []

    def consolidate(self, model, data):
        fisher, anchor = squares(model, data), [p.detach().clone() for p in model.parameters()]
        if self.gamma is not None and self.kept:
            fisher = [self.gamma * old + new for old, new in zip(self.kept[-1][0], fisher, strict=True)]
            self.kept = []
        self.kept.append((fisher, anchor))

    def penalty(self, model):
        total = 0.0
        for fisher, anchor in self.kept:
            for parameter, f, a in zip(model.parameters(), fisher, anchor, strict=True):
                total = total + self.strength / 2 * (f * (parameter - a) ** 2).sum()
        return total

    def train(self, model, data):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)
        for batch in data:
            optimizer.zero_grad()
            (loss_fn(model, batch) + self.penalty(model)).backward()
            optimizer.step()


def both():
    return [(EWC(strength=20.0, labels="data", examples=None), Twin(20.0)), (online(20.0), Twin(20.0, 0.7))]


def online(strength=20.0, gamma=0.7):
    return OnlineEWC(strength=strength, gamma=gamma, labels="data", examples=None)


@pytest.mark.parametrize(("method", "twin"), both(), ids=["ewc", "online-ewc"])
@pytest.mark.parametrize("retain", [None, batches(2, 9, torch.float64)], ids=["no retain", "retain"])
def test_four_tasks_equal_the_penalties_written_out(method, twin, retain):
    method, twin = (
        type(method)(strength=20.0, labels="data", examples=None, **({"gamma": 0.7} if twin.gamma else {})),
        Twin(20.0, twin.gamma),
    )
    ours, theirs = net(dtype=torch.float64), net(dtype=torch.float64)
    if retain:
        twin.consolidate(theirs, retain)
    for index in range(4):
        data = batches(4, index, torch.float64)
        session = train(method, ours, data, index=index, retain=retain)
        twin.train(theirs, data)
        twin.consolidate(theirs, data)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    with torch.no_grad():
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            b.copy_(a.add_(0.1))
        torch.testing.assert_close(method.penalty(session.ctx), twin.penalty(theirs), rtol=1e-9, atol=0)


def toy(method):
    """One weight w, logits (w x, 0), w = 0: p = 1/2, and d log p(y=0) / dw = x / 2."""
    model = nn.Linear(1, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.zero_()
    data = [(torch.tensor([[2.0], [4.0]], dtype=torch.float64), torch.tensor([0, 1]))]
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return attach(method, model, optimizer, Task("t", data, retain=data), loss_fn).start()


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
@pytest.mark.parametrize("labels", ["data", "model"])
def test_a_pinned_fisher_penalty_and_gradient(kind, labels):
    method = kind(strength=3.0, labels=labels)
    ctx = toy(method).ctx
    assert method.fisher["weight"].tolist() == [[2.5], [2.5]]  # (1 + 4) / 2, whichever label is drawn
    assert method.penalty(ctx).item() == 0.0, "at the anchor"
    ctx.write({"weight": torch.tensor([[1.0], [-2.0]])})
    value = method.penalty(ctx)
    assert value.item() == pytest.approx(18.75)  # 3/2 * 2.5 * (1 + 4)
    (grad,) = torch.autograd.grad(value, [ctx.parameters["weight"]])
    assert grad.flatten().tolist() == pytest.approx([7.5, -15.0])  # strength * F * (theta - anchor)


def test_ewc_adds_fishers_and_online_ewc_decays_the_running_one_and_moves_the_anchor():
    for method in (EWC(labels="data"), online(gamma=0.5)):
        session = toy(method)
        session.ctx.write({"weight": torch.tensor([[1.0], [1.0]])})  # equal logits still: the same Fisher
        method.end_task(session.ctx)
        if isinstance(method, EWC):
            assert method.fisher["weight"].flatten().tolist() == [5.0, 5.0]
            assert method.anchor["weight"].flatten().tolist() == [0.5, 0.5], "the two penalties' common centre"
            assert method.constant == 2.5  # 2.5 * 2.5 / 5 * 1^2, twice
        else:
            assert method.fisher["weight"].flatten().tolist() == [3.75, 3.75]
            assert method.anchor["weight"].flatten().tolist() == [1.0, 1.0]


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
def test_the_last_task_is_not_consolidated_and_a_known_retain_set_not_twice(kind):
    method, model, data = kind(), net(), batches(2, 0)
    train(method, model, data, last=True)
    assert method.fisher == {}
    train(method, model, data)
    first = {name: tensor.clone() for name, tensor in method.fisher.items()}
    assert first
    train(method, model, data, retain=data, last=True)
    assert all(torch.equal(first[name], tensor) for name, tensor in method.fisher.items())


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
def test_a_frozen_parameter_is_left_out_and_a_new_one_is_free_until_a_task_has_ended(kind):
    model, data = net(), batches(2, 0)
    model[0].bias.requires_grad_(False)
    method = kind()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    attach(method, model, optimizer, Task("t", data), loss_fn).start().close()
    assert set(method.fisher) == {"0.weight", "2.weight", "2.bias"}
    model.add_module("3", nn.Linear(5, 5))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    session = attach(method, model, optimizer, Task("u", data), loss_fn).start()
    (grad,) = torch.autograd.grad(method.penalty(session.ctx), [model[3].weight], allow_unused=True)
    assert grad is None
    session.close()
    assert "3.weight" in method.fisher


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
def test_a_language_model_forgets_less_of_what_is_retained(kind, tmp_path):
    from transformers import AutoModelForCausalLM

    def loss(model, batch):
        return model(**batch).loss

    make_tiny_model(tmp_path, hidden=16, layers=1)
    old = {"input_ids": torch.tensor([[5, 9, 17, 30], [7, 40, 11, 12]])}
    new = {"input_ids": torch.tensor([[8, 9, 60, 61], [3, 41, 62, 63]])}
    old, new = ({**batch, "labels": batch["input_ids"].clone()} for batch in (old, new))
    lost, learned = [], []
    for strength in (0.0, 1e4):
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
        train(kind(strength=0.0), model, [old] * 30, loss, 0.2, last=True)
        known, unknown = loss(model, old).item(), loss(model, new).item()
        train(kind(strength=strength), model, [new] * 20, loss, 0.005, retain=[old], last=True)
        lost.append(loss(model, old).item() - known)
        learned.append(unknown - loss(model, new).item())
    assert lost[1] < 0.8 * lost[0] and learned[1] > 0.8 * learned[0]


@pytest.mark.parametrize("kind", [EWC, OnlineEWC])
@pytest.mark.parametrize(
    "wrong",
    [{"strength": -1.0}, {"strength": float("nan")}, {"labels": "none"}, {"examples": 0}, {"examples": True}, {"seed": -1}],
    ids=str,
)
def test_nonsense_options_are_refused(kind, wrong):
    with pytest.raises(InputError, match=f"ewc.{next(iter(wrong))}"):
        kind(**wrong)


@pytest.mark.parametrize("gamma", [-0.1, 1.1, float("nan"), True])
def test_a_decay_that_is_none_is_refused(gamma):
    with pytest.raises(InputError, match=r"online-ewc\.gamma"):
        OnlineEWC(gamma=gamma)
