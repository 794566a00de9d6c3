import numpy as np
import pytest
import torch

from forgetless.core.gradients import mean_gradient
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError
from forgetless.methods.agem import AGEM
from forgetless.methods.gem import GEM
from forgetless.methods.gradient_protection import GradientProtection
from forgetless.methods.plain import Plain
from forgetless.streams.stream import ClassStream, ClassTask
from nets import batches, loss_fn, net, same
from qp import by_active_sets
from tiny import make_tiny_model

F64 = torch.float64


def tasks(count, dtype=F64, retain=None):
    return [Task(f"task {k}", batches(4, 2 + k, dtype), retain, index=k, last=k == count - 1) for k in range(count)]


def train(method, model, task, *, rate=0.5, steps=6, loss=loss_fn):
    """The reports of one task under plain SGD."""
    optimizer, reports = torch.optim.SGD(model.parameters(), lr=rate), []
    with attach(method, model, optimizer, task, loss) as session:
        for step in range(steps):
            batch = task.train[step % len(task.train)]
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            reports.append(session.metrics)
    return reports


def flat_gradient(model, examples):
    """One example after another, then the mean."""
    total = 0
    for x, y in examples:
        for one, label in zip(x, y, strict=True):
            parts = torch.autograd.grad(loss_fn(model, (one[None], label[None])), list(model.parameters()))
            total = total + torch.cat([part.flatten() for part in parts])
    return (total / sum(len(y) for _, y in examples)).numpy()


def twin(model, stream, margin, rate=0.5, steps=6):
    """The paper's algorithm with flattened vectors: the memory of a task is all of it."""
    for k, task in enumerate(stream):
        for step in range(steps):
            g = flat_gradient(model, [task.train[step % len(task.train)]])
            stored = np.array([flat_gradient(model, old.train) for old in stream[:k]])
            if len(stored) and (stored @ g < 0).any():
                g = by_active_sets(g, stored, margin)
            with torch.no_grad():
                start = 0
                for parameter in model.parameters():
                    parameter -= rate * torch.from_numpy(g[start : start + parameter.numel()]).view_as(parameter)
                    start += parameter.numel()


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_equals_the_papers_algorithm_over_four_tasks(margin):
    model, slow, method = net(dtype=F64), net(dtype=F64), GEM(margin=margin, per_task=32, batch_size=7)
    reports = [report for task in tasks(4) for report in train(method, model, task)]
    twin(slow, tasks(4), margin)
    for a, b in zip(model.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    assert sum(report.get("projected", False) for report in reports) >= 6, "there was something to do"


@pytest.mark.parametrize(
    ("stored", "margin", "left"),
    [
        ([(0.0, 1.0)], 0.0, (1.0, 0.0)),  # the part against it is gone
        ([(0.0, 1.0)], 3.0, (1.0, 1.0)),  # (1, -2) + 3·(0, 1): Eq. 11 with a margin above the 2 that are needed
        ([(-1.0, 1.0)], 0.0, (-0.5, -0.5)),  # (1, -2) + 3/2·(-1, 1)
        ([(-1.0, 1.0), (2.0, 1.0)], 0.0, (0.0, 0.0)),  # (-1/2, -1/2) would be against the second one
        ([(1.0, 0.0), (0.0, -1.0)], 0.0, (1.0, -2.0)),  # against neither
    ],
)
def test_pinned_what_is_left_of_the_step_1_minus_2(stored, margin, left):
    """loss = w·b for a batch b: the gradient is b."""
    model, method = torch.nn.Linear(2, 1, bias=False).double(), GEM(margin=margin)
    loss = lambda m, b: (m.weight * b).sum() / len(b)  # noqa: E731
    for index, batch in enumerate([*stored, (1.0, -2.0)]):
        batch = torch.tensor([batch], dtype=F64)
        before = model.weight.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with attach(method, model, optimizer, Task(f"{index}", [batch], index=index, last=index == len(stored)), loss):
            loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(before - model.weight.detach(), torch.tensor([left], dtype=F64), rtol=0, atol=1e-9)


def test_after_projection_no_stored_task_is_stepped_against():
    method, model, stream = GEM(), net(), tasks(3, torch.float32)
    for task in stream[:2]:
        train(method, model, task)
    task = stream[2]
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=0.5), 0
    with attach(method, model, optimizer, task, loss_fn) as session:
        for batch in task.train:
            stored = [mean_gradient(session.ctx, old.train) for old in stream[:2]]
            loss_fn(model, batch).backward()
            size = sum(float(p.grad.double().square().sum()) for p in model.parameters()) ** 0.5
            optimizer.step()
            worst = np.inf
            for tree in stored:
                product = sum(float((p.grad.double() * tree[name].double()).sum()) for name, p in model.named_parameters())
                worst = min(worst, product / size / sum(float(part.double().square().sum()) for part in tree.values()) ** 0.5)
            assert worst >= -1e-6
            assert session.metrics["projected_dot"] == pytest.approx(worst, abs=1e-6), "what is reported is what the optimizer gets"
            assert session.metrics["projected"] == (session.metrics["worst_dot"] < 0)
            seen += session.metrics["projected"]
            optimizer.zero_grad()
    assert seen


