"""DER and DER++: their equations by hand, with a reservoir of their own."""

import math

import pytest
import torch
from scipy.stats import chisquare
from torch import nn

from forgetless.core.context import Context
from forgetless.core.session import attach
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.der import DER
from forgetless.methods.derpp import DERpp
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net, same

F64 = torch.float64


def run(method, model, tasks, *, lr=0.1, loss=loss_fn, outputs=True):
    for task in tasks:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        with attach(method, model, optimizer, task, loss) as session:
            for batch in task.train:
                out = task.predictions.outputs(model, batch) if outputs else None
                session.total(loss(model, batch), batch, out).backward()
                optimizer.step()
                optimizer.zero_grad()
    return model


def twin(model, tasks, *, alpha, beta, capacity, seed=0, lr=0.1):
    """Eq. 5 and 6, example by example; Algorithm R; for Eq. 6 the draws of both batches come in turn."""
    memory, offered, draw = [], 0, torch.Generator().manual_seed(seed)

    def pick(high):
        return int(torch.randint(high, (1,), generator=draw))

    def offer(x, y, z):
        nonlocal offered
        offered += 1
        if len(memory) < capacity:
            memory.append((x, y, z))
        else:
            place = pick(offered)
            if place < capacity:
                memory[place] = (x, y, z)

    for task in tasks:
        for x, y in task.retain or []:
            for a, b in zip(x, y, strict=True):
                offer(a, b, model(a[None])[0].detach())
        for x, y in task.train:
            offers = [(a, b, model(a[None])[0].detach()) for a, b in zip(x, y, strict=True)]
            loss = sum(nn.functional.cross_entropy(model(a[None]), b[None]) for a, b in zip(x, y, strict=True)) / len(x)
            for _ in range(len(x) if memory else 0):
                a, _, z = memory[pick(len(memory))]
                loss = loss + alpha * sum((u - v) ** 2 for u, v in zip(model(a[None])[0], z, strict=True)) / len(z) / len(x)
                if beta is not None:
                    a, b, _ = memory[pick(len(memory))]
                    loss = loss + beta * nn.functional.cross_entropy(model(a[None]), b[None]) / len(x)
            grads = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, grad in zip(model.parameters(), grads, strict=True):
                    parameter -= lr * grad
            for example in offers:
                offer(*example)
    return model


@pytest.mark.parametrize("retain", [None, batches(2, 9, F64, 4)])
@pytest.mark.parametrize("beta", [None, 0.7])
@pytest.mark.parametrize("outputs", [True, False])
def test_two_tasks_are_the_twins(retain, beta, outputs):
    tasks = [Task(f"{i}", batches(4, i, F64, 4), retain, index=i) for i in range(2)]
    method = DER(alpha=0.9, capacity=6, seed=3) if beta is None else DERpp(alpha=0.9, beta=beta, capacity=6, seed=3)
    ours = run(method, net(dtype=F64), tasks, outputs=outputs)
    theirs = twin(net(dtype=F64), tasks, alpha=0.9, beta=beta, capacity=6, seed=3)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert len(method.memory) == 6


def context(model, task, loss=loss_fn):
    return Context(model, torch.optim.SGD(model.parameters(), lr=0.1), task, loss, dict(model.named_parameters()))


def test_pinned_logits_3_and_6_against_0_and_0():
    """(9 + 36)/2 = 22.5, weighed by 0.5; and 0.5·log 2 for the label."""
    for method, expected in [(DER(), 11.25), (DERpp(), 11.25 + 0.5 * math.log(2))]:
        model = nn.Linear(1, 2, bias=False)
        model.weight.data = torch.tensor([[1.0], [2.0]])
        pair = (torch.tensor([[3.0]]), torch.tensor([1]))
        ctx = context(model, Task("one", [pair]))
        method.begin_task(ctx)
        assert method.loss(ctx, pair, model(pair[0])) is None, "the reservoir is empty until the step is whole"
        method.gradients(ctx, {})
        nn.init.zeros_(model.weight)
        assert method.loss(ctx, pair, model(pair[0])).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", [DER, DERpp])
def test_after_several_tasks_the_reservoir_is_uniform_over_all_that_was_seen(kind):
    """Chi-square over 600 runs of three tasks of 10 examples, 5 held; the replayed draws go on in between."""
    held = [0] * 30
    model = nn.Linear(1, 2)
    for seed in range(600):
        method = kind(capacity=5, seed=seed)
        for index in range(3):
            x = torch.arange(10.0)[:, None] + 10 * index
            batch = (x, torch.zeros(10, dtype=torch.int64))
            ctx = context(model, Task(f"{index}", [batch], index=index))
            method.begin_task(ctx)
            with torch.no_grad():
                method.loss(ctx, batch, torch.zeros(10, 2))
            method.gradients(ctx, {})
            method.end_task(ctx)
        for x, _ in method.memory.store.examples:
            held[int(x)] += 1
    assert sum(held) == 3000
    assert chisquare(held).pvalue > 0.001


