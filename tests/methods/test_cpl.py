import pytest
import torch

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods import CPL, Plain
from forgetless.ops import packing
from nets import batches, loss_fn, net, same

TRAIN, RETAIN = batches(10, seed=2), batches(4, seed=3)


def reference_of(model, retain=RETAIN):
    """fp32 reference: the mean of the retain batches' gradients."""
    model.zero_grad()
    sum(loss_fn(model, batch) for batch in retain).div(len(retain)).backward()
    found = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    return found


def run(method, model, optimizer, steps, *, chunk_bytes=1 << 28, train=TRAIN):
    with attach(method, model, optimizer, Task("new", train, RETAIN), loss_fn, chunk_bytes=chunk_bytes) as session:
        for step in range(steps):
            batch = train[step % len(train)]
            session.total(loss_fn(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


@pytest.mark.parametrize("method", [CPL(refresh=1), Plain() >> CPL(refresh=1)], ids=["alone", "in a chain"])
def test_sgd_is_the_papers_rule_bit_for_bit(method):
    """θ ← θ − η·1[g(M)·g(I) ≥ 0]⊙g(I), with the reference taken anew at every step, for 20 steps.

    In torch's own arithmetic for θ − η·x, which rounds once (a fused multiply-add), as torch.optim.SGD does. Alone, CPL takes
    the steps of plain SGD upon itself; in a chain, and where it audits itself, it filters what the optimizer did.
    """
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    run(method, model, optimizer, 20)
    for step in range(20):
        reference = reference_of(twin)
        gradients = torch.autograd.grad(loss_fn(twin, TRAIN[step % 10]), list(twin.parameters()))
        with torch.no_grad():
            for parameter, g_new, g_old in zip(twin.parameters(), gradients, reference, strict=True):
                parameter.add_((g_old * g_new >= 0) * g_new, alpha=-0.05)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert not same(model, net())


@pytest.mark.parametrize("options", [{}, {"confidence": 0.6}, {"mask": "fixed"}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["plain", "momentum", "adamw"])
def test_steps_alone_and_filtered_are_the_same(options, dtype, kind):
    """Weights, moments, counters, gradients left behind and metrics, whichever way a step is taken."""

    def wide(dtype):  # the compiled step of AdamW takes tensors of whole vectors; the last bias is none
        torch.manual_seed(1)
        return torch.nn.Sequential(torch.nn.Linear(7, 64), torch.nn.Tanh(), torch.nn.Linear(64, 5)).to(dtype)

    make_optimizer = {
        "plain": lambda parameters: torch.optim.SGD(parameters, lr=0.05),
        "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9, dampening=0.1),
        "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.05, fused=True),
    }[kind]
    results = []
    train, retain = batches(10, 2, dtype), batches(4, 3, dtype)
    for make in (CPL, lambda **options: Plain() >> CPL(**options)):
        model = wide(dtype)
        optimizer = make_optimizer(model.parameters())
        seen = []
        with attach(make(**options), model, optimizer, Task("new", train, retain), loss_fn) as session:
            for batch in train:
                optimizer.zero_grad()
                session.total(loss_fn(model, batch), batch).backward()
                optimizer.step()
                moved = [value.clone() for state in optimizer.state.values() for value in state.values() if value is not None]
                seen.append((session.metrics, [parameter.grad.clone() for parameter in model.parameters()] + moved))
        assert session.constraint_violation == 0.0
        results.append((model, seen))
    (first, one), (second, two) = results
    assert same(first, second) and not same(first, wide(dtype))
    for (mine, gradients), (theirs, others) in zip(one, two, strict=True):
        assert mine == theirs and mine["conflicting_fraction"] > 0
        assert all(torch.equal(a, b) for a, b in zip(gradients, others, strict=True))


OPTIMIZERS = [
    (torch.optim.SGD, {}),
    (torch.optim.SGD, {"maximize": True}),
    (torch.optim.SGD, {"weight_decay": 0.1}),
    (torch.optim.SGD, {"fused": True}),
    (torch.optim.SGD, {"momentum": 0.9}),
    (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"amsgrad": True}),
    (torch.optim.AdamW, {"weight_decay": 0.1}),
    (torch.optim.AdamW, {"weight_decay": 0.1, "fused": True}),
    (torch.optim.AdamW, {"weight_decay": 0.1, "foreach": True}),
    (torch.optim.RMSprop, {}),
    (torch.optim.Adagrad, {}),
    (torch.optim.NAdam, {}),
    (torch.optim.RAdam, {}),
    (torch.optim.Adamax, {}),
    (torch.optim.Adadelta, {}),
    (torch.optim.Rprop, {}),
    (torch.optim.ASGD, {}),
    (torch.optim.Adafactor, {}),
]


@pytest.mark.parametrize("chunk_bytes", [1 << 28, 600, 1])
@pytest.mark.parametrize(("kind", "options"), OPTIMIZERS)
def test_masks_the_effective_update_of_any_optimizer(kind, options, chunk_bytes):
    """Moments from the unmasked gradient, the whole effective step masked; whatever the chunks."""
    model, twin = net(), net()
    run(CPL(refresh=2), model, own := kind(model.parameters(), lr=0.01, **options), 20, chunk_bytes=chunk_bytes)
    optimizer = kind(twin.parameters(), lr=0.01, **options)
    for step in range(20):
        if step % 2 == 0:
            reference = reference_of(twin)
        optimizer.zero_grad()
        loss_fn(twin, TRAIN[step % 10]).backward()
        before = [parameter.detach().clone() for parameter in twin.parameters()]
        optimizer.step()
        with torch.no_grad():
            for parameter, old, g_old in zip(twin.parameters(), before, reference, strict=True):
                parameter.copy_(torch.where(g_old * parameter.grad >= 0, parameter, old))
    assert same(model, twin)
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert own.state[mine].keys() == optimizer.state[theirs].keys()
        for key, value in optimizer.state[theirs].items():
            assert torch.equal(torch.as_tensor(own.state[mine][key]), torch.as_tensor(value)), key


def test_pinned_step_by_hand():
    """g(M) = (1, -1, 0, -1), g(I) = (2, 2, 2, -2), η = 0.1: only the second weight is in conflict."""
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    old, new = torch.tensor([1.0, -1, 0, -1]), torch.tensor([2.0, 2, 2, -2])
    with attach(CPL(), model, optimizer, Task("new", [new], [old]), lambda m, b: (m.w * b).sum()) as session:
        session.total((model.w * new).sum()).backward()
        optimizer.step()
    torch.testing.assert_close(model.w.detach(), torch.tensor([0.8, 1.0, 0.8, 1.2]), rtol=0, atol=1e-7)
    assert session.metrics["conflicting_fraction"] == 0.25


def test_a_fixed_mask_freezes_the_conflicting_weights_for_50_adamw_steps():
    model, start = net(), net()
    reference = reference_of(start)
    start.zero_grad()
    sum(loss_fn(start, batch) for batch in TRAIN).div(len(TRAIN)).backward()
    inject = [parameter.grad for parameter in start.parameters()]
    method = CPL(mask="fixed")
    session = run(method, model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1), 50)
    share = 0
    for (name, now), old, g_old, g_new in zip(model.named_parameters(), start.parameters(), reference, inject, strict=True):
        frozen = g_old * g_new < 0
        share += int(frozen.sum())
        assert torch.equal(method.frozen(name, now.shape), frozen)
        assert torch.equal(now[frozen], old[frozen])
        assert (now[~frozen] != old[~frozen]).all()
    assert share > 20
    assert session.constraint_violation == 0.0


def test_a_zero_reference_counts_as_collaborative():
    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(4, 3)

    torch.manual_seed(0)
    model = Two()
    start = model.table.weight.detach().clone()
    task = Task("rows", [torch.tensor([0, 1])], [torch.tensor([2])])  # the retain set never touches rows 0 and 1
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(CPL(), model, optimizer, task, lambda m, b: m.table(b).pow(2).sum()) as session:
        session.total(model.table(torch.tensor([0, 1])).pow(2).sum()).backward()
        optimizer.step()
    assert (model.table.weight[:2] != start[:2]).all()
    assert session.metrics["conflicting_fraction"] == 0


def test_gradient_level_masks_the_gradient_only():
    model, twin = net(), net()
    run(CPL(level="gradient", refresh="task"), model, torch.optim.AdamW(model.parameters(), lr=0.01), 12)
    optimizer, reference = torch.optim.AdamW(twin.parameters(), lr=0.01), reference_of(twin)
    for step in range(12):
        optimizer.zero_grad()
        loss_fn(twin, TRAIN[step % 10]).backward()
        for parameter, g_old in zip(twin.parameters(), reference, strict=True):
            parameter.grad *= (g_old * parameter.grad) >= 0
        optimizer.step()
    assert same(model, twin)


def test_epoch_refresh_follows_the_length_of_the_inject_set():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    refreshed = []
    with attach(CPL(refresh="epoch"), model, optimizer, Task("new", TRAIN[:3], RETAIN), loss_fn) as session:
        for step in range(9):
            batch = TRAIN[step % 3]
            session.total(loss_fn(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            refreshed.append("refresh" in session.metrics)
    assert refreshed == [False, False, False, True, False, False, True, False, False]


def test_streaming_is_the_sign_of_a_running_mean():
    model, twin = net(), net()
    method = CPL(refresh="streaming", decay=0.5)
    run(method, model, torch.optim.SGD(model.parameters(), lr=0.05), 7)
    mean = None
    for step in range(7):
        new = reference_of(twin, [RETAIN[step % 4]])
        mean = new if mean is None else [old.lerp(part, 0.5) for old, part in zip(mean, new, strict=True)]
        gradients = torch.autograd.grad(loss_fn(twin, TRAIN[step]), list(twin.parameters()))
        with torch.no_grad():
            for parameter, g_new, g_old in zip(twin.parameters(), gradients, mean, strict=True):
                parameter.add_(torch.where(g_old * g_new >= 0, g_new, 0), alpha=-0.05)
    assert same(model, twin)


def test_confidence_freezes_weights_whose_retain_sign_is_not_consistent():
    model, start = net(), net()
    method = CPL(refresh="task", confidence=0.6)
    run(method, model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1), 5)
    each = [reference_of(start, [batch]) for batch in RETAIN]
    for index, (name, now) in enumerate(model.named_parameters()):
        votes = torch.stack([found[index].sign() for found in each])
        wavering = votes.sum(0).abs() < 0.6 * votes.abs().sum(0)
        assert torch.equal(method.frozen(name, now.shape), wavering)
        assert wavering.any()
        assert torch.equal(now[wavering], dict(start.named_parameters())[name][wavering])


def test_retain_batches_are_taken_in_turn():
    seen = []

    def spy(model, batch):
        seen.append(next(index for index, known in enumerate(RETAIN) if known is batch))
        return loss_fn(model, batch)

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with attach(CPL(refresh=1, retain_batches=3), model, optimizer, Task("new", TRAIN, RETAIN), spy) as session:
        for step in range(3):
            session.total(loss_fn(model, TRAIN[step])).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert seen == [0, 1, 2, 3, 0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"refresh": "task"}, [4, 2, None]),
        ({"refresh": "epoch"}, [4, 2, None]),
        ({"refresh": 9}, [4, 2, None]),
        ({"refresh": 3}, [2, None]),
        ({"refresh": 2}, [None]),
        ({"refresh": "streaming"}, [None]),
        ({"mask": "fixed"}, [None]),
    ],
)
def test_a_guard_tightens_it_to_a_reference_every_second_step_and_at_once(options, told):
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    method = CPL(**options)
    with attach(method, model, optimizer, Task("new", TRAIN, RETAIN), loss_fn) as session:
        for steps in told:
            assert method.tighten(session.ctx, 2.0) == (f"cpl refreshes every {steps} steps" if steps else "")
            refreshed = []
            for batch in TRAIN[:3]:
                session.total(loss_fn(model, batch)).backward()
                optimizer.step()
                optimizer.zero_grad()
                refreshed.append("refresh" in session.metrics)
            if steps:
                assert refreshed == [True, False, steps == 2], "at the next step, then every so many"


