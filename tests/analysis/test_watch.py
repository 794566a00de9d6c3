"""A watched model: every figure against plain sums, and nothing of the training touched."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from forgetless.analysis.circuit import circuit, corrupted_pairs, stability
from forgetless.analysis.passes import mean_loss
from forgetless.analysis.places import Place
from forgetless.analysis.steadiness import FLAPPING, REFRESHES, Steadiness
from forgetless.analysis.watch import Watch
from forgetless.errors import InputError
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net

SAMPLES = {"inject": language_batches(2, 1, size=3), "retain": language_batches(1, 2, size=4)}


def moved(model: nn.Module, size: float = 0.05) -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))


def test_an_epoch_tells_kl_movement_and_circuit_against_the_start() -> None:
    model = language_model()
    start = copy.deepcopy(model).eval()
    watch = Watch(model, SAMPLES, language_loss)
    still = watch.epoch()
    assert still["kl"]["inject"]["forward"]["mean"] == 0 and set(still["moved"].values()) == {0.0} and still["circuit"] == pytest.approx(1)
    moved(model)
    found = watch.epoch()
    by_hand: dict[str, list[float]] = {"forward": [], "reverse": []}
    for batch in SAMPLES["inject"]:
        inputs = {key: batch[key] for key in ("input_ids", "attention_mask")}
        p, q = (one.eval()(**inputs).logits.detach().double().log_softmax(-1) for one in (start, copy.deepcopy(model)))
        for row, labels in enumerate(batch["labels"]):
            places = [at - 1 for at in range(1, len(labels)) if labels[at] != -100]
            for way, (a, b) in (("forward", (p, q)), ("reverse", (q, p))):
                by_hand[way].append(sum(float((a[row, at].exp() * (a[row, at] - b[row, at])).sum()) for at in places) / len(places))
    for way, values in by_hand.items():
        assert found["kl"]["inject"][way]["mean"] == pytest.approx(sum(values) / len(values), rel=1e-4)
        assert found["kl"]["inject"][way]["n"] == 6 and found["kl"]["retain"][way]["n"] == 4
    own = [
        (a.detach(), b.detach())
        for (name, a), (_, b) in zip(model.named_parameters(), start.named_parameters(), strict=True)
        if ".layers.0." in name
    ]
    change, norm = sum(float(((a - b) ** 2).sum()) for a, b in own), sum(float((b**2).sum()) for _, b in own)
    assert found["moved"]["0"] == pytest.approx(math.sqrt(change / norm), rel=1e-4) and set(found["moved"]) == {"0", "outside"}
    pairs = corrupted_pairs(SAMPLES["retain"])
    assert found["circuit"] == stability(circuit(start, language_loss, pairs), circuit(model, language_loss, pairs))


def test_a_steps_predicted_change_is_the_gradient_times_its_real_movement() -> None:
    model = net(dtype=torch.float64)
    retain = batches(2, 1, torch.float64)
    watch = Watch(model, {"retain": retain}, loss_fn, first_order=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    for batch in batches(3, 2, torch.float64):
        before = copy.deepcopy(model)
        watch.step_begins()
        loss_fn(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        found = watch.step_ended()
        total = sum(loss_fn(before, one) for one in retain) / 2
        grads = torch.autograd.grad(total, list(before.parameters()))
        wanted = sum(
            float((g * (a.detach() - b.detach())).sum()) for g, a, b in zip(grads, model.parameters(), before.parameters(), strict=True)
        )
        assert found["predicted"] == pytest.approx(wanted, rel=1e-6)
        assert found["real"] == pytest.approx(mean_loss(model, loss_fn, retain) - total.item())
        assert found["real"] == pytest.approx(found["predicted"], rel=0.05)
    assert "circuit" not in watch.epoch(), "no transformer: no circuit"
    with pytest.raises(InputError, match="no retain set"):
        Watch(model, {"inject": retain}, loss_fn, first_order=True)


def test_watching_changes_no_weight_and_no_random_number() -> None:
    finals = []
    for watched in (False, True):
        torch.manual_seed(0)
        model = language_model().train()
        model.config.attention_dropout = 0.1
        watch = Watch(model, SAMPLES, language_loss, first_order=True) if watched else None
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for batch in language_batches(3, 5):
            if watch:
                watch.step_begins()
            language_loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            if watch:
                assert set(watch.step_ended()) == {"predicted", "real"}
                watch.epoch()
        assert model.training
        finals.append([*(p.detach().clone() for p in model.parameters()), torch.get_rng_state()])
    assert all(torch.equal(a, b) for a, b in zip(*finals, strict=True))


PLACES, SIZES = {"a": Place(0, "MLP"), "b": Place(0, "MLP"), "c": Place(None, "norm")}, {"a": 100, "b": 300, "c": 7}


def refreshed(share: float) -> dict[str, Any]:
    return {"sign_flips": share, "sign_flips_by_layer": {"a": share, "b": 0.0, "c": 1.0}, "conflicting_fraction": 0.5}


def test_flips_are_told_by_layer_and_flapping_warns_after_three_refreshes() -> None:
    steady = Steadiness(PLACES, SIZES)
    for _ in range(REFRESHES - 1):
        told = refreshed(FLAPPING)
        steady.step(1.0, told)
        assert "sign_flips_by_layer" not in told and told["sign_flips"] == FLAPPING
    assert steady.epoch() == {"flips": {"0": pytest.approx(FLAPPING / 4), "outside": 1.0}}
    steady.step(0.5, refreshed(FLAPPING))
    (warning,) = steady.epoch()["warnings"]
    assert warning.startswith("mask flapping: 30%")
    for _ in range(REFRESHES):
        steady.step(0.2, refreshed(0.1))
    assert "warnings" not in steady.epoch()


def test_stagnation_warns_where_the_loss_stands_still_and_few_weights_are_free() -> None:
    def second(loss: float, held: float) -> list[str]:
        steady = Steadiness(PLACES, SIZES)
        steady.step(1.0, {"conflicting_fraction": held})
        assert steady.epoch() == {}, "the first epoch has none to be compared with"
        again = Steadiness(PLACES, SIZES)
        again.load_state_dict(steady.state_dict())
        again.step(loss, {"conflicting_fraction": held})
        return list(again.epoch().get("warnings", []))

    assert second(0.999, 0.5)[0].startswith("stagnation")
    assert second(0.9, 0.5) == [] and second(1.2, 0.1) == []