def test_units_that_the_task_rules_out_are_compared_too_and_labels_against_all_classes_so_far():
    model = nn.Linear(1, 4, bias=False)
    nn.init.zeros_(model.weight)

    def masked(model, batch):
        return nn.functional.cross_entropy(Task("", []).predictions.logits(model(batch[0]), batch), batch[1])

    def batch(units):
        active = torch.zeros(1, 4, dtype=torch.bool)
        active[:, units] = True
        return (torch.ones(1, 1), torch.tensor([units[0]]), active)

    method = DERpp(alpha=1.0, beta=1.0)
    first = context(model, Task("old", [], earlier_heads=()), masked)
    method.begin_task(first)
    method.loss(first, batch([0, 1]), torch.tensor([[0.0, 0.0, 0.0, 8.0]]))
    method.gradients(first, {})
    second = context(model, Task("new", [], index=1, earlier_heads=((0, 1),)), masked)
    method.begin_task(second)
    total = method.loss(second, batch([0, 1, 2, 3]), torch.zeros(1, 4))
    assert total.item() == pytest.approx(64 / 4 + math.log(4), rel=1e-6)


@pytest.mark.parametrize("kind", [DER, DERpp])
def test_what_is_offered_does_not_depend_on_gradient_accumulation(kind):
    def held(parts):
        model, method = net(dtype=F64), kind(capacity=5, seed=2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        with attach(method, model, optimizer, Task("one", batches(4, 1, F64)), loss_fn) as session:
            for x, y in session.ctx.task.train:
                for part in zip(x.chunk(parts), y.chunk(parts), strict=True):
                    (session.total(loss_fn(model, part), part) / parts).backward()
                optimizer.step()
        return torch.cat([x for x, _ in method.memory.store.examples])

    assert torch.equal(held(1), held(4))


def test_of_a_language_model_the_logits_of_the_labelled_positions_are_held():
    task = Task("one", language_batches(2, 1))
    model = language_model(dtype=F64)
    method = DER(capacity=8)
    run(method, model, [task], lr=0.0, loss=language_loss)
    assert len(method.memory) == 8
    for example, extra in zip(method.memory.store.examples, method.memory.store.extras, strict=True):
        rows = model(input_ids=example["input_ids"]).logits[0, :-1][example["labels"][0, 1:] != -100]
        torch.testing.assert_close(extra["logits"], rows.detach(), rtol=0, atol=1e-12)
    for parameter in model.parameters():
        parameter.data.mul_(1.1)
    places = [0, 5, 3]
    distance = method.memory.distance(context(model, task, language_loss), places)
    squares = []
    for place in places:
        example, z = method.memory.store.examples[place], method.memory.store.extras[place]["logits"]
        rows = model(input_ids=example["input_ids"]).logits[0, :-1][example["labels"][0, 1:] != -100]
        squares += [float((a - b) ** 2) for u, v in zip(rows.tolist(), z.tolist(), strict=True) for a, b in zip(u, v, strict=True)]
    assert distance.item() == pytest.approx(sum(squares) / len(squares), rel=1e-10)
    assert distance.item() > 0


@pytest.mark.parametrize("kind", [DER, DERpp])
def test_a_language_model_goes_on_bit_for_bit_from_saved_state_mid_task(kind, tmp_path):
    task = Task("one", language_batches(4, 1), language_batches(1, 2))

    def session(model):
        return attach(kind(capacity=6), model, torch.optim.SGD(model.parameters(), lr=0.1), task, language_loss)

    def go(session, which):
        for batch in task.train[which]:
            out = session.ctx.model(**batch)
            session.total(out.loss, batch, out).backward()
            session.ctx.optimizer.step()
            session.ctx.optimizer.zero_grad()

    whole = session(language_model()).start()
    go(whole, slice(0, 2))
    save_state(tmp_path / "state", [whole.ctx.model.state_dict(), whole.state_dict()])
    weights, state = load_state(tmp_path / "state")
    again = session(language_model(seed=1))
    again.ctx.model.load_state_dict(weights)
    again.load_state_dict(state)
    again.start()
    for one in (whole, again):
        go(one, slice(2, 4))
    assert same(whole.ctx.model, again.ctx.model)
    assert not same(whole.ctx.model, run(kind(capacity=6), language_model(), [Task("one", task.train)], loss=language_loss))


def test_without_weights_it_is_plain_training_bit_for_bit():
    tasks = [Task(f"{i}", batches(3, i), index=i) for i in range(2)]
    plain = net()
    for task in tasks:
        optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
        for batch in task.train:
            optimizer.zero_grad()
            loss_fn(plain, batch).backward()
            optimizer.step()
    assert same(run(DER(alpha=0.0), net(), tasks), plain)
    assert same(run(DERpp(alpha=0.0, beta=0.0), net(), tasks), plain)


NONSENSE = [
    *[("alpha", value) for value in (-1.0, math.nan, math.inf, True, "much")],
    *[("capacity", value) for value in (0, -3, 2.5, True, None)],
    *[("seed", value) for value in (-1, 1.5, True)],
]


@pytest.mark.parametrize(("option", "value"), NONSENSE)
def test_nonsense_is_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"der\.{option}"):
        DER(**{option: value})
    with pytest.raises(InputError, match=rf"derpp\.{option}"):
        DERpp(**{option: value})


@pytest.mark.parametrize("value", [-1.0, math.nan, True])
def test_nonsense_for_beta_is_refused(value):
    with pytest.raises(InputError, match=r"derpp\.beta"):
        DERpp(beta=value)
