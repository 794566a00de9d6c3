"""Steps that a loop leaves out, loops that do not call `total`, tasks whose end fails, and weights that lie in several places."""

import math

import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods import CPL, GEM, L2SP, SI, GradientProtection, Plain, Wise
from nets import batches, loss_fn, net, same

TRAIN, RETAIN = batches(6, seed=2), batches(3, seed=3)
TASK = Task("new", TRAIN, RETAIN)


def test_after_a_step_that_was_left_out_the_next_is_protected_as_ever():
    models = []
    for skips in (False, True):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with attach(L2SP(strength=5.0), model, optimizer, TASK, loss_fn) as session:
            for batch in TRAIN:
                for left_out in (True, False) if skips else (False,):
                    session.total(loss_fn(model, batch), batch).backward()
                    session.edit_gradients()
                    if not left_out:  # else as a loop does whose gradient norm is not finite
                        optimizer.step()
                    optimizer.zero_grad()
        models.append(model)
    assert same(*models)


@pytest.mark.parametrize("make", [lambda: SI(strength=1.0), lambda: GradientProtection(history=3), lambda: GEM(), lambda: CPL(refresh=1)])
def test_a_fused_optimizer_that_a_scaler_calls_on_an_overflow_does_nothing_and_the_method_sees_nothing(make):
    states = []
    for overflows in (False, True):
        model, method = net(), make()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, fused=True)
        scaler = torch.amp.GradScaler("cpu")
        with attach(method, model, optimizer, TASK, loss_fn) as session:
            session.begin_epoch(0)
            for step, batch in enumerate(TRAIN):
                for factor in (math.inf, 1.0) if overflows and step == 1 else (1.0,):
                    scaler.scale(session.total(loss_fn(model, batch), batch) * factor).backward()
                    scaler.unscale_(optimizer)
                    scaler.step(optimizer)
                    scaler.update(new_scale=1024.0)
                    optimizer.zero_grad()
            assert session.ctx.step == len(TRAIN)
            states.append(session.state_dict()["method"])
    flat = [torch.utils._pytree.tree_flatten(state)[0] for state in states]
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(*flat, strict=True))


def test_without_total_epochs_are_counted_by_steps_so_the_reference_is_taken_anew():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    refreshed = []
    with attach(CPL(refresh="epoch"), model, optimizer, TASK, loss_fn) as session:
        for _ in range(3):
            for batch in TRAIN:
                loss_fn(model, batch).backward()
                optimizer.step()
                optimizer.zero_grad()
                refreshed.append(bool(session.metrics.get("refresh")))
    assert [step for step, yes in enumerate(refreshed) if yes] == [len(TRAIN), 2 * len(TRAIN)]


def test_a_task_whose_end_fails_gives_the_optimizer_back():
    class Fails(Plain):
        def end_task(self, ctx):
            raise RuntimeError("no end")

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match="no end"), attach(Fails(), model, optimizer, TASK, loss_fn):
        pass
    assert "step" not in vars(optimizer)
    attach(Plain(), model, optimizer, TASK, loss_fn).start().close()


@pytest.mark.parametrize(("alpha", "call"), [("auto", 2), ("least", len(TRAIN) + 2)])
def test_a_search_that_fails_leaves_what_was_trained(alpha, call):
    """It fails at a call of the model when other weights than those stand in it."""
    calls = []

    class Breaks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = net()

        def forward(self, x):
            if not self.training:
                calls.append(x)
                if len(calls) == call:
                    raise RuntimeError("out of memory")
            return self.inner(x)

    model = Breaks()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    session = attach(Wise(alpha=alpha), model, optimizer, TASK, loss_fn).start()
    for batch in TRAIN:
        session.total(loss_fn(model, batch), batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError, match="out of memory"):
        session.close()
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_signs_that_were_loaded_go_to_where_the_weights_are():
    """In place of a GPU: parameters on ``meta``, on which nothing can be compared with what lies elsewhere."""
    method, model = CPL(refresh="task"), net()
    with attach(method, model, torch.optim.SGD(model.parameters(), lr=0.1), TASK, loss_fn) as session:
        session.ctx.parameters = {name: parameter.to("meta") for name, parameter in session.ctx.parameters.items()}
        method.mean = {name: torch.zeros(3) for name in session.ctx.parameters}
        method.begin_step(session.ctx)
        assert {tensor.device.type for tree in (method.reference, method.mean) for tensor in tree.values()} == {"meta"}


def test_weights_on_several_devices_are_refused_by_what_filters_their_steps():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3, device="meta"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="its weights lie on cpu and meta, and CPL filters"):
        attach(CPL(), model, optimizer, TASK, loss_fn)
    attach(L2SP(), model, optimizer, TASK, loss_fn)
