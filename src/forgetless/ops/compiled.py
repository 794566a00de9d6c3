"""An optimizer's step, held back where signs disagree, in one pass on an accelerator: kernels that ``torch.compile`` makes.

What `fused` is on a processor. The arithmetic is torch's, but its operations are fused, so a result may differ in the last bits. The
kernels are made at first use, compared with torch's own optimizers, and left out where they differ or cannot be made.
``FORGETLESS_COMPILE=0`` leaves them out too.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from forgetless.ops.descent import Adam, Descent, FusedAdam, Momentum, Plain
from forgetless.ops.packing import FROZEN, STRIPE, WORDS, pack_codes, unpack

KINDS = ("cuda",)
"""Types of devices on which the kernels are used."""
CLOSE = 1e-6
"""The relative difference from torch's own step that fusing may make."""
Step = Callable[..., Tensor]


def fit(*tensors: Tensor) -> bool:
    """Whether the kernels can take these tensors: fp32, contiguous, on an accelerator of `KINDS`."""
    return all([t.dtype == torch.float32 and t.device.type in KINDS and t.is_contiguous() for t in tensors])


def descend(packed: Tensor, gradient: Tensor, weight: Tensor, descent: Descent, part: int) -> Tensor:
    """Step a whole tensor where its packed signs agree with the gradient, and all memory; gives how many weights were held back.

    For devices that have `kernels`.
    """
    kind, steps = Adam if isinstance(descent, Adam) else type(descent), kernels(weight.device.type)
    assert steps is not None
    return _run(steps[kind], _STEPS[kind], packed, gradient, weight, descent, part)


@cache
def kernels(kind: str) -> dict[type[Any], Step] | None:
    """The compiled step of each kind of descent on a type of device; None where there are none, or one goes wrong."""
    if os.environ.get("FORGETLESS_COMPILE") == "0":
        return None
    made: dict[type[Any], Step] = {one: torch.compile(_whole(step), dynamic=True) for one, step in _STEPS.items()}
    try:
        return made if all(_agrees(made[one], one, kind) for one in made) else None
    except Exception as error:  # whatever a compiler raises: torch does the same, slower
        import warnings

        warnings.warn(f"no compiled kernels on {kind}, steps are taken by torch's operations: {error}", stacklevel=2)
        return None


def _plain(held: Tensor, g: Tensor, f: Tensor, w: Tensor) -> None:
    rate, decay = f.unbind()
    w.copy_(torch.where(held, w, w + rate * (g + decay * w)))


def _momentum(held: Tensor, g: Tensor, f: Tensor, w: Tensor, v: Tensor) -> None:
    rate, decay, momentum, share, nesterov = f.unbind()
    along = g + decay * w
    velocity = momentum * v + share * along
    w.copy_(torch.where(held, w, w + rate * torch.where(nesterov > 0, along + momentum * velocity, velocity)))
    v.copy_(velocity)


def _adam(held: Tensor, g: Tensor, f: Tensor, w: Tensor, m: Tensor, v: Tensor) -> None:
    decay, added, first, beta2, second, root, eps, rate = f.unbind()
    along = g + added * w
    mean = m + first * (along - m)
    square = beta2 * v + second * along * along
    w.copy_(torch.where(held, w, decay * w + rate * (mean / (square.sqrt() / root + eps))))
    m.copy_(mean)
    v.copy_(square)


_STEPS: dict[type[Any], Callable[..., None]] = {Plain: _plain, Momentum: _momentum, Adam: _adam}


def _held(codes: Tensor, g: Tensor) -> Tensor:
    return (codes == FROZEN) | (codes * g < 0)


def _whole(step: Callable[..., None]) -> Step:
    """The step of whole stripes, straight from their packed codes. All tensors are flat, so that one kernel serves all sizes."""

    def run(words: Tensor, shifts: Tensor, g: Tensor, f: Tensor, *moved: Tensor) -> Tensor:
        codes = (words.view(-1, 1, WORDS) << shifts) >> 30
        along = g.view(-1, 16, WORDS)
        held = _held(codes, along)
        step(held, along, f, *(tensor.view(-1, 16, WORDS) for tensor in moved))
        return held.sum(dtype=torch.int32)

    return run


def _run(whole: Step, rest: Callable[..., None], packed: Tensor, gradient: Tensor, weight: Tensor, descent: Descent, part: int) -> Tensor:
    flat = [tensor.detach().view(-1) for tensor in (gradient, weight, *descent.memory(part))]
    factors = torch.tensor(descent.factors(), dtype=torch.float32).to(weight.device, non_blocking=True)
    shifts = torch.arange(0, 32, 2, dtype=torch.int32, device=weight.device).view(16, 1)
    full, numel = weight.numel() // STRIPE, weight.numel()
    count = torch.zeros((), dtype=torch.int32, device=weight.device)
    if full:
        g, *moved = [tensor[: full * STRIPE] for tensor in flat]
        count = whole(packed[: full * WORDS], shifts, g, factors, *moved)
    if full * STRIPE < numel:  # less than a stripe
        g, *moved = [tensor[full * STRIPE :] for tensor in flat]
        held = _held(unpack(packed, full * STRIPE, numel), g)
        rest(held, g, factors, *moved)
        count = count + held.sum(dtype=torch.int32)
    return count


def _agrees(step: Step, kind: type[Any], device: str) -> bool:
    """Whether a kernel moves what torch's optimizer moves, as far, and nothing of what is held back."""
    draw = torch.Generator().manual_seed(0)
    numel = 2 * STRIPE + 100
    before, gradient, mean, square, codes = (torch.randn(numel, generator=draw).to(device) for _ in range(5))
    signs = codes.sign().to(torch.int8)
    signs[::5] = FROZEN
    held, memory = _held(signs, gradient), {Plain: [], Momentum: [mean], Adam: [mean, square.abs()]}[kind]
    names = {Plain: (), Momentum: ("momentum_buffer",), Adam: ("exp_avg", "exp_avg_sq")}[kind]
    twin = torch.nn.Parameter(before.clone())
    twin.grad = gradient
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1} | ({"momentum": 0.9} if kind is Momentum else {})
    optimizer = (torch.optim.AdamW if kind is Adam else torch.optim.SGD)([twin], **options)
    optimizer.state[twin].update({name: tensor.clone() for name, tensor in zip(names, memory, strict=True)})
    if kind is Adam:
        optimizer.state[twin]["step"] = torch.tensor(3.0)
    optimizer.step()
    descents: dict[type[Any], Callable[[], Descent]] = {
        Plain: lambda: Plain(0.1, 0.1),
        Momentum: lambda: Momentum(0.1, 0.9, 0.0, memory, 0.1),
        Adam: lambda: FusedAdam(0.1, (0.9, 0.999), 1e-8, 0.1, True, 4, memory[:1], memory[1:]),
    }
    weight = before.clone()
    count = _run(step, _STEPS[kind], pack_codes(signs), gradient, weight, descents[kind](), 0)
    kept = [optimizer.state[twin][name] for name in names]
    close = all(torch.allclose(mine, theirs, rtol=CLOSE, atol=CLOSE) for mine, theirs in zip(memory, kept, strict=True))
    moved = torch.allclose(weight[~held], twin.detach()[~held], rtol=CLOSE, atol=CLOSE) and torch.equal(weight[held], before[held])
    return close and moved and int(count) == int(held.sum())
