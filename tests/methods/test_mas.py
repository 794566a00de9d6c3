import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.mas import MAS
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


def sensitivities(model, inputs):
    """The mean over examples of the absolute gradient of the squared norm of the outputs, one by one."""
    total = [torch.zeros_like(parameter) for parameter in model.parameters()]
    for x in inputs:
        for sum_, grad in zip(total, torch.autograd.grad((model(x[None]) ** 2).sum(), list(model.parameters())), strict=True):
            sum_ += grad.abs() / len(inputs)
    return total


@pytest.mark.parametrize("retain", [None, [x for x, _ in batches(2, 9, torch.float64)]], ids=["no retain", "unlabelled retain"])
def test_three_tasks_equal_the_penalty_written_out(retain):
    method, ours, theirs = MAS(strength=0.7, examples=None), net(dtype=torch.float64), net(dtype=torch.float64)
    omega, anchor = [], []
    if retain:
        omega, anchor = sensitivities(theirs, torch.cat(retain)), [p.detach().clone() for p in theirs.parameters()]
    for index in range(3):
        data = batches(4, index, torch.float64)
        session = train(method, ours, data, index=index, retain=retain)
        optimizer = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.5)
        for batch in data:
            optimizer.zero_grad()
            penalty = sum((o * (p - a) ** 2).sum() for o, p, a in zip(omega, theirs.parameters(), anchor, strict=True)) if omega else 0.0
            (loss_fn(theirs, batch) + 0.7 * penalty).backward()
            optimizer.step()
        new = sensitivities(theirs, torch.cat([x for x, _ in data]))
        omega = [old + more for old, more in zip(omega, new, strict=True)] if omega else new
        anchor = [p.detach().clone() for p in theirs.parameters()]
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert method.penalty(session.ctx).item() == 0.0, "at the anchor"


def test_a_pinned_importance_penalty_and_gradient():
    model = nn.Linear(1, 2, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0], [-3.0]]))
    data = [torch.tensor([[2.0], [1.0]], dtype=torch.float64)]
    method = MAS(strength=0.5)
    session = attach(method, model, torch.optim.SGD(model.parameters(), lr=1.0), Task("t", data, retain=data), loss_fn).start()
    assert method.importance["weight"].flatten().tolist() == [5.0, 15.0]  # |2 w x^2|: (8 + 2) / 2 and (24 + 6) / 2
    session.ctx.write({"weight": torch.tensor([[2.0], [-1.0]])})
    value = method.penalty(session.ctx)
    assert value.item() == pytest.approx(32.5)  # 0.5 * (5 * 1 + 15 * 4)
    (grad,) = torch.autograd.grad(value, [model.weight])
    assert grad.flatten().tolist() == pytest.approx([5.0, 30.0])  # 2 * strength * importance * distance


def test_the_last_task_is_not_consolidated_and_a_new_parameter_is_free():
    method, model, data = MAS(), net(), batches(2, 0)
    train(method, model, data, last=True)
    assert method.importance == {}
    train(method, model, data)
    model.add_module("3", nn.Linear(5, 5))
    session = attach(method, model, torch.optim.SGD(model.parameters(), lr=0.1), Task("u", data), loss_fn).start()
    (grad,) = torch.autograd.grad(method.penalty(session.ctx), [model[3].weight], allow_unused=True)
    assert grad is None


def test_a_language_models_outputs_drift_less_on_unlabelled_text(tmp_path):
    from transformers import AutoModelForCausalLM

    def loss(model, batch):
        return model(**batch).loss

    make_tiny_model(tmp_path, hidden=16, layers=1)
    old = {"input_ids": torch.tensor([[5, 9, 17, 30], [7, 40, 11, 12]]), "attention_mask": torch.ones(2, 4, dtype=torch.int64)}
    new = {"input_ids": torch.tensor([[8, 9, 60, 61], [3, 41, 62, 63]])}
    new["labels"] = new["input_ids"].clone()
    drift, learned = [], []
    for strength in (0.0, 3.0):
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
        before, start = model(**old).logits.detach(), loss(model, new).item()
        train(MAS(strength=strength), model, [new] * 20, loss, 0.03, retain=[old], last=True)
        drift.append((model(**old).logits.detach() - before).norm().item())
        learned.append(start - loss(model, new).item())
    assert drift[1] < 0.6 * drift[0] and learned[1] > 0.5 * learned[0] > 0, (drift, learned)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"strength": float("nan")}, {"examples": 0}, {"seed": -1}], ids=str)
def test_nonsense_options_are_refused(wrong):
    with pytest.raises(InputError, match=f"mas.{next(iter(wrong))}"):
        MAS(**wrong)
