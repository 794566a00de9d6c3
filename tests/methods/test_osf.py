import copy

import pytest
import torch
from peft import OSFConfig, inject_adapter_in_model
from torch import nn
from transformers import AutoModelForCausalLM

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.osf import OSF
from forgetless.modules import adapters, subspace
from forgetless.ops.subspace import Factors, Subspace, protected_share
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net

DOUBLE = torch.float64


def run(method, model, task, loss=loss_fn, make=torch.optim.SGD, lr=0.05, **options):
    model = method.prepare(model, task)
    optimizer = make([p for p in model.parameters() if p.requires_grad], lr=lr)
    shares = []
    with attach(method, model, optimizer, task, loss, **options) as session:
        for batch in task.train:
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            shares.append(session.metrics["osf_protected_share"])
    return session, shares


def weights_of(model):
    """The effective weights of the linear layers, by merging a copy."""
    return {name: p.detach() for name, p in adapters.unload(copy.deepcopy(model)).named_parameters() if p.ndim == 2}


def share_of(old, new, preserved=0.5):
    """The share of the change in the protected subspaces, from the definition."""
    u, _, v = torch.linalg.svd(old.double(), full_matrices=False)
    kept = int(min(old.shape) * preserved)
    change = new.double() - old.double()
    left, right = u[:, :kept].T @ change, change @ v[:kept].T
    return float((left.square().sum() + right.square().sum()) / change.square().sum())


def test_equals_projected_gradient_descent_on_the_singular_factors():
    model, task = net(dtype=DOUBLE), Task("one", batches(8, 2, DOUBLE))
    twin = dict(copy.deepcopy(model).named_parameters())
    factors = {}
    for layer in ("0", "2"):
        u, s, v = torch.linalg.svd(twin[f"{layer}.weight"].detach(), full_matrices=False)
        kept = len(s) // 2
        high = (u[:, :kept] * s[:kept]) @ v[:kept]
        factors[layer] = (high, u[:, :kept], v[:kept], [part.clone().requires_grad_() for part in (u[:, kept:], s[kept:], v[kept:])])
    for x, y in task.train:
        now = {layer: high + (low[0] * low[1]) @ low[2] for layer, (high, _, _, low) in factors.items()}
        logits = torch.tanh(x @ now["0"].T + twin["0.bias"]) @ now["2"].T + twin["2.bias"]
        flat = [part for entry in factors.values() for part in entry[3]]
        grads = iter(torch.autograd.grad(nn.functional.cross_entropy(logits, y), flat))
        for _, u_high, v_high, low in factors.values():
            du, ds, dv = next(grads), next(grads), next(grads)
            low[0].data -= 0.2 * (du - u_high @ (u_high.T @ du))
            low[1].data -= 0.2 * ds
            low[2].data -= 0.2 * (dv - (dv @ v_high.T) @ v_high)
    session, _ = run(OSF(), model, task, lr=0.2)
    mine = weights_of(session.ctx.model)
    for layer, (high, _, _, low) in factors.items():
        theirs = (high + (low[0] * low[1]) @ low[2]).detach()
        assert float((theirs - twin[f"{layer}.weight"]).detach().abs().max()) > 1e-3
        torch.testing.assert_close(mine[f"{layer}.weight"], theirs, rtol=0, atol=1e-6)  # PEFT decomposes in fp32


def test_pinned_value():
    model = nn.Sequential(nn.Linear(2, 2, bias=False))
    model[0].weight.data = torch.tensor([[4.0, 0.0], [0.0, 1.0]])
    task = Task("one", [torch.ones(1, 2)])
    session, _ = run(OSF(), model, task, lambda m, x: m(x)[0, 1] ** 2 / 2, lr=0.1)
    found = weights_of(session.ctx.model)["0.weight"]
    torch.testing.assert_close(found, torch.tensor([[4.0, 0.0], [0.0, 0.9**3]]))  # u, s and v each go from 1 to 0.9