def test_reports_conflict_in_all_and_by_layer_and_the_flips():
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    method = CPL(refresh=1)
    with attach(method, model, optimizer, Task("new", TRAIN, RETAIN), loss_fn) as session:
        for step in range(2):
            first = {name: packed.clone() for name, packed in method.reference.items()}
            expected = [reference_of(twin), torch.autograd.grad(loss_fn(twin, TRAIN[step]), list(twin.parameters()))]
            session.total(loss_fn(model, TRAIN[step])).backward()
            optimizer.step()
            optimizer.zero_grad()
            twin.load_state_dict(model.state_dict())
    conflict = [(a * b < 0) for a, b in zip(*expected, strict=True)]
    total = sum(part.numel() for part in conflict)
    assert session.metrics["conflicting_fraction"] == pytest.approx(sum(int(part.sum()) for part in conflict) / total)
    layers = session.metrics["conflicting_by_layer"]
    assert list(layers) == [name for name, _ in model.named_parameters()]
    assert layers["0.weight"] == pytest.approx(float(conflict[0].float().mean()))
    flipped = sum(
        int((packing.unpack(first[name], 0, p.numel()) * packing.unpack(method.reference[name], 0, p.numel()) == -1).sum())
        for name, p in model.named_parameters()
    )
    assert session.metrics["sign_flips"] == pytest.approx(flipped / total) and flipped


