"""Updates held back where the signs of two gradients disagree.

Where `fused` has compiled loops they do it in one pass. Else everything runs in blocks that stay in a core's cache, in
operations that torch vectorises: bits and floats, no booleans.
The product of a packed sign, as `packing.spread` gives it (2, -2 or a zero), and a gradient is negative exactly where the
two disagree; a threshold turns it into a mask of the weights that are free. A gradient that is not a number disagrees with
nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from forgetless.ops import compiled, fused
from forgetless.ops.descent import Adam, Descent, FusedAdam, Momentum
from forgetless.ops.packing import STRIPE, spread, unpack
from forgetless.ops.pool import on_cores

CPU_BLOCK = 16 * STRIPE
GPU_BLOCK = 256 * STRIPE
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_threshold = torch.ops.aten.threshold_backward.grad_input  # (a, x, t) -> 0 where x <= t, else a
_local = threading.local()

Count = int | Tensor
"""A number of weights; on an accelerator a scalar tensor, so that nobody waits for it."""


class Part(NamedTuple):
    """A tensor's gradient, or some of its rows, and what the reference says about it.

    ``packed`` holds the signs of the whole tensor, ``offset`` is the element of it at which ``gradient`` begins.
    """

    packed: Tensor
    offset: int
    gradient: Tensor


class _Share(NamedTuple):
    """The elements ``start:stop`` of part number ``part``."""

    part: int
    start: int
    stop: int


def hold_back(parts: Sequence[Part], before: Sequence[Tensor], after: Sequence[Tensor], *, frozen: bool) -> list[Count]:
    """Keep the update only where the packed signs agree with the gradient: ``where(conflict, before, after)``, bit for bit.

    Args:
        parts: what to compare.
        before, after: for each part the weights, contiguous, in one shape and dtype; **after's memory receives the result**.
        frozen: whether codes may be frozen; False takes them for free and is faster.

    Returns:
        For each part the number of weights held back.
    """
    old, new = [_bits(tensor) for tensor in before], [_bits(tensor) for tensor in after]

    def apply(part: int, start: int, stop: int, free: Tensor) -> None:
        was = old[part][start:stop]
        new[part][start:stop].bitwise_xor_(was).bitwise_and_(free.to(was.dtype)).bitwise_xor_(was)

    loops = fused.loops() if fused.fit(*(part.gradient for part in parts), *before, *after) else None
    if loops is None:
        return _masked(parts, apply, frozen)
    gradients, was, now = ([tensor.detach().view(-1) for tensor in some] for some in ([part.gradient for part in parts], before, after))

    def run(shares: list[_Share]) -> list[int]:
        found = []
        for part, start, stop in shares:
            some, (packed, offset, _) = slice(start, stop), parts[part]
            found.append(loops.hold_back(packed, offset + start, gradients[part][some], was[part][some], now[part][some], frozen=frozen))
        return found

    return _compiled(parts, run)


def zero_conflicts(parts: Sequence[Part], *, frozen: bool) -> list[Count]:
    """Set each gradient (contiguous) to zero, in place, where the packed signs disagree with it; gives how many there were."""
    bits = [_bits(part.gradient) for part in parts]

    def apply(part: int, start: int, stop: int, free: Tensor) -> None:
        bits[part][start:stop].bitwise_and_(free.to(bits[part].dtype))

    return _masked(parts, apply, frozen)


def descend(parts: Sequence[Part], weights: Sequence[Tensor], descent: Descent, *, frozen: bool) -> list[Count] | None:
    """Take an optimizer's step where the packed signs agree with the gradient: what else the step moves, it moves everywhere.

    In the arithmetic of torch's optimizers, bit for bit; by `compiled` kernels within their rounding. A weight that is held back does
    not move by one bit, -0 included.

    Args:
        parts: what to compare, each a whole tensor; fp32, as are the weights, for compiled loops and kernels.
        weights: of each part, contiguous.
        descent: the step, with its memory for each part, contiguous.
        frozen: whether codes may be frozen; False takes them for free and is faster.

    Returns:
        For each part the number of weights held back; None, and nothing was done, where the step cannot be taken here.
    """
    gradients = [part.gradient for part in parts]
    memory = [descent.memory(part) for part in range(len(parts))]
    loops = fused.loops() if fused.fit(*gradients, *weights, *chain.from_iterable(memory)) else None
    if loops is not None and type(descent) in loops.descents and not (isinstance(descent, FusedAdam) and any(map(_ragged, gradients))):

        def run(shares: list[_Share]) -> list[int]:
            return loops.descend(
                [_stretch(parts[i], weights[i], memory[i], start, stop) for i, start, stop in shares], descent, frozen=frozen
            )

        return _compiled(parts, run)
    if compiled.fit(*gradients, *weights, *chain.from_iterable(memory)) and compiled.kernels(weights[0].device.type):
        return [compiled.descend(part.packed, part.gradient, weights[i], descent, i) for i, part in enumerate(parts)]
    if isinstance(descent, Adam):
        return None
    flat = [tensor.detach().view(-1) for tensor in weights]

    def apply(part: int, start: int, stop: int, free: Tensor) -> None:
        along, weight = gradients[part].detach().view(-1)[start:stop], flat[part][start:stop]
        if descent.weight_decay:
            along = along.add(weight, alpha=descent.weight_decay)
        if isinstance(descent, Momentum):
            velocity = memory[part][0].view(-1)[start:stop]
            velocity.mul_(descent.momentum).add_(along, alpha=1 - descent.dampening)
            along = along.add(velocity, alpha=descent.momentum) if descent.nesterov else velocity
        bits = along.view(_BITS[along.element_size()])
        weight.add_(free.to(bits.dtype).bitwise_and_(bits).view(along.dtype), alpha=-descent.rate)

    return _masked(parts, apply, frozen)


def flips(old: Tensor, new: Tensor, numel: int) -> int:
    """How many of ``numel`` weights changed between plus and minus from one packed reference to the next."""
    changed = torch.zeros((), dtype=torch.int64, device=old.device)
    for start in range(0, numel, CPU_BLOCK):
        stop = min(numel, start + CPU_BLOCK)
        changed += torch.count_nonzero(unpack(old, start, stop).mul_(unpack(new, start, stop)).eq_(-1))
    return int(changed)


def _bits(tensor: Tensor) -> Tensor:
    return tensor.detach().view(-1).view(_BITS[tensor.element_size()])


def _stretch(part: Part, weight: Tensor, memory: list[Tensor], start: int, stop: int) -> fused.Stretch:
    return fused.Stretch(part.packed, part.offset + start, part.gradient, weight, memory, start, stop - start)


def _ragged(tensor: Tensor) -> bool:
    return tensor.numel() % fused.WHOLE > 0


def _compiled(parts: Sequence[Part], run: Callable[[list[_Share]], list[int]]) -> list[Count]:
    """Call ``run`` on all shares, each core's together; it gives for each the number of weights held back."""
    shares = _share([part.gradient.numel() for part in parts], torch.get_num_threads())
    counts: list[Count] = [0] * len(parts)
    for own, found in zip(shares, on_cores(run, shares), strict=True):
        for (part, _, _), held in zip(own, found, strict=True):
            counts[part] += held
    return counts


