"""Conflict against a twin that keeps every example's whole gradient in float64."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from forgetless.analysis.conflict import conflict
from forgetless.analysis.passes import consuming, parts, trainable
from forgetless.analysis.taylor import direction, slopes_of
from forgetless.core.predictions import Predictions
from forgetless.errors import InputError
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net

Grads = dict[str, Tensor]


def gradient(model: nn.Module, loss: Any, data: list[Any]) -> Grads:
    """The gradient of the mean loss over examples, in float64, by plain autograd."""
    wide = copy.deepcopy(model).double().eval()
    sizes = [Predictions().size(batch) for batch in data]
    total = sum(size * loss(wide, widened(batch)) for size, batch in zip(sizes, data, strict=True)) / sum(sizes)
    named = dict(wide.named_parameters())
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True)
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)}


def widened(batch: Any) -> Any:
    return batch if isinstance(batch, dict) else (batch[0].double(), batch[1])


def product(one: Grads, other: Grads) -> float:
    return float(sum((one[name] * other[name]).sum() for name in one))


def single(data: list[Any]) -> list[Any]:
    return [example for batch in data for example in Predictions().examples(batch)]


CASES = {
    "classifier": (lambda: net(), loss_fn, {"a": batches(2, 1, size=4), "b": batches(1, 2, size=3)}, single(batches(1, 3, size=6))),
    "language": (
        lambda: language_model(),
        language_loss,
        {"a": language_batches(1, 1, size=3), "b": language_batches(1, 5, size=2)},
        single(language_batches(1, 3, size=5)),
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    make, loss, retain, inject = CASES[request.param]
    return make(), loss, retain, inject


def test_every_quantity_is_that_of_whole_gradients(case: Any) -> None:
    model, loss, retain, inject = case
    found = conflict(model, loss, retain, inject)
    groups = {name: gradient(model, loss, data) for name, data in retain.items()}
    g_m = gradient(model, loss, [batch for data in retain.values() for batch in data])
    each = [gradient(model, loss, [batch]) for batch in inject]
    g_i = {name: sum(one[name] for one in each) / len(each) for name in g_m}
    assert found.similarity == pytest.approx(product(g_m, g_i), rel=1e-4, abs=1e-9)
    norms = product(g_m, g_m) ** 0.5, product(g_i, g_i) ** 0.5
    assert (found.norm_retain, found.norm_inject) == pytest.approx(norms, rel=1e-5)
    assert found.cosine == pytest.approx(product(g_m, g_i) / norms[0] / norms[1], rel=1e-4)
    scale = norms[0] * max(float(norm) for norm in found.norms)
    assert found.inner.tolist() == pytest.approx([product(g_m, one) for one in each], abs=1e-5 * scale)
    assert found.norms.tolist() == pytest.approx([product(one, one) ** 0.5 for one in each], rel=1e-5)
    assert found.losses.tolist() == pytest.approx([loss(copy.deepcopy(model).eval(), batch).item() for batch in inject], rel=1e-6)
    wanted = [[product(tree, one) for tree in groups.values()] for one in each]
    torch.testing.assert_close(found.by_group, torch.tensor(wanted, dtype=torch.float64), atol=1e-5 * scale, rtol=1e-4)
    lengths = [product(tree, tree) ** 0.5 for tree in groups.values()]
    assert float(found.group_cosines[0, 1]) == pytest.approx(wanted[0][1] / lengths[1] / float(found.norms[0]), abs=1e-5)
    for column, tensor in enumerate(found.tensors):
        s = g_m[tensor.name] * g_i[tensor.name]
        doubtful = int((s.abs() < 1e-6 * s.abs().max()).sum())  # where float32 may tell the sign wrongly
        assert abs(tensor.conflicting - int((s < 0).sum())) <= doubtful
        assert tensor.inner == pytest.approx(float(s.sum()), abs=1e-5 * float(s.abs().sum()) + 1e-12)
        assert tensor.size == pytest.approx(float(s.abs().sum()), rel=1e-4, abs=1e-12)
        own = [float((g_m[tensor.name] * one[tensor.name]).sum()) for one in each]
        assert found.by_tensor[:, column].tolist() == pytest.approx(own, abs=1e-5 * scale)
    assert found.whole.numel == sum(p.numel() for p in model.parameters()) == found.sketch.total
    assert found.whole.inner == pytest.approx(found.similarity)
    assert sum(row.conflicting for row in found.by_layer()) == sum(row.conflicting for row in found.by_kind()) == found.whole.conflicting


def test_little_memory_gives_the_same(case: Any) -> None:
    model, loss, retain, inject = case
    whole, cut = conflict(model, loss, retain, inject), conflict(model, loss, retain, inject, hold_bytes=1)
    assert len(list(parts(trainable(model), 2, 1))) == len(whole.tensors) > 1
    torch.testing.assert_close(cut.by_tensor, whole.by_tensor)
    torch.testing.assert_close(cut.by_group, whole.by_group)
    assert [(one.name, one.numel, one.conflicting, one.zero) for one in cut.tensors] == [
        (one.name, one.numel, one.conflicting, one.zero) for one in whole.tensors
    ]
    assert [one.inner for one in cut.tensors] == pytest.approx([one.inner for one in whole.tensors], rel=1e-4, abs=1e-9)
    assert cut.whole.conflicting == whole.whole.conflicting


def test_some_tensors_alone_are_what_they_are_among_all(case: Any) -> None:
    model, loss, retain, inject = case
    names = [name for name, _ in model.named_parameters()][-2:]
    whole, some = conflict(model, loss, retain, inject), conflict(model, loss, retain, inject, tensors=names)
    torch.testing.assert_close(some.inner, whole.within(names))
    with pytest.raises(InputError, match="no trainable parameter"):
        conflict(model, loss, retain, inject, tensors=["absent"])


def test_products_along_adams_step_are_those_of_its_direction() -> None:
    model, retain, inject = net(), batches(2, 1), single(batches(1, 3))
    plain, found = conflict(model, loss_fn, {"a": retain}, inject), conflict(model, loss_fn, {"a": retain}, inject, step="adamw")
    assert found.inner.tolist() == pytest.approx(slopes_of(model, loss_fn, retain, inject, step="adamw"), rel=1e-5, abs=1e-9)
    assert plain.inner.tolist() == pytest.approx(slopes_of(model, loss_fn, retain, inject), rel=1e-5, abs=1e-9)
    assert (found.similarity, found.whole) == (plain.similarity, plain.whole) and found.inner.tolist() != plain.inner.tolist()
    lengths = [direction(torch.cat([g.flatten() for g in gradient(model, loss_fn, [one]).values()]), "adamw").norm() for one in inject]
    assert found.norms.tolist() == pytest.approx([float(length) for length in lengths], rel=1e-4)


def test_batches_of_several_weigh_by_their_examples() -> None:
    model, joined = net(), batches(2, 3, size=6)
    joined[1] = (joined[1][0][:2], joined[1][1][:2])
    one, other = (conflict(model, loss_fn, {"a": batches(1, 1)}, data) for data in (joined, single(joined)))
    assert one.similarity == pytest.approx(other.similarity, rel=1e-5)
    assert one.whole.conflicting == other.whole.conflicting


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(net(), nn.Dropout(0.5)).train()
    model[0][0].bias.requires_grad_(False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    before, state = copy.deepcopy(model), torch.get_rng_state()
    found = conflict(model, loss_fn, {"a": batches(1, 1)}, single(batches(1, 3)), hold_bytes=1)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before.parameters(), strict=True))
    assert [p.requires_grad for p in model.parameters()] == [p.requires_grad for p in before.parameters()]
    assert all(torch.equal(p.grad, torch.ones_like(p)) for p in model.parameters() if p.requires_grad)
    assert model[1].training and torch.equal(state, torch.get_rng_state())
    assert "0.0.bias" not in [tensor.name for tensor in found.tensors]


def test_gradients_are_freed_one_by_one() -> None:
    model = language_model()
    looked = trainable(model)
    alive: list[int] = []

    def visit(name: str, grad: Tensor) -> None:
        alive.append(sum(parameter.grad is not None for parameter in looked.values()))

    with consuming(looked, visit):
        language_loss(model, language_batches(1, 1)[0]).backward()
    assert len(alive) == len(looked) > 5 and max(alive) == 1
    assert all(parameter.grad is None for parameter in looked.values())


def test_the_prediction_is_what_a_small_step_does() -> None:
    model = net(dtype=torch.float64)
    retain, inject = batches(2, 1, torch.float64), single(batches(1, 3, torch.float64))
    predicted = conflict(model, loss_fn, {"a": retain}, inject).predicted(1e-6)
    before = sum(loss_fn(model, batch).item() for batch in retain) / 2
    for index, batch in enumerate(inject):
        moved = copy.deepcopy(model)
        loss_fn(moved, batch).backward()
        torch.optim.SGD(moved.parameters(), lr=1e-6).step()
        change = sum(loss_fn(moved, one).item() for one in retain) / 2 - before
        assert float(predicted[index]) == pytest.approx(change, rel=1e-4)


def test_what_cannot_be_compared_is_refused() -> None:
    model, good = net(), batches(1, 1)
    with pytest.raises(InputError, match=r"retain.*no example"):
        conflict(model, loss_fn, {}, good)
    with pytest.raises(InputError, match=r"inject.*no example"):
        conflict(model, loss_fn, {"a": good}, [])
    with pytest.raises(InputError, match=r"retain 'b'.*no example"):
        conflict(model, loss_fn, {"a": good, "b": []}, good)
    with pytest.raises(InputError, match="hold_bytes"):
        conflict(model, loss_fn, {"a": good}, good, hold_bytes=0)
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="not a finite number"):
        conflict(model, loss_fn, {"a": good}, good)
