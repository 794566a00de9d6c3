"""Steps inside ``backward``: the same weights, without the gradients ever being there at once."""

import pytest
import torch

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError
from forgetless.methods import CPL, EWC, GEM, PackNet, Plain, Replay
from nets import batches, loss_fn, net, same

TRAIN, RETAIN = batches(10, 2), batches(4, 3)
TASK = Task("new", TRAIN, RETAIN)
METHODS = {
    "none": Plain,
    "cpl": lambda: CPL(refresh=3),
    "cpl, fixed": lambda: CPL(mask="fixed"),
    "replay": lambda: Replay(capacity=20),
    "replay >> cpl": lambda: Replay(capacity=20) >> CPL(),
}
OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "adamw, fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, fused=True),
    "adafactor": lambda parameters: torch.optim.Adafactor(parameters, lr=0.01),
}


def trained(make, optimizer_name, *, in_backward, steps=52):
    method = make()
    model = method.prepare(net(), TASK)
    optimizer = OPTIMIZERS[optimizer_name](model.parameters())
    left, held = [], []
    with attach(method, model, optimizer, TASK, loss_fn, in_backward=in_backward) as session:
        for step in range(steps):
            batch = TRAIN[step % 10]
            session.total(loss_fn(model, batch), batch).backward()
            left.append(sum(parameter.grad is not None for parameter in model.parameters()))
            optimizer.step()
            optimizer.zero_grad()
            held.append(session.metrics.get("conflicting_fraction"))
    return model, optimizer, session, left, held


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", METHODS)
def test_the_weights_are_those_of_ordinary_steps_bit_for_bit_and_no_gradient_is_left(name, optimizer):
    usual, first, _, whole, held = trained(METHODS[name], optimizer, in_backward=False)
    inside, second, session, left, found = trained(METHODS[name], optimizer, in_backward=True)
    assert same(usual, inside) and not same(inside, net())
    assert max(left) == 0 and min(whole) == 4
    assert found == held
    assert session.constraint_violation == (None if name in ("none", "replay") else 0.0)
    for one, other in zip(usual.parameters(), inside.parameters(), strict=True):
        mine, theirs = first.state[one], second.state[other]
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(torch.as_tensor(mine[key]), torch.as_tensor(theirs[key])) for key in mine if mine[key] is not None)


@pytest.mark.parametrize(
    "method", [EWC(), GEM(), CPL(level="gradient"), PackNet(), Replay() >> EWC()], ids=["ewc", "gem", "cpl.level", "packnet", "chain"]
)
def test_what_needs_all_gradients_at_once_is_refused(method):
    model = net()
    with pytest.raises(InputError, match="in_backward"):
        attach(method, model, torch.optim.SGD(model.parameters(), lr=0.1), TASK, loss_fn, in_backward=True)


def test_accumulation_clipping_scaling_and_a_step_without_backward_are_refused():
    def begun():
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return model, optimizer, attach(CPL(), model, optimizer, TASK, loss_fn, in_backward=True).start()

    model, optimizer, session = begun()
    session.total(loss_fn(model, TRAIN[0])).backward()
    with pytest.raises(ProtectionError, match="second gradient"):
        session.total(loss_fn(model, TRAIN[1])).backward()
    model, optimizer, session = begun()
    session.total(loss_fn(model, TRAIN[0])).backward()
    with pytest.raises(ProtectionError, match="clipped"):
        session.edit_gradients()
    model, optimizer, session = begun()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(ProtectionError, match="scale"):
        (session.total(loss_fn(model, TRAIN[0])) * 65536).backward()
    assert all(torch.equal(mine, old) for mine, old in zip(model.parameters(), before, strict=True))
    model, optimizer, session = begun()
    with pytest.raises(ProtectionError, match="no backward"):
        optimizer.step()


def test_after_the_session_the_optimizer_steps_as_ever():
    model, optimizer, *_ = trained(METHODS["cpl"], "sgd", in_backward=True, steps=2)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    loss_fn(model, TRAIN[0]).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    optimizer.step()
    assert not any(torch.equal(mine, old) for mine, old in zip(model.parameters(), before, strict=True))
