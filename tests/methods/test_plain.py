import torch

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.methods.plain import Plain
from nets import batches, loss_fn, net


def test_equals_gradient_descent_written_out_for_every_weight():
    model, twin, data = net(dtype=torch.float64), net(dtype=torch.float64), batches(5, 2, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    with attach(Plain(), model, optimizer, Task("one", data), loss_fn) as session:
        for x, y in data:
            session.total(loss_fn(model, (x, y))).backward()
            optimizer.step()
            optimizer.zero_grad()
            examples = [torch.autograd.grad(loss_fn(twin, (a[None], b[None])), list(twin.parameters())) for a, b in zip(x, y, strict=True)]
            with torch.no_grad():
                for weight, parts in zip(twin.parameters(), zip(*examples, strict=True), strict=True):
                    weight -= 0.3 * sum(parts) / len(parts)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert session.constraint_violation is None, "nothing is promised"


def test_pinned_a_step_of_one_weight():
    """loss = w²: from 3 at a rate of 0.25 to 3 - 0.25·6 = 1.5."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 3.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    loss = lambda m, b: m.weight.square().sum()  # noqa: E731
    with attach(Plain(), model, optimizer, Task("one", [0]), loss):
        loss(model, 0).backward()
        optimizer.step()
    assert model.weight.item() == 1.5