def test_one_stored_task_is_agem_with_the_same_reference():
    stream = tasks(2)
    gem, agem, plain = net(dtype=F64), net(dtype=F64), net(dtype=F64)
    for method, model in [(GEM(), gem), (AGEM(), agem), (Plain(), plain)]:
        for task in stream:
            train(method, model, task)
    for a, b in zip(gem.parameters(), agem.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    assert not same(gem, plain)


def test_a_retain_set_is_one_stored_task_all_of_it_or_in_turn():
    retain = batches(3, 30, F64)
    whole, agem = net(dtype=F64), net(dtype=F64)
    train(GEM(), whole, tasks(1, retain=retain)[0])
    reports = train(AGEM(), agem, tasks(1, retain=retain)[0])
    assert any(report["projected"] for report in reports)
    for a, b in zip(whole.parameters(), agem.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)

    taken, method = [], GEM(retain_batches=2)
    watch = lambda model, batch: taken.append(next(k for k, old in enumerate(retain) if old is batch)) or loss_fn(model, batch)  # noqa: E731
    model = net(dtype=F64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(method, model, optimizer, tasks(1, retain=retain)[0], watch) as session:
        for batch in session.ctx.task.train[:4]:
            loss_fn(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert taken == [0, 1, 2, 0, 1, 2, 0, 1] and method.state_dict()["position"] == 2


@pytest.mark.parametrize("make", [GEM, AGEM])
def test_without_old_data_it_is_plain_training_bit_for_bit(make):
    model, plain = net(), net()
    reports = train(make(), model, tasks(2, torch.float32)[0])
    train(Plain(), plain, tasks(2, torch.float32)[0])
    assert same(model, plain) and reports[-1] == {}


@pytest.mark.parametrize("make", [GEM, AGEM])
def test_the_last_task_is_not_stored_and_an_earlier_one_is_once(make):
    method = make(**{"per_task" if make is GEM else "capacity": 10})
    train(method, net(), Task("twice", 2 * batches(4, 2), index=0))
    stores = method.memories if make is GEM else [method.memory.store]
    assert [len(store) for store in stores] == [10]
    kept = torch.cat([x for x, _ in stores[0].examples])
    assert len(kept.unique(dim=0)) == 10, "an example that stands in two batches is one"
    train(method, net(), Task("end", batches(4, 3), index=1, last=True))
    assert torch.equal(torch.cat([x for x, _ in stores[0].examples]), kept)
    assert len(method.memories if make is GEM else [0]) == 1


def test_a_gradient_that_is_not_finite_stops_the_run():
    method, model = GEM(), net()
    train(method, model, tasks(2, torch.float32)[0])
    x, y = batches(1, 9)[0]
    with pytest.raises(ProtectionError, match="not finite"):
        train(method, model, Task("bad", [(x * float("inf"), y)], index=1, last=True), steps=1)


def test_gradient_protection_after_it_scales_what_it_projected():
    """From the second step on: every tensor moves as gem alone moves it, times one factor of at most one half."""
    first, second = tasks(2)
    gem, protection, model, alone = GEM(), GradientProtection(), net(dtype=F64), net(dtype=F64)
    train(gem, model, first)
    train(gem >> protection, model, Task("b", second.train, index=1, last=True), steps=1)
    alone.load_state_dict(model.state_dict())
    start = [parameter.detach().clone() for parameter in model.parameters()]
    later = Task("b", second.train[1:2], index=1, last=True)
    reports = train(gem >> protection, model, later, steps=1)
    train(gem, alone, later, steps=1)
    assert reports[0]["projected"] and reports[0]["protected_fraction"] == 1.0
    for chained, only, before in zip(model.parameters(), alone.parameters(), start, strict=True):
        factor = ((chained - before) / (only - before)).flatten()
        torch.testing.assert_close(factor, factor[:1].expand_as(factor), rtol=1e-6, atol=0)
        assert 0 < factor[0] <= 0.5


def test_old_examples_compete_with_new_classes_where_the_task_is_not_known():
    """In the class setting the stored gradient is that of a loss over all classes seen; in the task setting over their own."""
    x = torch.randn(8, 7, generator=torch.Generator().manual_seed(1))
    half = ClassTask("a", ("0", "1"), (x, torch.arange(8) % 2), (x, torch.arange(8) % 2))
    stream = ClassStream("two", (half, half), net)
    seen = []

    def loss(model, batch):
        seen.append(batch[2])
        return torch.nn.functional.cross_entropy(model(batch[0]).masked_fill(~batch[2], -1e4), batch[1])

    wide = torch.nn.Linear(7, 4)
    for setting, units in [("class", [True] * 4), ("task", [True, True, False, False])]:
        for method in (GEM(), AGEM()):
            for k in range(2):
                task = stream.task(setting, k, 4, 2, 0)
                optimizer = torch.optim.SGD(wide.parameters(), lr=0.1)
                with attach(method, wide, optimizer, task, loss):
                    for batch in task.train:
                        loss(wide, batch).backward()
                        seen.clear()
                        optimizer.step()
                        optimizer.zero_grad()
                        assert [row.tolist() for active in seen for row in active] == ([units] * 8 if k else [])


@pytest.mark.parametrize("make", [GEM, AGEM])
def test_forgets_less_than_plain_on_digits(make):
    """scikit-learn's digits 0-4, then 5-9 with the same five outputs: the old half is kept better, the new one learned."""
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x, y = torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    halves = [(x[y // 5 == k], y[y // 5 == k] % 5) for k in range(2)]
    kept, learned = {}, {}
    for name, method in [("plain", Plain()), ("projected", make())]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 50), torch.nn.ReLU(), torch.nn.Linear(50, 5))
        for k, (images, labels) in enumerate(halves):
            cut = list(zip(images[:640].split(32), labels[:640].split(32), strict=True))
            train(method, model, Task(f"half {k}", cut, index=k, last=k == 1), rate=0.1, steps=80)
        right = [float((model(images[640:]).argmax(1) == labels[640:]).double().mean()) for images, labels in halves]
        kept[name], learned[name] = right
    assert kept["projected"] > kept["plain"] + 0.08
    assert learned["projected"] > 0.7


@pytest.mark.parametrize("make", [GEM, AGEM])
def test_a_language_model_keeps_a_text_that_plain_training_loses(make, tmp_path):
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(tmp_path)
    texts = [torch.randint(1, 200, (4, 10), generator=torch.Generator().manual_seed(k)) for k in range(2)]
    long = torch.nn.functional.pad(texts[0], (0, 3))  # padding of other lengths in the memory
    mask = (torch.arange(13) < 10).expand(4, -1).long()
    first = {"input_ids": long, "labels": long.masked_fill(mask == 0, -100), "attention_mask": mask}
    second = {"input_ids": texts[0], "labels": texts[1], "attention_mask": torch.ones_like(texts[1])}
    lost = {}
    for name, method in [("plain", Plain()), ("projected", make())]:
        model = AutoModelForCausalLM.from_pretrained(folder)
        loss = lambda m, b: m(**b).loss  # noqa: E731
        for k, batch in enumerate([first, second]):
            before = loss(model, first).item()
            train(method, model, Task(f"text {k}", [batch], index=k, last=k == 1), rate=0.3, steps=12, loss=loss)
        lost[name] = loss(model, first).item() - before
    assert lost["projected"] < lost["plain"] - 0.05


@pytest.mark.parametrize(
    "options",
    [{"per_task": 0}, {"margin": -1.0}, {"margin": float("nan")}, {"margin": True}, {"batch_size": 0}, {"retain_batches": 0}, {"seed": -1}],
)
def test_nonsense_is_refused_by_name(options):
    with pytest.raises(InputError, match=f"gem.{next(iter(options))}"):
        GEM(**options)