def _masked(parts: Sequence[Part], apply: Callable[[int, int, int, Tensor], None], frozen: bool) -> list[Count]:
    """Call ``apply(part, start, stop, free)`` on every block; ``free`` is int32, all ones where a weight may move, else zero."""
    gradients = [part.gradient.detach().reshape(-1) for part in parts]
    counts: list[Count] = [0] * len(parts)

    def work(shares: list[_Share]) -> list[tuple[int, Count]]:
        found: list[tuple[int, Count]] = []
        for index, start, stop in shares:
            packed, offset, _ = parts[index]
            gradient = gradients[index]
            cpu = gradient.device.type == "cpu"
            room, tiny = _room(gradient.device)
            for at, end in _blocks(offset, start, stop, CPU_BLOCK if cpu else GPU_BLOCK):
                free = _free(spread(packed, offset + at, offset + end, room), gradient[at:end], tiny, frozen)
                held = free.sum(dtype=torch.int32)
                found.append((index, (int(held) if cpu else held) + end - at))
                apply(index, at, end, free)
        return found

    sizes = [gradient.numel() for gradient in gradients]
    cpu = all(gradient.device.type == "cpu" for gradient in gradients)
    for found in on_cores(work, _share(sizes, torch.get_num_threads())) if cpu else [work(_share(sizes, 1)[0])]:
        for index, held in found:
            counts[index] = counts[index] + held
    return counts


def _free(codes: Tensor, gradient: Tensor, tiny: float, frozen: bool) -> Tensor:
    """All ones where the codes (int32, as `spread` gives them; used up) let a weight move, zeros where not; mostly in their memory."""
    if gradient.dtype != torch.float32:
        gradient = (gradient.sign() if gradient.dtype == torch.float64 else gradient).float()  # its sign survives
    melted = codes.bitwise_not().bitwise_right_shift_(30).sub_(1).bitwise_right_shift_(31) if frozen else None
    product = codes.view(torch.float32)
    torch.mul(product, gradient, out=product)
    _threshold(_ones(codes.device), product, -tiny, grad_input=product)
    return codes if melted is None else codes.bitwise_and_(melted)  # of the top bits only 10 stay positive, turned round and less one


def _blocks(offset: int, start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Cut ``start:stop`` into blocks, the inner ones on whole stripes."""
    while start < stop:
        end = min(stop, (offset + start) // STRIPE * STRIPE + size - offset)
        yield start, end
        start = end


def _share(sizes: list[int], cores: int) -> list[list[_Share]]:
    """Deal all elements out to at most so many cores, about alike, in multiples of 64 elements; few go to one core."""
    total = sum(sizes)
    cores = max(1, min(cores, total // CPU_BLOCK))
    if cores == 1:
        return [[_Share(index, 0, size) for index, size in enumerate(sizes) if size]]
    shares: list[list[_Share]] = [[] for _ in range(cores)]
    core, left = 0, total // cores
    for index, size in enumerate(sizes):
        start = 0
        while start < size:
            take = size - start
            if core < cores - 1 and take > left:
                take = left // 64 * 64
            if take:
                shares[core].append(_Share(index, start, start + take))
            start, left = start + take, left - take
            if core < cores - 1 and left < 64:
                core, left = core + 1, total // cores
    return shares


@cache
def _ones(device: torch.device) -> Tensor:
    """The float whose bits are all ones."""
    return torch.full((), -1, dtype=torch.int32, device=device).view(torch.float32)


def _room(device: torch.device) -> tuple[Tensor, float]:
    """Scratch for the codes of a block (on a processor each thread keeps its own), and the smallest float that is not zero."""
    if device.type != "cpu":
        return torch.empty(GPU_BLOCK, dtype=torch.int32, device=device), 2.0**-149
    if not hasattr(_local, "room"):
        _local.room, _local.tiny = torch.empty(CPU_BLOCK, dtype=torch.int32), torch.full((), 2.0**-148)
    flushed = float(_local.tiny * 0.5) == 0  # torch.set_flush_denormal holds for one thread
    return _local.room, 2.0**-126 if flushed else 2.0**-149
