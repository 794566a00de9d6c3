import math

import pytest
import torch
from torch import nn

from forgetless.core.context import Context
from forgetless.core.session import attach
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.memory.diversity import Coverage
from forgetless.methods.replay import Replay
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net, same

F64 = torch.float64


def run(method, model, tasks, lr=0.1, loss=loss_fn):
    for task in tasks:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        with attach(method, model, optimizer, task, loss) as session:
            for batch in task.train:
                session.total(loss(model, batch), batch).backward()
                optimizer.step()
                optimizer.zero_grad()
    return model


def stream(count=3, size=5, repeat=1):
    return [Task(f"{i}", batches(4, 10 + i, F64, size) * repeat, index=i, last=i == count - 1) for i in range(count)]


def one(model, x, y):
    return nn.functional.cross_entropy(model(x[None]), y[None])


def twin(model, tasks, *, capacity, ratio, strength, lr=0.1, seed=0):
    """Algorithm R and a shuffled walk by hand; every loss example by example."""
    memory, offered = [], 0
    pick, shuffle = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 1)
    for number, task in enumerate(tasks):
        order, seen, drawn = [], 0, 0
        for x, y in task.train:
            loss = sum(one(model, a, b) for a, b in zip(x, y, strict=True)) / len(x)
            if memory:
                weight = number if strength == "balanced" else strength
                seen += len(x)
                while drawn < int(ratio * seen):
                    order = order or torch.randperm(len(memory), generator=shuffle).tolist()
                    loss = loss + weight * one(model, *memory[order.pop(0)]) / (ratio * len(x))
                    drawn += 1
            grads = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, grad in zip(model.parameters(), grads, strict=True):
                    parameter -= lr * grad
        known = []
        for x, y in task.train:
            for a, b in zip(x, y, strict=True):
                if any(torch.equal(a, c) for c in known) or task.last:
                    continue
                known.append(a)
                offered += 1
                if len(memory) < capacity:
                    memory.append((a, b))
                else:
                    place = int(torch.randint(offered, (1,), generator=pick))
                    if place < capacity:
                        memory[place] = (a, b)
    return model


