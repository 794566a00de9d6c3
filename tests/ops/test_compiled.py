"""The kernels for accelerators, made for a processor: the same code by the same compiler, to other instructions."""

import warnings

import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.methods.cpl import CPL
from forgetless.ops import compiled, fused
from forgetless.ops.packing import STRIPE, pack_codes

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
}


@pytest.fixture
def here(monkeypatch):
    """Kernels on the processor, and no loops."""
    monkeypatch.setattr(compiled, "KINDS", ("cpu",))
    monkeypatch.setattr(fused, "loops", lambda: None)
    compiled.kernels.cache_clear()
    torch.compiler.reset()  # what is made anew for every test counts as made too often
    yield
    compiled.kernels.cache_clear()


def trained(optimizer, steps=6, **options):
    """A network under CPL after some steps: one tensor of several stripes and a rest, and small ones."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(192, 200), nn.Tanh(), nn.Linear(200, 5))
    draw = torch.Generator().manual_seed(1)
    data = [(torch.randn(8, 192, generator=draw), torch.randint(0, 5, (8,), generator=draw)) for _ in range(steps)]

    def loss_fn(model, batch):
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    made = OPTIMIZERS[optimizer](model.parameters())
    shares = []
    with attach(CPL(**options), model, made, Task("new", data, data[::-1][:2]), loss_fn) as session:
        for batch in data:
            session.total(loss_fn(model, batch), batch).backward()
            made.step()
            made.zero_grad()
            shares.append(session.metrics["conflicting_fraction"])
    return model, made, shares


@pytest.mark.parametrize("options", [{"refresh": 2}, {"refresh": "task", "mask": "fixed"}], ids=["dynamic", "fixed"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_kernels_step_as_torchs_operations_do(here, monkeypatch, optimizer, options):
    calls = []
    real = compiled.descend
    monkeypatch.setattr(compiled, "descend", lambda *given: calls.append(1) or real(*given))
    model, made, shares = trained(optimizer, **options)
    assert calls, "the kernels took the steps"
    monkeypatch.setattr(compiled, "KINDS", ())
    calls.clear()
    twin, other, expected = trained(optimizer, **options)
    assert not calls and shares == pytest.approx(expected, abs=1e-4)
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        for name, kept in other.state[two].items():
            torch.testing.assert_close(made.state[one][name], kept, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("numel", [5, STRIPE, 3 * STRIPE, 2 * STRIPE + 1, 5 * STRIPE + 777])
def test_what_is_held_back_does_not_move_by_a_bit_and_all_of_it_is_counted(here, numel):
    draw = torch.Generator().manual_seed(numel)
    codes = torch.randint(-2, 2, (numel,), generator=draw, dtype=torch.int8)
    gradient, weight = torch.randn(2, numel, generator=draw).unbind()
    gradient[::3], weight[::4] = 0.0, -0.0
    gradient[1::7] = float("nan")  # disagrees with nothing
    before, held = weight.clone(), (codes == -2) | (codes * gradient < 0)
    count = compiled.descend(pack_codes(codes), gradient, weight, compiled.Plain(0.1), 0)
    assert int(count) == int(held.sum())
    assert torch.equal(weight[held].view(torch.int32), before[held].view(torch.int32))
    torch.testing.assert_close(weight[~held], (before - 0.1 * gradient)[~held], equal_nan=True)


def test_one_kernel_serves_all_sizes(here):
    from torch._dynamo.utils import counters

    assert compiled.kernels("cpu") is not None
    for stripes in (1, 2, 3, 16, 1024):
        numel = stripes * STRIPE + stripes % 2
        gradient, weight = torch.ones(2, numel).unbind()
        if stripes == 2:
            made = counters["stats"]["unique_graphs"]
        assert int(compiled.descend(pack_codes(-gradient), gradient, weight, compiled.Plain(0.1), 0)) == numel
    assert counters["stats"]["unique_graphs"] <= made + 1


def test_without_a_compiler_torch_takes_the_steps_and_says_so(here, monkeypatch):
    def broken(*_, **__):
        def fail(*_, **__):
            raise RuntimeError("no compiler")

        return fail

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="no compiled kernels on cpu.*no compiler"):
        model, _, _ = trained("adamw", refresh=2)
    monkeypatch.setattr(compiled, "KINDS", ())
    twin, _, _ = trained("adamw", refresh=2)
    assert all(torch.equal(one, two) for one, two in zip(model.parameters(), twin.parameters(), strict=True))


def test_a_kernel_that_is_wrong_is_not_used(here, monkeypatch):
    def everything(held, g, f, w):
        w.copy_(w + f[0] * g)

    monkeypatch.setitem(compiled._STEPS, compiled.Plain, everything)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="no compiled kernels")  # it was made, and found to be wrong
        assert compiled.kernels("cpu") is None


def test_it_can_be_switched_off(here, monkeypatch):
    monkeypatch.setenv("FORGETLESS_COMPILE", "0")
    assert compiled.kernels("cpu") is None
