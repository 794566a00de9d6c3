import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from forgetless.errors import ProtectionError
from forgetless.ops import quadratic


def draws(*shape, seed, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def test_a_pinned_value_and_its_gradient():
    weight = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    anchor, importance = {"w": torch.tensor([0.0, -1.0, 3.0])}, {"w": torch.tensor([2.0, 4.0, 8.0])}
    value = quadratic.penalty({"w": weight}, anchor, importance, 0.5)
    assert value.item() == 3.0  # (2 * 1 + 4 * 1 + 8 * 0) / 2
    value.backward()
    assert weight.grad.tolist() == [2.0, -4.0, 0.0]
    assert quadratic.pull(weight, anchor["w"], importance["w"], 0.5).tolist() == [2.0, -4.0, 0.0]
    assert quadratic.pull(weight, anchor["w"], None, 0.5).tolist() == [1.0, -1.0, 0.0]


def test_the_gradient_is_what_autograd_gives():
    weight = {"w": draws(3, 4, seed=0).requires_grad_(), "v": draws(5, seed=1).requires_grad_()}
    anchor = {name: draws(*tensor.shape, seed=2) for name, tensor in weight.items()}
    matters = {name: draws(*tensor.shape, seed=3).square() for name, tensor in weight.items()}
    plain = 0.7 * sum((matters[name] * (weight[name] - anchor[name]) ** 2).sum() for name in weight)
    ours = quadratic.penalty(weight, anchor, matters, 0.7)
    torch.testing.assert_close(ours, plain, rtol=1e-14, atol=0)
    for a, b in zip(torch.autograd.grad(3 * ours, weight.values()), torch.autograd.grad(3 * plain, weight.values()), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-14, atol=0)


def test_half_precision_is_summed_wide_and_its_gradient_keeps_its_type():
    weight = torch.zeros(4096, dtype=torch.bfloat16, requires_grad=True)
    anchor = quadratic.copies({"w": weight})
    anchor["w"] -= 0.01
    value = quadratic.penalty({"w": weight}, anchor, None, 1.0)
    assert anchor["w"].dtype == value.dtype == torch.float32
    assert value.item() == pytest.approx(0.4096, rel=1e-5)
    (grad,) = torch.autograd.grad(value, [weight])
    assert grad.dtype == torch.bfloat16


def test_what_has_no_anchor_is_not_penalised_and_what_has_grown_is_refused():
    weight = torch.ones(2, requires_grad=True)
    assert quadratic.penalty({"new": weight}, {"w": torch.zeros(2)}, None, 1.0) is None
    with pytest.raises(ProtectionError, match="'w' has the shape"):
        quadratic.penalty({"w": weight}, {"w": torch.zeros(3)}, None, 1.0)


def test_a_copy_of_a_transposed_weight_is_contiguous_and_its_own_memory():
    weight = torch.arange(6.0).view(2, 3).t()
    copy = quadratic.copies({"w": weight})["w"]
    assert copy.is_contiguous() and torch.equal(copy, weight) and copy.data_ptr() != weight.data_ptr()


@given(st.integers(0, 10_000), st.integers(1, 6))
def test_many_penalties_folded_into_one_are_the_same_function(seed, tasks):
    anchors = [draws(7, seed=seed + k) for k in range(tasks)]
    matters = [draws(7, seed=seed + 100 + k).clamp(min=0) for k in range(tasks)]  # about half are exactly zero
    anchor, importance = anchors[0].clone(), matters[0].clone()
    constant = sum(float(quadratic.fold(anchor, importance, t, f)) for t, f in zip(anchors[1:], matters[1:], strict=True))
    weight = draws(7, seed=seed + 999).requires_grad_()
    apart = sum((f * (weight - t) ** 2).sum() for t, f in zip(anchors, matters, strict=True))
    folded = (importance * (weight - anchor) ** 2).sum() + constant
    torch.testing.assert_close(folded, apart, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(*(torch.autograd.grad(f, [weight])[0] for f in (folded, apart)), rtol=1e-10, atol=1e-12)
