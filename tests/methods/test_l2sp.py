import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.l2sp import L2SP
from nets import batches, loss_fn, net


def train(method, model, data, **task):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.5)
    with attach(method, model, optimizer, Task("t", data, **task), loss_fn) as session:
        for batch in data:
            session.total(loss_fn(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


def twin(model, starts, data, strength):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    for batch in data:
        optimizer.zero_grad()
        loss = loss_fn(model, batch)
        for parameter, start in zip(model.parameters(), starts, strict=True):
            loss = loss + strength / 2 * ((parameter - start) ** 2).sum()
        loss.backward()
        optimizer.step()
    return model


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


@pytest.mark.parametrize("anchor", ["start", "task"])
def test_two_tasks_equal_the_loss_with_the_penalty_written_out(anchor):
    method, ours, theirs = L2SP(strength=0.3, anchor=anchor), net(dtype=torch.float64), net(dtype=torch.float64)
    starts = weights(theirs)
    for index in range(2):
        data = batches(5, index, torch.float64)
        train(method, ours, data, index=index)
        twin(theirs, starts if anchor == "start" else weights(theirs), data, 0.3)
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_a_pinned_step():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 3.0)
    method, optimizer = L2SP(strength=0.5), torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(method, model, optimizer, Task("t", []), loss_fn) as session:
        assert method.penalty(session.ctx).item() == 0.0, "at the anchor"
        session.ctx.write({"weight": torch.tensor([[5.0]])})
        assert method.penalty(session.ctx).item() == 1.0  # 0.5 / 2 * 2^2
        optimizer.step()
    assert model.weight.item() == pytest.approx(4.9)  # 5 - 0.1 * 0.5 * 2


def test_a_frozen_parameter_and_a_new_one_are_not_penalised():
    model = net()
    model[0].bias.requires_grad_(False)
    method, data = L2SP(strength=1.0), batches(2, 0)
    train(method, model, data)
    assert set(method.weights) == {"0.weight", "2.weight", "2.bias"}
    model.add_module("3", nn.Linear(5, 5))
    train(method, model, data, index=1)
    assert "3.weight" not in method.weights


def test_a_language_model_stays_nearer(tmp_path):
    from transformers import AutoModelForCausalLM

    from tiny import make_tiny_model

    make_tiny_model(tmp_path, hidden=16, layers=1)
    batch = {"input_ids": torch.tensor([[5, 9, 17, 30]]), "labels": torch.tensor([[-100, 9, 17, 30]])}
    moved = []
    for strength in (0.0, 2.0):
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
        start, optimizer = weights(model), torch.optim.SGD(model.parameters(), lr=0.1)
        with attach(L2SP(strength=strength), model, optimizer, Task("t", [batch]), lambda m, b: m(**b).loss) as session:
            for _ in range(8):
                session.total(model(**batch).loss, batch).backward()
                optimizer.step()
                optimizer.zero_grad()
        moved.append(sum(float((a.detach() - b).square().sum()) for a, b in zip(model.parameters(), start, strict=True)))
    assert 0 < moved[1] < 0.5 * moved[0]


@pytest.mark.parametrize("wrong", [{"strength": -1}, {"strength": float("nan")}, {"strength": True}, {"anchor": "here"}])
def test_nonsense_options_are_refused(wrong):
    with pytest.raises(InputError, match=f"l2sp.{next(iter(wrong))}"):
        L2SP(**wrong)