def test_the_reference_takes_a_quarter_of_a_byte_a_weight():
    model = torch.nn.Linear(1000, 1000)
    task = Task("new", [torch.randn(2, 1000)], [torch.randn(2, 1000)])
    method = CPL()
    with attach(method, model, torch.optim.SGD(model.parameters(), lr=0.1), task, lambda m, b: m(b).pow(2).mean()):
        held = sum(tensor.numel() * tensor.element_size() for tensor in method.reference.values())
    assert held <= 0.25 * sum(parameter.numel() for parameter in model.parameters()) + 2 * 4  # whole words


@pytest.mark.parametrize(
    "options",
    [
        {"level": "weights"},
        {"mask": "soft"},
        {"refresh": 0},
        {"refresh": "daily"},
        {"refresh": True},
        {"confidence": 1.0},
        {"confidence": float("nan")},
        {"retain_batches": 0},
        {"decay": 1.0},
        {"mask": "fixed", "refresh": 3},
        {"refresh": "streaming", "confidence": 0.5},
    ],
)
def test_refuses_nonsense(options):
    with pytest.raises(InputError, match=r"cpl\."):
        CPL(**options)


def test_needs_a_retain_set_with_something_in_it():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(InputError, match="needs a retain set"):
        attach(CPL(), model, optimizer, Task("new", TRAIN), loss_fn)
    for retain_batches in (None, 2):
        with pytest.raises(InputError, match="gives no batch"):
            attach(CPL(retain_batches=retain_batches), model, optimizer, Task("new", TRAIN, []), loss_fn).start()
        assert "step" not in vars(optimizer)  # the optimizer is as it was


