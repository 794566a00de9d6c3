import copy
import math

import pytest
import torch

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.lwf import LwF
from forgetless.ops.distillation import grouped, soft_cross_entropy
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net, same

DOUBLE = torch.float64


def run(method, model, task, steps, lr=0.05, loss=loss_fn, pass_outputs=False):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    with attach(method, model, optimizer, task, loss) as session:
        for batch in list(task.train)[:steps]:
            outputs = task.predictions.outputs(model, batch) if pass_outputs else None
            session.total(loss(model, batch), batch, outputs).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def distilled(teacher, student, groups, temperature):
    """Eq. 2-3 of Li & Hoiem, example by example, times T²: mean over examples and groups."""
    total = 0
    for old, new in zip(teacher, student, strict=True):
        for group in groups:
            p = [math.exp(float(old[i])) for i in group]
            p = [value / sum(p) for value in p]  # the recorded probabilities y
            p = [value ** (1 / temperature) for value in p]
            p = [value / sum(p) for value in p]  # y'
            q = [torch.exp(new[i] / temperature) for i in group]
            total = total - temperature**2 * sum(a * torch.log(b / sum(q)) for a, b in zip(p, q, strict=True))
    return total / (len(student) * len(groups))


@pytest.mark.parametrize("heads", [None, ((0, 1),), ((0, 1), (2, 3, 4))])
@pytest.mark.parametrize("pass_outputs", [False, True])
def test_equals_the_papers_equations_example_by_example_over_six_steps(heads, pass_outputs):
    model, twin = net(dtype=DOUBLE), net(dtype=DOUBLE)
    old = copy.deepcopy(twin)
    train = batches(6, 2, DOUBLE)
    run(LwF(strength=0.7, temperature=3.0), model, Task("new", train, earlier_heads=heads), 6, pass_outputs=pass_outputs)
    for x, y in train:
        groups = heads or (range(5),)
        loss = loss_fn(twin, (x, y)) + 0.7 * distilled(old(x).detach(), twin(x), groups, 3.0)
        for parameter, grad in zip(twin.parameters(), torch.autograd.grad(loss, list(twin.parameters())), strict=True):
            parameter.data -= 0.05 * grad
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(model[0].weight, old[0].weight)


def test_a_pinned_value():
    """Teacher (1/2, 1/2), student with odds 1:3 at T = 1: -½ ln ¼ - ½ ln ¾; at T = 2 logits halved, times 4."""
    teacher, student = torch.zeros(1, 2, dtype=DOUBLE), torch.tensor([[0.0, math.log(3)]], dtype=DOUBLE)
    assert soft_cross_entropy(student, teacher).item() == pytest.approx(-0.5 * math.log(3 / 16), abs=1e-12)
    root = math.sqrt(3)
    value = -4 * 0.5 * (math.log(1 / (1 + root)) + math.log(root / (1 + root)))
    assert soft_cross_entropy(student, teacher, 2.0).item() == pytest.approx(value, abs=1e-12)
    assert grouped(student, teacher, [(0,), (0, 1)]).item() == pytest.approx(-0.25 * math.log(3 / 16), abs=1e-12), "one unit costs nothing"


def test_the_gradient_is_that_of_finite_differences():
    draw = torch.Generator().manual_seed(0)
    teacher, student = torch.randn(3, 4, generator=draw, dtype=DOUBLE), torch.randn(3, 4, generator=draw, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: grouped(s, teacher, [None, (1, 3)], 2.0), student)


def test_units_that_the_batch_rules_out_are_still_distilled():
    """In the task setting the new batches may use the new units only; the old head is kept all the same."""
    active = torch.tensor([False, False, True, True, True]).expand(8, -1)
    train = [(x, y % 3 + 2, active) for x, y in batches(3, 2)]

    def masked(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]).masked_fill(~batch[2], -1e4), batch[1])

    def moved(method):
        model = net()
        run(method, model, Task("new", train * 10, earlier_heads=((0, 1),)), 30, loss=masked)
        with torch.no_grad():
            return (model(train[0][0])[:, :2].softmax(-1) - net()(train[0][0])[:, :2].softmax(-1)).abs().mean()

    assert moved(LwF(strength=3.0)) < 0.5 * moved(LwF(strength=0.0))


def test_the_first_task_is_plain_unless_old_data_is_given():
    task = Task("first", batches(4, 2), earlier_heads=())
    plain, first, kept = net(), net(), net()
    run(LwF(strength=0.0), plain, task, 4)
    session = run(LwF(), first, task, 4)
    run(LwF(), kept, Task("first", batches(4, 2), batches(2, 3), earlier_heads=()), 4)
    assert same(plain, first) and session.method.teacher == {} and not same(plain, kept)


def test_balanced_strength_is_the_number_of_earlier_tasks():
    one, two = net(), net()
    run(LwF(strength=3.0), one, Task("fourth", batches(4, 2), index=3), 4)
    run(LwF(strength="balanced"), two, Task("fourth", batches(4, 2), index=3), 4)
    assert same(one, two)


def test_a_language_model_is_distilled_on_its_labelled_positions():
    model, train = language_model(), language_batches(3, 1)
    old = copy.deepcopy(model).eval()
    with torch.no_grad():
        model.lm_head.weight.add_(0.1 * torch.randn(model.lm_head.weight.shape, generator=torch.Generator().manual_seed(0)))
    method, task = LwF(), Task("new", train)
    session = attach(method, model, torch.optim.SGD(model.parameters(), lr=0.1), task, language_loss).start()
    method.teacher = {k: v.detach().clone() for k, v in [*old.named_parameters(), *old.named_buffers()]}
    batch = train[0]
    value = method.loss(session.ctx, batch, None)
    rows = (batch["labels"][:, 1:] != -100).nonzero().tolist()
    with torch.no_grad():
        outputs = [m(**batch).logits for m in (old, model)]
        twin = distilled(*[torch.stack([logits[i, t] for i, t in rows]) for logits in outputs], [range(outputs[0].shape[-1])], 2.0)
    assert value.item() == pytest.approx(twin.item(), rel=1e-5)
    session.close()


def test_the_teacher_of_a_model_with_frozen_weights_holds_the_trainable_only():
    model = net()
    model[0].requires_grad_(False)
    session = run(LwF(), model, Task("new", batches(4, 2)), 4)
    assert set(session.method.teacher) == {"2.weight", "2.bias"}
    assert torch.equal(model[0].weight, net()[0].weight) and torch.equal(session.method.teacher["2.weight"], net()[2].weight)


def test_dropout_and_batch_norm_are_off_in_the_teacher_and_untouched_by_it():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.5), torch.nn.Linear(6, 5))
    twin = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(LwF(), model, optimizer, Task("new", batches(3, 2)), loss_fn) as session:
        for x, y in session.ctx.task.train:
            state = torch.get_rng_state()
            out = model(x)
            after = torch.get_rng_state()
            running = model[1].running_mean.clone()
            session.method.loss(session.ctx, (x, y), out)
            assert torch.equal(after, torch.get_rng_state()) and torch.equal(running, model[1].running_mean) and model.training
            torch.set_rng_state(state)
        assert torch.equal(session.method.teacher["1.running_mean"], twin[1].running_mean)


@pytest.mark.parametrize("option", [{"strength": -1}, {"strength": math.nan}, {"strength": True}, {"temperature": 0}, {"strength": "all"}])
def test_nonsense_is_refused_by_name(option):
    with pytest.raises(InputError, match=rf"^lwf\.{next(iter(option))}: "):
        LwF(**option)
