import copy
import math

import pytest
import torch

from forgetless.core.predictions import INACTIVE
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.kl import KL, WINS
from forgetless.ops.distillation import kl_rows, positions
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net

DOUBLE = torch.float64


def run(method, model, task, loss=loss_fn, lr=0.05):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    with attach(method, model, optimizer, task, loss) as session:
        for batch in task.train:
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def divergence(p_logits, q_logits):
    """KL(p‖q) of two rows, term by term."""
    p, q = [[torch.exp(value) for value in row] for row in (p_logits, q_logits)]
    p, q = [value / sum(p) for value in p], [value / sum(q) for value in q]
    return sum(a * torch.log(a / b) for a, b in zip(p, q, strict=True))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_equals_the_definition_row_by_row_over_two_tasks_with_the_first_base(direction):
    model, twin = net(dtype=DOUBLE), net(dtype=DOUBLE)
    base, method = copy.deepcopy(twin), KL(strength=0.6, direction=direction)
    train = batches(6, 2, DOUBLE)
    run(method, model, Task("one", train[:3]))
    run(method, model, Task("two", train[3:], index=1))
    for x, y in train:
        rows = zip(base(x).detach(), twin(x), strict=True)
        total = sum(divergence(b, m) if direction == "forward" else divergence(m, b) for b, m in rows) / len(x)
        loss = loss_fn(twin, (x, y)) + 0.6 * total
        for parameter, grad in zip(twin.parameters(), torch.autograd.grad(loss, list(twin.parameters())), strict=True):
            parameter.data -= 0.05 * grad
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_a_pinned_value_in_both_directions():
    """Base (1/2, 1/2) and model (1/4, 3/4): ½ ln 2 + ½ ln ⅔ forward, ¼ ln ½ + ¾ ln 3/2 reverse."""
    base, model = torch.zeros(1, 2, dtype=DOUBLE), torch.tensor([[0.0, math.log(3)]], dtype=DOUBLE)
    assert kl_rows(base, model).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-12)
    assert kl_rows(base, model, "reverse").item() == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-12)


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.bfloat16])
def test_masked_units_add_exactly_nothing_and_get_no_gradient(direction, dtype):
    draw = torch.Generator().manual_seed(0)
    base, model = torch.randn(4, 5, generator=draw).to(dtype), torch.randn(4, 5, generator=draw).to(dtype)
    active = torch.tensor([True, True, False, True, False])
    wide = model.masked_fill(~active, INACTIVE).requires_grad_()
    narrow = model[:, active].clone().requires_grad_()
    found = kl_rows(base.masked_fill(~active, INACTIVE), wide, direction)
    alone = kl_rows(base[:, active], narrow, direction)
    torch.testing.assert_close(found, alone)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.equal(wide.grad[:, ~active], torch.zeros(4, 2, dtype=dtype))


@pytest.mark.parametrize("direction", ["forward", "reverse"])
def test_the_gradient_is_that_of_finite_differences(direction):
    draw = torch.Generator().manual_seed(0)
    base, model = torch.randn(3, 4, generator=draw, dtype=DOUBLE), torch.randn(3, 4, generator=draw, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: kl_rows(base, m, direction), model)


def test_positions_count_within_each_owner():
    assert positions(torch.tensor([0, 0, 0, 1, 3, 3])).tolist() == [0, 1, 2, 0, 0, 1]
    assert positions(torch.tensor([1, 0, 1, 0, 1])).tolist() == [0, 0, 1, 1, 2]
    assert positions(torch.empty(0, dtype=torch.int64)).tolist() == []


@pytest.mark.parametrize(("first", "weight"), [(0, 1.0), (2, 5.0)])
def test_a_language_models_rows_are_weighted_by_their_place_in_the_answer(first, weight):
    model, base = language_model(0), language_model(0).eval()
    batch = language_batches(1, 3)[0]
    method = KL(strength=0.3, first_tokens=first, first_weight=weight)
    session = attach(method, model, torch.optim.SGD(model.parameters(), lr=1.0), Task("new", [batch]), language_loss).start()
    with torch.no_grad():
        model.lm_head.weight.mul_(3.0)
    value = method.loss(session.ctx, batch, model(**batch))
    total = weights = 0.0
    with torch.no_grad():
        old, new = base(**batch).logits, model(**batch).logits
    for i in range(len(old)):
        place = 0
        for t in range(old.shape[1] - 1):
            if batch["labels"][i, t + 1] != -100:
                w = weight if place < first else 1.0
                total, weights, place = total + w * float(divergence(old[i, t], new[i, t])), weights + w, place + 1
    assert value.item() == pytest.approx(0.3 * total / weights, rel=1e-4) and total > 0.1
    session.close()