@pytest.mark.parametrize("kind", ["classifier", "language model"])
@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_the_change_stays_out_of_the_protected_subspace_under_any_optimizer(kind, make):
    model, train, loss = (
        (net(), batches(10, 2), loss_fn) if kind == "classifier" else (language_model(), language_batches(5, 1), language_loss)
    )
    lr = 0.3 if make is torch.optim.SGD else 0.01
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    session, shares = run(OSF(), model, Task("one", train), loss, make, lr)
    assert len(shares) == len(train) and 0 < max(shares) <= 1e-6
    assert 0 < session.constraint_violation <= 1e-6
    names = {name.removesuffix(".base_layer.weight") for name, _ in session.ctx.model.named_parameters() if "base_layer.weight" in name}
    new = weights_of(session.ctx.model)
    assert names and all(share_of(old[f"{name}.weight"], new[f"{name}.weight"]) <= 1e-6 for name in names)


def test_peft_alone_leaves_the_allowed_subspace_under_adamw_and_the_measure_sees_it():
    model = net()
    old = {name: p.detach().clone() for name, p in model.named_parameters()}
    inject_adapter_in_model(OSFConfig(effective_rank=0.5, target_modules=["0", "2"]), model, "osf")
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for batch in batches(10, 2):
        loss_fn(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
    new = weights_of(model)
    assert min(share_of(old[name], new[name]) for name in ("0.weight", "2.weight")) > 1e-3
    u, _, v = torch.linalg.svd(old["2.weight"], full_matrices=False)
    factors = model[2].osf_svd_params["osf"]
    now = Factors(*(factors[key].detach() for key in ("U_low", "S_low", "V_low")))
    sides = Subspace(u[:, :2]), Subspace(v[:2].T.contiguous())
    start = Factors(model[2]._osf_U_low_init["osf"], model[2]._osf_S_low_init["osf"], model[2]._osf_V_low_init["osf"])
    exact = protected_share(now, start, *sides)
    assert exact == pytest.approx(share_of(old["2.weight"], new["2.weight"]), rel=1e-2)
    assert exact / 4 < protected_share(now, start, *sides, directions=4) < exact * 4


def test_both_ways_to_name_a_subspace_agree():
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)))
    vectors = torch.randn(6, 3, dtype=DOUBLE)
    spanned, told = Subspace(basis[:, :2]), Subspace(basis[:, 2:], complement=True)
    torch.testing.assert_close(spanned.part(vectors), told.part(vectors))
    torch.testing.assert_close(spanned.rest(vectors), told.rest(vectors))
    torch.testing.assert_close(spanned.part(vectors) + spanned.rest(vectors), vectors)


def test_a_measured_leak_is_reported():
    method, task = OSF(), Task("one", batches(3, 2))
    model = method.prepare(net(), task)
    for _, layer in adapters.layers(model):
        assert subspace.share(layer, "osf") == 0.0
        layer.osf_svd_params["osf"].parametrizations["U_low"][0].forward = lambda matrix: matrix  # as if nothing held it
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    with attach(method, model, optimizer, task, loss_fn) as session:
        session.total(loss_fn(model, task.train[0])).backward()
        optimizer.step()
    assert session.metrics["osf_protected_share"] > 1e-3 and session.constraint_violation > 1e-3