def test_the_control_moves_half_of_the_weights_whatever_the_retain_set_says():
    def moved(seed, retain):
        torch.manual_seed(0)
        model = torch.nn.Linear(100, 100, bias=False)
        start, train = model.weight.detach().clone(), [(torch.randn(8, 100), torch.arange(8))]
        task = Task("new", train, [(torch.randn(8, 100, generator=retain), torch.arange(8))])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with attach(CPL(control=seed), model, optimizer, task, loss_fn) as session:
            session.total(loss_fn(model, train[0]), train[0]).backward()
            optimizer.step()
        return model.weight.detach() != start, session.metrics["conflicting_fraction"]

    one, share = moved(3, torch.Generator().manual_seed(1))
    other, _ = moved(3, torch.Generator().manual_seed(2))
    third, _ = moved(4, torch.Generator().manual_seed(1))
    assert torch.equal(one, other), "it does not ask the retain set"
    assert float(share) == pytest.approx(0.5, abs=0.02) and float((~one).float().mean()) == pytest.approx(float(share))  # sd 0.005
    assert float((one == third).float().mean()) == pytest.approx(0.5, abs=0.02)
    for options in ({"confidence": 0.5}, {"refresh": "streaming"}):
        with pytest.raises(InputError, match=r"cpl\.control"):
            CPL(control=0, **options)
