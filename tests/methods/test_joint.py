import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.joint import Joint
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net, same

F64 = torch.float64


def steps(method, model, task, *, lr=0.1, loss=loss_fn, rounds=1):
    """Train; give the gradient of every step as the optimizer saw it."""
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=lr), []
    with attach(method, model, optimizer, task, loss) as session:
        for _ in range(rounds):
            for batch in task.train:
                session.total(loss(model, batch), batch).backward()
                optimizer.step()
                seen.append([parameter.grad.clone() for parameter in model.parameters()])
                optimizer.zero_grad()
    return seen


def test_over_a_pass_its_gradient_is_that_of_the_mean_loss_over_all_data_so_far():
    """At a learning rate of 0: 8 new examples of two batches of 4 and 24 old ones, 6 steps, the plain mean over 32 examples."""
    first, second, retain = batches(3, 1, F64, 4), batches(2, 2, F64, 4), batches(3, 3, F64, 4)
    method, model = Joint(), net(dtype=F64)
    steps(method, model, Task("first", first), lr=0.0)
    seen = steps(method, model, Task("second", second, retain), lr=0.0, rounds=3)
    mean = [torch.stack(grads).mean(0) for grads in zip(*seen, strict=True)]
    everything = [torch.cat(part) for part in zip(*first, *second, *retain, strict=True)]
    assert len(everything[0]) == 32
    expected = torch.autograd.grad(loss_fn(model, everything), list(model.parameters()))
    for a, b in zip(mean, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_three_tasks_are_the_twins():
    """The rule by hand, example by example, with a shuffled walk of its own."""
    tasks = [Task(f"{i}", batches(3, i, F64, 5), index=i, last=i == 2) for i in range(3)]
    method, model = Joint(seed=4), net(dtype=F64)
    for task in tasks:
        steps(method, model, task, rounds=2)
    twin, old, shuffle = net(dtype=F64), [], torch.Generator().manual_seed(4)
    for task in tasks:
        order, new = [], [pair for x, y in task.train for pair in zip(x, y, strict=True)]
        n, m = len(new), len(old)
        for x, y in list(task.train) * 2:
            loss = 0.0
            for a, b in zip(x, y, strict=True):
                loss = loss + n / (n + m) * nn.functional.cross_entropy(twin(a[None]), b[None]) / len(x)
            for _ in range(len(x) if old else 0):
                order = order or torch.randperm(m, generator=shuffle).tolist()
                a, b = old[order.pop(0)]
                loss = loss + m / (n + m) * nn.functional.cross_entropy(twin(a[None]), b[None]) / len(x)
            grads = torch.autograd.grad(loss, list(twin.parameters()))
            with torch.no_grad():
                for parameter, grad in zip(twin.parameters(), grads, strict=True):
                    parameter -= 0.1 * grad
        old += new
    for a, b in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_pinned_one_new_and_two_old_examples():
    """A weight of 0 and the loss (w - y)²/2: new y = 3, old y = -1 and -5. Two steps see -(3 - 1 - 5)/3 = 1 on average."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)

    def loss(model, batch):
        return (model(batch[0]) - batch[1]).square().mean() / 2

    one = torch.ones(1, 1)
    method = Joint()
    steps(method, model, Task("old", [(one, one * -1.0), (one, one * -5.0)]), lr=0.0, loss=loss)
    seen = steps(method, model, Task("new", [(one, one * 3.0)]), lr=0.0, loss=loss, rounds=2)
    assert sorted(round(float(grad), 5) for (grad,) in seen) == [round((-3 + 2 * 1) / 3, 5), round((-3 + 2 * 5) / 3, 5)]


def test_alone_with_its_first_task_it_is_plain_training():
    model, plain = net(), net()
    task = Task("first", batches(3, 1))
    steps(Joint(), model, task)
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1)
    for batch in task.train:
        optimizer.zero_grad()
        loss_fn(plain, batch).backward()
        optimizer.step()
    assert same(model, plain)


def test_it_keeps_every_different_example_once():
    method, old = Joint(), batches(3, 1)
    steps(method, net(), Task("first", old * 2, batches(1, 5)))
    steps(method, net(), Task("second", batches(2, 2), old + batches(1, 5)))
    assert len(method.old) == 24 + 8 + 16
    steps(method, net(), Task("third", batches(2, 3), last=True))
    assert len(method.old) == 48


def test_language_model():
    """One new batch and one old: the gradient is the mean of the two batches', each with its own mean over tokens."""
    first, second = language_batches(1, 1), language_batches(1, 2)
    method, model = Joint(), language_model(dtype=F64)
    steps(method, model, Task("first", first), lr=0.0, loss=language_loss)
    (seen,) = steps(method, model, Task("second", second), lr=0.0, loss=language_loss)
    mean = (language_loss(model, first[0]) + language_loss(model, second[0])) / 2
    for a, b in zip(seen, torch.autograd.grad(mean, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@pytest.mark.parametrize("value", [-1, 0.5, True, "now", None])
def test_nonsense_is_refused_by_name(value):
    with pytest.raises(InputError, match=r"joint\.seed"):
        Joint(seed=value)
