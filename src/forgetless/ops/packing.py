"""Signs of a gradient in two bits a weight.

Sixteen codes an int32 word::

    0b00  zero: no opinion, the weight is free
    0b01  positive
    0b11  negative (two's complement of one, in two bits)
    0b10  frozen: held back whatever the other gradient says

A stripe of 16 times 1024 weights takes 1024 words; word w holds, from the top, the codes of weights w, 1024 + w,
2048 + w and so on (the last stripe is narrower). So one shift by a column of amounts spreads a stripe in the order of
its weights, each code in the top two bits of an int32. Read as floats these are 0, 2, -2 and -0.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

WORDS = 1024
STRIPE = 16 * WORDS
FROZEN = -2


def packed_size(numel: int) -> int:
    """Words that ``numel`` codes take: a quarter of a byte each, rounded up to whole words."""
    return numel // STRIPE * WORDS + (numel % STRIPE + 15) // 16


def spread(packed: Tensor, start: int, stop: int, room: Tensor) -> Tensor:
    """Codes of the elements ``start:stop`` in the top two bits of an int32 each: a view into ``room``.

    ``room`` is flat, of int32, and has space for all stripes that the range touches.
    """
    low, full = start // STRIPE, min(-(-stop // STRIPE), packed.numel() // WORDS)
    done = (full - low) * STRIPE
    shifts, top = _constants(packed.device)
    if done:
        torch.bitwise_left_shift(packed[low * WORDS : full * WORDS].view(-1, 1, WORDS), shifts, out=room[:done].view(-1, 16, WORDS))
    if low * STRIPE + done < stop:
        last = packed[full * WORDS :]
        torch.bitwise_left_shift(last, shifts, out=room[done : done + 16 * last.numel()].view(16, -1))
    return room[start - low * STRIPE : stop - low * STRIPE].bitwise_and_(top)


def pack_codes(codes: Tensor) -> Tensor:
    """Pack int8 codes (-1, 0, 1, or -2 for frozen; any shape, n elements) into int32 of shape ``(packed_size(n),)``."""
    return _pack(codes.reshape(-1))


def pack_signs(values: Tensor) -> Tensor:
    """Pack the signs of ``values`` (any float dtype and shape) into int32 of shape ``(packed_size(numel),)``."""
    return _pack(values.reshape(-1))


def unpack(packed: Tensor, start: int, stop: int) -> Tensor:
    """The codes of the elements ``start:stop`` as int8 of shape ``(stop - start,)``: -1, 0, 1, or -2 for frozen."""
    codes = torch.empty(stop - start, dtype=torch.int8, device=packed.device)
    room = torch.empty(10 * STRIPE, dtype=torch.int32, device=packed.device)
    for at in range(start, stop, 8 * STRIPE):
        end = min(stop, at + 8 * STRIPE)
        codes[at - start : end - start] = spread(packed, at, end, room).bitwise_right_shift_(30)
    return codes


def _pack(flat: Tensor) -> Tensor:
    packed = torch.empty(packed_size(flat.numel()), dtype=torch.int32, device=flat.device)
    full = flat.numel() // STRIPE
    step = 8 if flat.device.type == "cpu" else 512  # stripes at a time, for the cache
    shifts = 30 - _constants(flat.device)[0]
    for low in range(0, full, step):
        high = min(full, low + step)
        packed[low * WORDS : high * WORDS] = _words(flat[low * STRIPE : high * STRIPE].view(-1, 16, WORDS), shifts).view(-1)
    last = flat[full * STRIPE :]
    if last.numel():
        short = -last.numel() % 16
        last = torch.cat([last, last.new_zeros(short)]) if short else last
        packed[full * WORDS :] = _words(last.view(1, 16, -1), shifts).view(-1)
    return packed


def _words(stripes: Tensor, shifts: Tensor) -> Tensor:
    codes = (stripes.sign() if stripes.is_floating_point() else stripes).to(torch.int32)
    return codes.bitwise_and_(3).bitwise_left_shift_(shifts).sum(1, dtype=torch.int32)  # no two have a bit in common


@cache
def _constants(device: torch.device) -> tuple[Tensor, Tensor]:
    """The shifts that bring each code of a word to the top, and a mask of the top two bits."""
    return torch.arange(0, 32, 2, dtype=torch.int32, device=device).view(16, 1), torch.tensor(-1 << 30, dtype=torch.int32, device=device)
