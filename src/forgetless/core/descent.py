"""Which optimizers' steps a method may take upon itself, instead of filtering what the optimizer did."""

from __future__ import annotations

from math import isfinite
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from forgetless.core.context import Context, Tree
from forgetless.ops import compiled, descent, fused
from forgetless.ops.descent import Descent
from forgetless.ops.fused import WHOLE


@runtime_checkable
class Descends(Protocol):
    """A method that can take an optimizer's step upon itself, to the same effect as filtering it."""

    def descend(self, ctx: Context, parameters: Tree, step: Descent) -> bool:
        """Move ``parameters`` as `Method.update` would after the step, and the step's memory as the optimizer would.

        The gradients are in ``ctx``; the step's tensors are in the order of ``parameters``. False: nothing was done.
        """
        ...


def take_steps(method: Descends, ctx: Context, names: dict[nn.Parameter, str]) -> dict[nn.Parameter, str]:
    """Let ``method`` take the optimizer's step on the parameters ``names`` where it can; gives those still to be stepped."""
    left, optimizer = dict(names), ctx.optimizer
    for group in optimizer.param_groups:
        own = [p for p in group["params"] if p.grad is not None and p in left]
        if not _fit(*own, *(p.grad for p in own if p.grad is not None)):
            own = [p for p in own if p.grad is not None and _fit(p, p.grad)]
        for some in _alike(optimizer, group, own):
            step = _descent(optimizer, group, some)
            if step is None:
                continue
            called: Tree = {left[parameter]: parameter for parameter in some}
            ctx.gradients = {name: p.grad for name, p in called.items() if p.grad is not None}
            if method.descend(ctx, called, step):
                for parameter in some:
                    del left[parameter]
                for parameter in some if isinstance(step, descent.Adam) else ():
                    optimizer.state[parameter]["step"] += 1
    ctx.gradients = {}
    return left


def _alike(optimizer: Optimizer, group: dict[str, Any], parameters: list[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Those parameters of a group whose memory exists, together where they have taken equally many steps."""
    kind = type(optimizer)
    if kind is SGD:
        have = [p for p in parameters if not group["momentum"] or _fits(optimizer, p, "momentum_buffer")]
        return [have] if have else []
    if kind in (Adam, AdamW):
        counts: dict[float, list[nn.Parameter]] = {}
        for parameter in parameters:
            if (parameter.numel() % WHOLE == 0 or not group["fused"]) and _fits(optimizer, parameter, "exp_avg", "exp_avg_sq"):
                counts.setdefault(float(optimizer.state[parameter]["step"]), []).append(parameter)
        return list(counts.values())
    return []


def _fit(*tensors: Tensor) -> bool:
    return fused.fit(*tensors) or compiled.fit(*tensors)


def _fits(optimizer: Optimizer, parameter: nn.Parameter, *names: str) -> bool:
    kept = [optimizer.state.get(parameter, {}).get(name) for name in names]
    return all(isinstance(tensor, Tensor) and _fit(tensor) for tensor in kept)


def _descent(optimizer: Optimizer, group: dict[str, Any], parameters: list[nn.Parameter]) -> Descent | None:
    """What the optimizer does to these parameters, if it is a `Descent` and no more; else None."""
    rate = group["lr"]
    if not isinstance(rate, float) or not isfinite(rate) or group["maximize"] or group["differentiable"]:
        return None
    if type(optimizer) is SGD:
        decay = group["weight_decay"]
        if group["fused"] or not all(isinstance(group[name], int | float) for name in ("weight_decay", "momentum", "dampening")):
            return None
        if not group["momentum"]:
            return descent.Plain(rate, decay)
        velocities = [optimizer.state[parameter]["momentum_buffer"] for parameter in parameters]
        return descent.Momentum(rate, group["momentum"], group["dampening"], velocities, decay, group["nesterov"])
    scaled = any(getattr(optimizer, name, None) is not None for name in ("grad_scale", "found_inf"))
    numbers = (*group["betas"], group["eps"], group["weight_decay"])
    if scaled or group["amsgrad"] or group["capturable"] or not all(isinstance(number, int | float) for number in numbers):
        return None
    state = [optimizer.state[parameter] for parameter in parameters]
    means, squares = [kept["exp_avg"] for kept in state], [kept["exp_avg_sq"] for kept in state]
    decoupled = bool(group.get("decoupled_weight_decay", type(optimizer) is AdamW))
    taken = float(state[0]["step"]) + 1
    kind = descent.FusedAdam if group["fused"] else descent.Adam
    return kind(rate, group["betas"], group["eps"], group["weight_decay"], decoupled, taken, means, squares)