@pytest.mark.parametrize(("ratio", "strength"), [(1.0, 1.0), (0.5, 0.7), (2.0, "balanced"), (0.1, 1.0)])
def test_three_tasks_are_the_twins(ratio, strength):
    tasks = stream(repeat=2)
    ours = run(Replay(capacity=7, ratio=ratio, strength=strength, seed=5), net(dtype=F64), tasks)
    theirs = twin(net(dtype=F64), tasks, capacity=7, ratio=ratio, strength=strength, seed=5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert not same(ours, run(Replay(strength=0.0), net(dtype=F64), tasks))


def context(model, task, loss=loss_fn):
    return Context(model, torch.optim.SGD(model.parameters(), lr=0.1), task, loss, dict(model.named_parameters()))


def zeros(units=2):
    model = nn.Linear(1, units)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def test_pinned_balanced_after_two_tasks_is_twice_the_loss_of_even_odds():
    model = zeros()
    method = Replay(strength="balanced")
    pair = (torch.tensor([[1.0]]), torch.tensor([0]))
    for index in range(2):
        ctx = context(model, Task("old", [(pair[0] + index, pair[1])], index=index))
        method.begin_task(ctx)
        method.end_task(ctx)
    method.begin_task(context(model, Task("new", [pair], index=2)))
    assert method.loss(ctx, pair, None).item() == pytest.approx(2 * math.log(2), rel=1e-6)


def test_in_the_first_task_without_old_data_it_adds_nothing():
    method, ctx = Replay(), context(net(), Task("first", batches(2, 1)))
    method.begin_task(ctx)
    assert method.loss(ctx, ctx.task.train[0], None) is None


def test_half_an_example_an_example_is_one_every_other_micro_batch():
    method, ctx = Replay(ratio=0.5), context(net(), Task("first", [], batches(2, 1)))
    method.begin_task(ctx)
    x, y = batches(1, 2)[0]
    assert [method.loss(ctx, (x[:1], y[:1]), None) is None for _ in range(4)] == [True, False, True, False]


def test_the_whole_retain_set_is_replayed_once_a_pass_unless_a_capacity_cuts_it():
    retain = batches(3, 1)
    method, ctx = Replay(), context(net(), Task("first", [], retain))
    method.begin_task(ctx)
    seen = []
    ctx.loss_fn = lambda model, batch: seen.append(batch[0]) or loss_fn(model, batch)
    for batch in batches(3, 2):
        method.loss(ctx, batch, None)
    assert sorted(torch.cat(seen)[:, 0].tolist()) == sorted(torch.cat([x for x, _ in retain])[:, 0].tolist())
    for sampling in ("uniform", "diversity"):
        cut = Replay(capacity=5, sampling=sampling)
        cut.begin_task(ctx)
        assert len(cut.retained) == 5


def test_a_retain_set_counts_for_its_task_and_not_twice_where_the_memory_has_it():
    old = batches(2, 1)
    method = Replay()
    first = context(net(), Task("first", old))
    method.begin_task(first)
    method.end_task(first)
    method.begin_task(context(net(), Task("second", [], [*old, *batches(1, 3)])))
    assert len(method.memory) == 16 and len(method.retained) == 8
    method.begin_task(context(net(), Task("third", [])))
    assert len(method.memory) == 16 and len(method.retained) == 0


def test_the_last_task_is_not_stored():
    method, ctx = Replay(), context(net(), Task("only", batches(2, 1), last=True))
    method.begin_task(ctx)
    method.end_task(ctx)
    assert len(method.memory) == 0


def test_old_examples_are_scored_against_all_classes_so_far():
    """One growing softmax: with equal logits the loss of an old example is log 4 while 4 classes are known, not log 2."""
    model = zeros(6)

    def masked(model, batch):
        return nn.functional.cross_entropy(Task("", []).predictions.logits(model(batch[0]), batch), batch[1])

    def batch(units):
        active = torch.zeros(1, 6, dtype=torch.bool)
        active[:, list(units)] = True
        return (torch.ones(1, 1), torch.tensor([units[0]]), active)

    for heads, now, expected in [(((0, 1),), (0, 1, 2, 3), math.log(4)), (((0, 1),), (2, 3), math.log(2))]:
        method, first = Replay(), context(model, Task("old", [batch((0, 1))], earlier_heads=()), masked)
        method.begin_task(first)
        method.end_task(first)
        second = context(model, Task("new", [], index=1, earlier_heads=heads), masked)
        method.begin_task(second)
        assert method.loss(second, batch(now), None).item() == pytest.approx(expected, rel=1e-6)


def test_diversity_keeps_an_equal_share_of_each_task():
    method = Replay(capacity=6, sampling="diversity")
    run(method, net(dtype=F64), stream())
    assert isinstance(method.memory, Coverage) and method.memory.counts == [3, 3]


@pytest.mark.parametrize("sampling", ["uniform", "diversity"])
def test_a_language_model_goes_on_bit_for_bit_from_saved_state_mid_task(sampling, tmp_path):
    tasks = [Task(f"{i}", language_batches(3, i), language_batches(1, 9), index=i) for i in range(2)]

    def begun():
        method, model = Replay(capacity=5, sampling=sampling, ratio=0.5), language_model()
        run(method, model, tasks[:1], loss=language_loss)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return attach(method, model, optimizer, tasks[1], language_loss)

    def step(session, batch):
        session.total(session.ctx.loss_fn(session.ctx.model, batch), batch).backward()
        session.ctx.optimizer.step()
        session.ctx.optimizer.zero_grad()

    whole = begun().start()
    step(whole, tasks[1].train[0])
    save_state(tmp_path / "state", [whole.ctx.model.state_dict(), whole.state_dict()])
    weights, state = load_state(tmp_path / "state")
    model = language_model(seed=1)
    model.load_state_dict(weights)
    again = attach(
        Replay(capacity=5, sampling=sampling, ratio=0.5), model, torch.optim.SGD(model.parameters(), lr=0.1), tasks[1], language_loss
    )
    again.load_state_dict(state)
    again.start()
    for session in (whole, again):
        for batch in tasks[1].train[1:]:
            step(session, batch)
    assert same(whole.ctx.model, again.ctx.model)
    assert len(whole.method.memory) == 5 and len(whole.method.retained) == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *[("capacity", value) for value in (0, -1, 1.5, True, "many")],
        ("sampling", "best"),
        *[("ratio", value) for value in (0, -1.0, math.nan, math.inf, True, "all")],
        *[("strength", value) for value in (-0.1, math.nan, True, "weak", None)],
        *[("seed", value) for value in (-1, 0.5, True)],
    ],
)
def test_nonsense_is_refused_by_name(option, value):
    with pytest.raises(InputError, match=f"replay.{option}"):
        Replay(**{option: value})
