import numpy as np
import pytest
import torch

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.agem import AGEM
from nets import batches, loss_fn, net

F64 = torch.float64


def run(method, model, task, steps, rate=0.5):
    optimizer, reports = torch.optim.SGD(model.parameters(), lr=rate), []
    with attach(method, model, optimizer, task, loss_fn) as session:
        for step in range(steps):
            loss_fn(model, task.train[step % len(task.train)]).backward()
            optimizer.step()
            optimizer.zero_grad()
            reports.append(session.metrics)
    return reports


def flat_gradient(model, x, y):
    parts = [torch.autograd.grad(loss_fn(model, (x[k : k + 1], y[k : k + 1])), list(model.parameters())) for k in range(len(y))]
    return torch.stack([torch.cat([part.flatten() for part in each]) for each in parts]).mean(0).numpy()


def test_equals_the_papers_equation_with_the_batches_it_draws():
    """Eq. 11 on flattened vectors; the reference batch: places by a permutation from the memory's own generator."""
    old, new = batches(5, 3, F64), batches(4, 4, F64)
    method, model, slow = AGEM(batch_size=6, seed=3), net(dtype=F64), net(dtype=F64)
    reports = run(method, model, Task("new", new, old, last=True), 10)
    x, y = torch.cat([b[0] for b in old]), torch.cat([b[1] for b in old])
    draw = torch.Generator().manual_seed(3)
    for step in range(10):
        rows = torch.randperm(len(y), generator=draw)[:6]
        g, ref = flat_gradient(slow, *new[step % 4]), flat_gradient(slow, x[rows], y[rows])
        cosine = g @ ref / np.linalg.norm(g) / np.linalg.norm(ref)
        assert reports[step]["reference_dot"] == pytest.approx(cosine, abs=1e-9)
        assert reports[step]["projected"] == (cosine < 0)
        if g @ ref < 0:
            g = g - (g @ ref) / (ref @ ref) * ref
            assert abs(reports[step]["projected_dot"]) < 1e-12
        with torch.no_grad():
            start = 0
            for parameter in slow.parameters():
                parameter -= 0.5 * torch.from_numpy(g[start : start + parameter.numel()]).view_as(parameter)
                start += parameter.numel()
    assert {report["projected"] for report in reports} == {True, False}
    for a, b in zip(model.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_pinned_a_step_against_the_old_data_loses_that_part():
    """loss = w·b for a batch b: the gradient is b. (1, -2) against (0, 1) leaves (1, 0)."""
    model = torch.nn.Linear(2, 1, bias=False)
    loss = lambda m, b: (m.weight * b).sum()  # noqa: E731
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    new, old = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.0, 1.0]])
    with attach(AGEM(), model, optimizer, Task("one", [new], [old], last=True), loss) as session:
        loss(model, new).backward()
        optimizer.step()
    torch.testing.assert_close(before - model.weight.detach(), torch.tensor([[1.0, 0.0]]))
    assert session.metrics["reference_dot"] == pytest.approx(-2 / 5**0.5) and session.metrics["projected_dot"] == 0.0


def test_the_memory_is_a_sample_of_all_tasks_and_its_draws_go_on_after_saving():
    method, model = AGEM(capacity=20, batch_size=4), net()
    for k in range(3):
        run(method, model, Task(f"task {k}", batches(5, k), index=k), 2)
    assert len(method.memory) == 20 and method.memory.offered == 120
    again = AGEM(capacity=20, batch_size=4)
    again.load_state_dict(method.state_dict())
    draws = [torch.randperm(20, generator=m.memory.generator) for m in (method, again)]
    assert torch.equal(*draws)


@pytest.mark.parametrize("options", [{"capacity": 0}, {"batch_size": 0}, {"batch_size": 2.0}, {"seed": True}, {"capacity": float("nan")}])
def test_nonsense_is_refused_by_name(options):
    with pytest.raises(InputError, match=f"agem.{next(iter(options))}"):
        AGEM(**options)