def test_tensors_stepped_in_pieces_give_the_same_bits():
    task = Task("one", batches(6, 2))
    whole, shares = run(OSF(), net(), task, make=torch.optim.AdamW, lr=0.01)
    pieces, found = run(OSF(), net(), task, make=torch.optim.AdamW, lr=0.01, chunk_bytes=64)
    for one, other in zip(whole.ctx.model.parameters(), pieces.ctx.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert shares == found and whole.constraint_violation == pieces.constraint_violation


def test_a_copied_model_keeps_its_constraint():
    method, task = OSF(), Task("one", batches(6, 2))
    model = copy.deepcopy(method.prepare(net(), task))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    for batch in task.train:  # no session at all
        loss_fn(model, batch).backward()
        optimizer.step()
    old, new = dict(net().named_parameters()), weights_of(model)
    assert all(share_of(old[name].detach(), new[name]) <= 1e-6 for name in new)


def test_all_but_the_small_directions_is_frozen():
    model = net()
    frozen = {name: p.detach().clone() for name, p in model.named_parameters()}
    session, _ = run(OSF(), model, Task("one", batches(4, 2)), make=torch.optim.AdamW)
    after = {name.replace("base_layer.", ""): p for name, p in session.ctx.model.named_parameters()}
    assert all(torch.equal(after[name], p) for name, p in frozen.items())
    assert {name.split(".")[1] for name in session.ctx.parameters} == {"osf_svd_params"}


def test_the_next_task_protects_what_the_last_one_made():
    method = OSF()
    first, _ = run(method, net(), Task("one", batches(6, 2)), make=torch.optim.AdamW, lr=0.02)
    x = batches(1, 9)[0][0]
    before, middle = first.ctx.model(x).detach(), weights_of(first.ctx.model)
    second = method.prepare(first.ctx.model, Task("two", batches(6, 3), index=1))
    torch.testing.assert_close(second(x), before, rtol=0, atol=1e-5)
    session, _ = run(method, second, Task("two", batches(6, 3), index=1), make=torch.optim.AdamW, lr=0.02)
    new = weights_of(session.ctx.model)
    assert all(share_of(middle[name], new[name]) <= 1e-6 for name in new)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (DOUBLE, 1e-13), (torch.bfloat16, 0.05)])
def test_the_exported_model_is_plain_and_agrees(dtype, tolerance):
    method = OSF()
    session, shares = run(method, net(dtype=dtype), Task("one", batches(5, 2, dtype)), make=torch.optim.AdamW, lr=0.02)
    assert max(shares) <= 1e-6  # in half precision too: the factors are projected in fp32
    x = batches(1, 9, dtype)[0][0]
    before = session.ctx.model(x).detach()
    plain = method.export(session.ctx.model)
    assert list(plain.state_dict()) == list(net().state_dict()) and {p.dtype for p in plain.parameters()} == {dtype}
    torch.testing.assert_close(plain(x).detach(), before, rtol=0, atol=tolerance * float(before.abs().max()))


def test_an_exported_language_model_loads_by_from_pretrained(tmp_path):
    method, task = OSF(preserved=0.25), Task("one", language_batches(3, 1))
    session, _ = run(method, language_model(), task, language_loss, torch.optim.AdamW, 0.01)
    assert not [name for name in session.ctx.parameters if "lm_head" in name or "embed" in name]
    model = session.ctx.model.eval()
    ids = task.train[0]["input_ids"]
    before = model(input_ids=ids).logits.detach()
    method.export(model).save_pretrained(tmp_path)
    loaded, found = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True, dtype=torch.float32)
    assert not found["missing_keys"] and not found["unexpected_keys"]
    torch.testing.assert_close(loaded(input_ids=ids).logits, before, rtol=0, atol=1e-5)


@pytest.mark.real
def test_the_real_model_takes_two_steps_within_its_constraint(smollm):
    model = copy.deepcopy(smollm.model).train()
    tokens = smollm.tokenizer(["LHR is London Heathrow", "CDG is Paris Charles"], return_tensors="pt", padding=True)
    batch = {**tokens, "labels": tokens["input_ids"]}
    method = OSF(target="v_proj")
    session, shares = run(method, model, Task("air", [batch] * 2), lambda m, b: m(**b).loss, torch.optim.AdamW, 1e-4)
    assert len(session.ctx.parameters) == 3 * 30 and 0 < max(shares) <= 1e-6 and session.constraint_violation <= 1e-6
    assert method.export(session.ctx.model).state_dict().keys() == smollm.model.state_dict().keys()


def test_a_layer_too_thin_to_protect_a_direction_is_left_alone():
    model = OSF().prepare(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), Task("one", []))
    assert {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad} == {"0"}
    with pytest.raises(InputError, match="no layer has a direction to protect"):
        OSF().prepare(nn.Sequential(nn.Linear(4, 1)), Task("one", []))


@pytest.mark.parametrize(
    ("option", "value"),
    [("preserved", value) for value in (0, 1.0, -0.5, True, float("nan"), "half")] + [("target", value) for value in ((), 3, ("a", 1))],
)
def test_nonsense_options_are_refused_by_name(option, value):
    with pytest.raises(InputError, match=rf"osf\.{option}: .* is not allowed"):
        OSF(**{option: value})
