"""Optimizer state for the weights that may move alone: the same weights, less state."""

import pytest
import torch
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop, Rprop

from forgetless.core import compact
from forgetless.core.session import attach
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods import CPL, PackNet, Replay
from nets import batches, loss_fn, net, same

TRAIN, RETAIN = batches(10, 2), batches(4, 3)
TASK = Task("new", TRAIN, RETAIN)
OPTIMIZERS = {
    "sgd": lambda p: SGD(p, lr=0.05),
    "momentum": lambda p: SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: AdamW(p, lr=0.01, weight_decay=0.1),
    "adam, amsgrad": lambda p: Adam(p, lr=0.01, amsgrad=True, foreach=True),
    "groups": lambda p: AdamW([{"params": (own := list(p))[:2], "lr": 0.02}, {"params": own[2:]}], lr=0.01),
    "nadam": lambda p: NAdam(p, lr=0.01),
    "radam": lambda p: RAdam(p, lr=0.01),
    "adamax": lambda p: Adamax(p, lr=0.01),
    "adagrad": lambda p: Adagrad(p, lr=0.01, initial_accumulator_value=0.1),
    "adadelta": lambda p: Adadelta(p, lr=0.5),
    "rmsprop": lambda p: RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "rprop": lambda p: Rprop(p, lr=0.01),
    "asgd": lambda p: ASGD(p, lr=0.01, t0=3),
}


@pytest.fixture(autouse=True)
def pieces(monkeypatch):
    monkeypatch.setattr(compact, "PIECE", 50)  # of 231 weights, so that a tensor is stepped in several


