"""Predicted against real change, against copies of the model that real optimizers step."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from forgetless.analysis.refresh import sample, sign_turns
from forgetless.analysis.taylor import largest_trusted, slopes_of, taylor_curve
from forgetless.errors import InputError
from nets import batches, loss_fn, net, same

OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": lambda p, lr: torch.optim.AdamW(p, lr=lr, weight_decay=0.0)}
RETAIN, INJECT = batches(2, 1, torch.float64, size=5), batches(4, 3, torch.float64, size=1)


def mean(model: torch.nn.Module) -> float:
    return sum(loss_fn(model, batch).item() for batch in RETAIN) / len(RETAIN)


def moved(model: torch.nn.Module, batch: object, step: str, rate: float) -> torch.nn.Module:
    after = copy.deepcopy(model)
    loss_fn(after, batch).backward()
    OPTIMIZERS[step](after.parameters(), lr=rate).step()
    return after


@pytest.mark.parametrize("step", ["sgd", "adamw"])
def test_the_real_change_is_that_of_the_optimizers_first_step(step: str) -> None:
    model = net(dtype=torch.float64)
    before = copy.deepcopy(model)
    points = taylor_curve(model, loss_fn, RETAIN, INJECT, (1e-6, 1e-2), step=step)
    assert same(model, before) and all(parameter.grad is None for parameter in model.parameters())
    for point in points:
        real = [mean(moved(model, batch, step, point.rate)) - mean(model) for batch in INJECT]
        assert point.real == pytest.approx(real, rel=1e-6, abs=1e-14)
    small = points[0]
    assert small.predicted == pytest.approx(small.real, rel=1e-2)
    assert small.r2 > 0.999 and small.trusted and 0.9 < small.moved <= 1
    middle = sum(small.real) / 4
    told = sum((r - p) ** 2 for r, p in zip(small.real, small.predicted, strict=True)) / sum((r - middle) ** 2 for r in small.real)
    assert small.r2 == pytest.approx(1 - told)


def test_large_rates_are_not_trusted_and_steps_too_small_for_the_dtype_move_nothing() -> None:
    points = taylor_curve(net(dtype=torch.float64), loss_fn, RETAIN, INJECT, (1e-6, 1e-3, 100.0, 1e300))
    assert largest_trusted(points) == 1e-3
    assert not points[2].trusted and not points[3].trusted
    narrow = [(x.float(), y) for x, y in INJECT]
    lost = taylor_curve(net(), loss_fn, [(x.float(), y) for x, y in RETAIN], narrow, (1e-20,))[0]
    assert lost.moved < 0.01 and not lost.trusted
    overflowed = taylor_curve(net(), loss_fn, [(x.float(), y) for x, y in RETAIN], narrow, (1e38,))[0]
    assert overflowed.r2 is None and not overflowed.trusted and None in overflowed.to_dict()["real"]
    assert largest_trusted([lost]) is None


@pytest.mark.parametrize("step", ["sgd", "adamw"])
def test_the_slope_is_the_fall_of_the_loss_by_the_rate(step: str) -> None:
    model, rate = net(dtype=torch.float64), 1e-7
    falls = [(mean(model) - mean(moved(model, batch, step, rate))) / rate for batch in INJECT]
    assert slopes_of(model, loss_fn, RETAIN, INJECT, step=step) == pytest.approx(falls, rel=1e-3, abs=1e-5)


def test_signs_turned_are_counted_after_one_long_step() -> None:
    model = net(dtype=torch.float64)
    found = sign_turns(model, loss_fn, RETAIN, INJECT, 1e-2, steps=(1, 50))
    for count, share in found:
        after = copy.deepcopy(model)
        sum(loss_fn(after, batch) for batch in INJECT).div(len(INJECT)).backward()
        OPTIMIZERS["adamw"](after.parameters(), lr=count * 1e-2).step()
        signs = []
        for one in (model, after):
            grads = torch.autograd.grad(sum(loss_fn(one, batch) for batch in RETAIN), list(one.parameters()))
            signs.append(torch.cat([grad.flatten() for grad in grads]).sign())
        assert share == pytest.approx(float((signs[0] * signs[1] == -1).double().mean()))
    assert 0 < found[0][1] < found[1][1]


def test_of_large_models_an_eighth_of_the_signs_is_looked_at() -> None:
    model = torch.nn.ModuleList([torch.nn.Linear(4, 4, bias=False) for _ in range(40)])
    chosen = sample(model, most=100)
    assert chosen is not None and len(chosen) == 5 and len({int(name.split(".")[0]) // 10 for name in chosen}) > 2
    assert sample(model) is None
    assert sample(torch.nn.ModuleList([torch.nn.Linear(4, 4), torch.nn.Linear(2, 2)]), most=1) == ["1.bias"]


@pytest.mark.parametrize("rate", [0.0, -1e-3, math.nan, math.inf, True, "1e-3"])
def test_a_rate_that_is_none_is_refused(rate: object) -> None:
    with pytest.raises(InputError, match="rate"):
        taylor_curve(net(), loss_fn, RETAIN, INJECT, (rate,))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="rate"):
        sign_turns(net(), loss_fn, RETAIN, INJECT, rate)  # type: ignore[arg-type]


def test_nothing_to_try_is_refused() -> None:
    with pytest.raises(InputError, match="nothing to try"):
        taylor_curve(net(), loss_fn, RETAIN, [], (1e-3,))
    with pytest.raises(InputError, match="nothing to try"):
        taylor_curve(net(), loss_fn, RETAIN, INJECT, ())
    with pytest.raises(InputError, match="step"):
        taylor_curve(net(), loss_fn, RETAIN, INJECT, (1e-3,), step="magic")  # type: ignore[arg-type]