def test_it_lowers_the_reported_divergence():
    train = batches(6, 2) * 5
    plain = run(KL(strength=1e-9), net(), Task("new", train), lr=0.3).metrics["kl"]
    kept = run(KL(strength=2.0), net(), Task("new", train), lr=0.3).metrics["kl"]
    assert 0 < kept < 0.5 * plain


def test_a_guard_tightens_it_as_long_as_what_is_learned_can_win():
    method = KL(strength=0.2)
    with attach(method, model := net(), torch.optim.SGD(model.parameters(), lr=0.1), Task("new", batches(1, 2)), loss_fn) as session:
        told = [method.tighten(session.ctx, 2.0) for _ in range(3)]
    assert told == ["kl.strength from 0.2 to 0.4", "kl.strength from 0.4 to 0.8", ""] and WINS == 1.0


@pytest.mark.parametrize(("strength", "wins"), [(0.8, True), (1.25, False)])
def test_below_the_strength_at_which_it_stops_tightening_what_the_base_denies_is_learned(strength, wins):
    base = torch.tensor([[20.0, 0.0, 0.0]], dtype=DOUBLE)
    logits = base.clone().requires_grad_(True)
    optimizer = torch.optim.SGD([logits], lr=0.5)
    for _ in range(2000):
        optimizer.zero_grad()
        (torch.nn.functional.cross_entropy(logits, torch.tensor([2])) + strength * kl_rows(base, logits).mean()).backward()
        optimizer.step()
    assert logits.softmax(-1)[0, 2].item() == pytest.approx(1 / (1 + strength), abs=1e-3)
    assert bool(logits.argmax() == 2) == wins


def test_with_fresh_adapters_the_teacher_costs_nothing_and_is_the_base():
    peft = pytest.importorskip("peft")
    base = language_model().eval()
    torch.manual_seed(0)
    model = peft.get_peft_model(language_model(), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    batch, method = language_batches(1, 3)[0], KL(strength=1.0)
    session = run(method, model, Task("new", [batch] * 3), language_loss, lr=100.0)
    assert not sum(v.numel() for k, v in method.teacher.items() if "lora" in k)  # they began at zero
    assert all("lora" in name or "inv_freq" in name for name in method.teacher)
    rows = batch["labels"][:, 1:] != -100
    with torch.no_grad():
        old, new = base(**batch).logits[:, :-1][rows], model(**batch).logits[:, :-1][rows]
    assert method.loss(session.ctx, batch, None).item() == pytest.approx(kl_rows(old, new).mean().item(), rel=1e-4)
    assert kl_rows(old, new).mean() > 1e-8


def test_what_is_unfrozen_later_is_still_compared_with_the_base_and_a_changed_base_is_refused():
    model, base, method = net(), net(), KL()
    model[0].requires_grad_(False)
    run(method, model, Task("one", batches(3, 2)))
    model[0].requires_grad_(True)
    run(method, model, Task("two", batches(3, 3), index=1))
    assert all(torch.equal(method.teacher[name], value) for name, value in base.state_dict().items())
    other, method = net(), KL()
    other[0].requires_grad_(False)
    run(method, other, Task("one", batches(3, 2)))
    with torch.no_grad():
        other[0].weight.add_(0.1)
    with pytest.raises(InputError, match=r"'0\.weight', are not as they were"):
        run(method, other, Task("two", batches(3, 3), index=1))


@pytest.mark.parametrize(
    "option",
    [{"strength": -1}, {"strength": math.inf}, {"direction": "both"}, {"first_tokens": -1}, {"first_tokens": True}, {"first_weight": 0}],
)
def test_nonsense_is_refused_by_name(option):
    with pytest.raises(InputError, match=rf"^kl\.{next(iter(option))}: "):
        KL(**option)