def steps(session, model, which):
    optimizer, told = session.ctx.optimizer, []
    for step in which:
        batch = TRAIN[step % 10]
        session.total(loss_fn(model, batch), batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        told.append(session.metrics)
    return told


def trained(make, method, count=52, **options):
    model = net()
    optimizer = make(model.parameters())
    with attach(method, model, optimizer, TASK, loss_fn, **options) as session:
        told = steps(session, model, range(count))
        state = {parameter: dict(optimizer.state[parameter]) for parameter in model.parameters()}
        kept = optimizer.state_dict()
    return model, optimizer, session, told, state, kept


def free_of(session, name, parameter):
    return ~session.method.frozen(name, parameter.shape)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_weights_and_the_state_of_those_that_move_are_the_same_bit_for_bit(name):
    usual, _, first, told, whole, _ = trained(OPTIMIZERS[name], CPL(mask="fixed"))
    model, optimizer, session, found, small, _ = trained(OPTIMIZERS[name], CPL(mask="fixed", compact_state=True))
    assert same(usual, model) and not same(usual, net())
    assert found == told and found[-1]["conflicting_fraction"] > 0.1
    assert session.constraint_violation == first.constraint_violation == 0.0
    for (label, one), other in zip(model.named_parameters(), usual.parameters(), strict=True):
        free = free_of(session, label, one)
        assert small[one].keys() == whole[other].keys()
        for key, value in whole[other].items():
            if isinstance(value, torch.Tensor) and value.shape == other.shape and value.ndim:
                assert torch.equal(small[one][key], value[free]), (label, key)
            else:
                assert value == small[one][key]
    assert not optimizer.state, "it fits this task alone"


def test_it_takes_as_many_numbers_as_weights_may_move():
    _, _, session, _, small, kept = trained(OPTIMIZERS["adamw"], CPL(mask="fixed", compact_state=True), count=3)
    moving = sum(int(free_of(session, name, parameter).sum()) for name, parameter in session.ctx.parameters.items())
    total = sum(parameter.numel() for parameter in session.ctx.parameters.values())
    assert 0 < moving < 0.9 * total
    assert sum(state[key].numel() for state in small.values() for key in ("exp_avg", "exp_avg_sq")) == 2 * moving
    assert sum(state["exp_avg"].numel() for state in kept["state"].values()) == moving


def test_a_resumed_run_is_the_whole_run_bit_for_bit(tmp_path):
    def made():
        return CPL(mask="fixed", compact_state=True)

    usual, *_ = trained(OPTIMIZERS["adamw"], made(), count=12)
    first = net()
    optimizer = OPTIMIZERS["adamw"](first.parameters())
    with attach(made(), first, optimizer, TASK, loss_fn) as session:
        steps(session, first, range(5))
        save_state(tmp_path / "state", {"session": session.state_dict(), "optimizer": optimizer.state_dict(), "model": first.state_dict()})
    kept = load_state(tmp_path / "state")
    second = net(seed=9)
    second.load_state_dict(kept["model"])
    optimizer = OPTIMIZERS["adamw"](second.parameters())
    optimizer.load_state_dict(kept["optimizer"])
    session = attach(made(), second, optimizer, TASK, loss_fn)
    session.load_state_dict(kept["session"])
    with session:
        steps(session, second, range(5, 12))
    assert same(usual, second)


def test_state_that_is_there_already_is_taken_up_for_the_weights_that_move():
    def two(compact_state):
        model = net()
        optimizer = OPTIMIZERS["adamw"](model.parameters())
        loss_fn(model, TRAIN[3]).backward()
        optimizer.step()
        optimizer.zero_grad()
        with attach(CPL(mask="fixed", compact_state=compact_state), model, optimizer, TASK, loss_fn) as session:
            steps(session, model, range(4))
        return model

    assert same(two(True), two(False))


def test_in_backward_it_is_the_same():
    usual, *_ = trained(OPTIMIZERS["adamw"], CPL(mask="fixed"))
    model, *_, state, _ = trained(OPTIMIZERS["adamw"], CPL(mask="fixed", compact_state=True), in_backward=True)
    assert same(usual, model)
    assert sum(one["exp_avg"].numel() for one in state.values()) < sum(parameter.numel() for parameter in model.parameters())


def test_in_a_chain_with_methods_that_act_by_their_loss_it_is_the_same():
    usual, *_ = trained(OPTIMIZERS["adamw"], Replay(capacity=20) >> CPL(mask="fixed"))
    model, *_, state, _ = trained(OPTIMIZERS["adamw"], Replay(capacity=20) >> CPL(mask="fixed", compact_state=True))
    assert same(usual, model)
    assert sum(one["exp_avg"].numel() for one in state.values()) < sum(parameter.numel() for parameter in model.parameters())


def test_after_the_task_the_optimizer_begins_anew():
    model, optimizer, *_ = trained(OPTIMIZERS["adamw"], CPL(mask="fixed", compact_state=True), count=3)
    twin = net()
    twin.load_state_dict(model.state_dict())
    fresh = OPTIMIZERS["adamw"](twin.parameters())
    for one, stepper in ((model, optimizer), (twin, fresh)):
        loss_fn(one, TRAIN[0]).backward()
        stepper.step()
    assert same(model, twin)


def test_state_of_another_mask_is_refused():
    model = net()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    loss_fn(model, TRAIN[0]).backward()
    optimizer.step()
    optimizer.state[next(iter(model.parameters()))]["exp_avg"] = torch.zeros(3)
    with (
        pytest.raises(InputError, match=r"compact_state: its 'exp_avg' for '0\.weight' has 3 numbers, but \d+ weights may move"),
        attach(CPL(mask="fixed", compact_state=True), model, optimizer, TASK, loss_fn) as session,
    ):
        steps(session, model, range(1))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"compact_state": True}, "False, or mask='fixed' and level='update'"),
        ({"compact_state": True, "mask": "fixed", "level": "gradient"}, "False, or mask='fixed'"),
        ({"compact_state": 1, "mask": "fixed"}, "True or False"),
    ],
)
def test_what_it_does_not_go_with_is_refused(options, told):
    with pytest.raises(InputError, match=told):
        CPL(**options)


def test_optimizers_that_look_at_whole_tensors_are_refused():
    model = net()
    optimizer = torch.optim.Adafactor(model.parameters())
    with pytest.raises(InputError, match="compact_state: Adafactor is not known to treat every weight by itself"):
        attach(CPL(mask="fixed", compact_state=True), model, optimizer, TASK, loss_fn)


def test_a_second_method_that_decides_which_weights_move_is_refused():
    model = net()
    chain = PackNet() >> CPL(mask="fixed", compact_state=True)
    with pytest.raises(InputError, match="PackNet and CPL both decide which weights move"):
        attach(chain, model, AdamW(model.parameters()), Task("new", TRAIN, RETAIN, steps=20), loss_fn)


def test_a_parameter_that_is_not_contiguous_is_refused():
    model = net()
    model[0].weight = torch.nn.Parameter(model[0].weight.detach().t().contiguous().t())
    with pytest.raises(InputError, match=r"the parameter '0\.weight' is not contiguous"):
        attach(CPL(mask="fixed", compact_state=True), model, AdamW(model.parameters()), TASK, loss_fn)
