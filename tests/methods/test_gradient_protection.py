import math

import pytest
import torch

from forgetless.core.method import Chain
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.ewc import EWC
from forgetless.methods.gradient_protection import GradientProtection
from forgetless.methods.plain import Plain
from forgetless.methods.replay import Replay
from nets import batches, loss_fn, net, same
from tiny import make_tiny_model

TRAIN = batches(6, seed=2, dtype=torch.float64)


def run(method, model, steps, *, train=TRAIN, rate=0.5):
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    reports = []
    with attach(method, model, optimizer, Task("new", train, last=True), loss_fn) as session:
        for step in range(steps):
            batch = train[step % len(train)]
            session.total(loss_fn(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            reports.append(session.metrics)
    return reports


def twin(model, steps, statistic, history, threshold, rate=0.5):
    """The definition with lists and python loops: every gradient kept, the variance of the last ones, one number at a time."""
    past = [[] for _ in model.parameters()]
    for step in range(steps):
        grads = torch.autograd.grad(loss_fn(model, TRAIN[step % len(TRAIN)]), list(model.parameters()))
        for parameter, grad, kept in zip(model.parameters(), grads, past, strict=True):
            kept.append(grad.flatten().tolist())
            window = kept[-history:]
            scaled = grad.flatten().tolist()
            for j in range(len(scaled)):
                line = [math.hypot(*g) for g in window] if statistic == "norm" else [g[j] for g in window]
                if len(line) < 2:
                    continue
                mean = sum(line) / len(line)
                importance = 1 / (1 + math.exp(-sum((value - mean) ** 2 for value in line) / (len(line) - 1)))
                if importance > threshold:
                    scaled[j] *= 1 - importance
            with torch.no_grad():
                parameter -= rate * torch.tensor(scaled, dtype=parameter.dtype).view_as(parameter)


@pytest.mark.parametrize("statistic", ["norm", "element"])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.5005])
def test_equals_the_definition_written_out(statistic, threshold):
    model, slow = net(dtype=torch.float64), net(dtype=torch.float64)
    run(GradientProtection(statistic=statistic, history=4, threshold=threshold), model, 7)
    twin(slow, 7, statistic, 4, threshold)
    for a, b in zip(model.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    assert not same(model, net(dtype=torch.float64))


def scaled(method, values):
    """The gradients that come out for one weight whose gradients are ``values``."""
    model = torch.nn.Linear(1, 1, bias=False).double()
    found = []
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with attach(method, model, optimizer, Task("one", [0], last=True), lambda m, b: m.weight.sum()):
        for value in values:
            (model.weight.sum() * value).backward()
            before = model.weight.item()
            optimizer.step()
            found.append(before - model.weight.item())
            optimizer.zero_grad()
    return found


def test_pinned_the_variance_of_3_and_5_is_2_and_its_sigmoid_0_8808():
    assert scaled(GradientProtection(), [3.0, 5.0]) == pytest.approx([3.0, 5.0 * 0.11920292202211755])
    assert scaled(GradientProtection(threshold=0.9), [3.0, 5.0]) == pytest.approx([3.0, 5.0])
    assert scaled(GradientProtection(history=2), [9.0, 3.0, 5.0])[2] == pytest.approx(5.0 * 0.11920292202211755), "9 is forgotten"


def test_the_norm_does_not_see_the_sign_and_the_element_does():
    assert scaled(GradientProtection(), [2.0, -2.0]) == pytest.approx([2.0, -2.0])
    assert scaled(GradientProtection(statistic="element"), [2.0, -2.0]) == pytest.approx([2.0, -2.0 / (1 + math.exp(8))])


def test_a_gradient_that_never_varies_passes_at_the_default_and_is_halved_below_it():
    assert scaled(GradientProtection(), [1.0, 1.0, 1.0]) == pytest.approx([1.0, 1.0, 1.0])
    assert scaled(GradientProtection(threshold=0.4), [1.0, 1.0, 1.0]) == pytest.approx([1.0, 0.5, 0.5])


def test_a_threshold_above_every_importance_is_plain_training_bit_for_bit():
    protected, plain = net(dtype=torch.float64), net(dtype=torch.float64)
    reports = run(GradientProtection(threshold=0.999), protected, 5)
    run(Plain(), plain, 5)
    assert same(protected, plain)
    assert reports[0] == {} and reports[1]["protected_fraction"] == 0.0
    assert run(GradientProtection(), net(dtype=torch.float64), 2)[1]["protected_fraction"] == 1.0


def test_the_history_is_bounded_and_its_default_is_one_number_a_tensor_and_step():
    method = GradientProtection(history=3)
    run(method, net(), 8, train=batches(6, seed=2))
    assert all(entries.shape == (3,) for entries in method.entries.values()) and set(method.seen.values()) == {8}
    whole = GradientProtection(statistic="element", history=3)
    run(whole, net(), 8, train=batches(6, seed=2))
    assert {name: tuple(entries.shape[1:]) for name, entries in whole.entries.items()} == {
        name: tuple(parameter.shape) for name, parameter in net().named_parameters()
    }


def test_frozen_parameters_have_no_history_and_stand_still():
    model = net()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    method = GradientProtection()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train = batches(3, seed=2)
    with attach(method, model, optimizer, Task("new", train, last=True), loss_fn):
        for batch in train:
            loss_fn(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert "0.weight" not in method.entries and torch.equal(model[0].weight, before)


def test_the_classic_protected_step_scales_the_summed_gradient_of_replay_and_ewc():
    """replay >> ewc >> gradient-protection over two tasks: with nothing above the threshold it is replay >> ewc bit for bit."""

    def stream(*last):
        model, method = net(), Chain(Replay(), EWC(), *last)
        for index in range(2):
            train = batches(4, 2 + index)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            with attach(method, model, optimizer, Task(f"task {index}", train, index=index, last=index == 1), loss_fn) as session:
                for batch in train:
                    out = model(batch[0])
                    session.total(torch.nn.functional.cross_entropy(out, batch[1]), batch, out).backward()
                    optimizer.step()
                    optimizer.zero_grad()
        return model, session.metrics.get("protected_fraction")

    (plain, none), (open_, few), (held, all_) = stream(), stream(GradientProtection(threshold=0.99)), stream(GradientProtection())
    assert same(plain, open_) and not same(plain, held)
    assert (none, few, all_) == (None, 0.0, 1.0)


def test_a_language_model_with_tied_weights_learns_under_it(tmp_path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    batch = {"input_ids": torch.arange(24).reshape(2, 12), "labels": torch.arange(24).reshape(2, 12)}
    loss = lambda m, b: m(**b).loss  # noqa: E731
    optimizer, method = torch.optim.AdamW(model.parameters(), lr=3e-3), GradientProtection()
    first = loss(model, batch).item()
    with attach(method, model, optimizer, Task("text", [batch], last=True), loss) as session:
        for _ in range(5):
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert loss(model, batch).item() < first
    assert set(method.entries) == {name for name, _ in model.named_parameters()}


@pytest.mark.parametrize(
    "options",
    [{"statistic": "median"}, {"history": 1}, {"history": True}, {"threshold": 1.0}, {"threshold": -0.1}, {"threshold": float("nan")}],
)
def test_nonsense_is_refused_by_name(options):
    with pytest.raises(InputError, match=f"gradient-protection.{next(iter(options))}"):
        GradientProtection(**options)
