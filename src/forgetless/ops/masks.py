"""Which weights of a layer belong to what: pruning by magnitude, top shares of scores, bits eight to a byte."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def prune_smallest(weight: Tensor, among: Tensor, share: float) -> Tensor:
    """The weights to prune: the ``share`` of smallest magnitude of those ``among`` which to look, with all that tie with the last.

    Args:
        weight: the weights of a layer.
        among: bool of its shape.
        share: in [0, 1].

    Returns:
        Bool of the weights' shape.

    Examples:
        >>> prune_smallest(torch.tensor([3.0, -1.0, 2.0, -4.0, 0.5]), torch.tensor([True, True, True, True, False]), 0.5)
        tensor([False,  True,  True, False, False])
    """
    sizes = weight.detach().abs()
    rank = round(share * int(among.sum()))
    if rank == 0:
        return torch.zeros_like(among)
    return among & (sizes <= sizes[among].kthvalue(rank).values)


def top_share(scores: Tensor, share: float) -> Tensor:
    """The ``share`` of highest scores, to the nearest whole number of weights (of equal scores the last): bool of their shape.

    Examples:
        >>> top_share(torch.tensor([[0.3, 0.1], [0.2, 0.4]]), 0.5)
        tensor([[ True, False],
                [False,  True]])
    """
    kept = round(share * scores.numel())
    order = scores.detach().flatten().argsort(stable=True)
    mask = torch.zeros(scores.numel(), dtype=torch.bool, device=scores.device)
    mask[order[scores.numel() - kept :]] = True
    return mask.view(scores.shape)


def coins(like: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """For each tensor a fair +1 or -1 for every element (int8), the same on every device."""
    draw = torch.Generator().manual_seed(seed)
    thrown = {name: torch.randint(2, tensor.shape, generator=draw, dtype=torch.int8) for name, tensor in like.items()}
    return {name: (2 * coin - 1).to(like[name].device) for name, coin in thrown.items()}


def pack_bits(mask: Tensor) -> Tensor:
    """A bool tensor, eight to a byte, flat; the last byte is filled up with zeros.

    Examples:
        >>> pack_bits(torch.tensor([True, False, True]))
        tensor([5], dtype=torch.uint8)
    """
    bits = torch.nn.functional.pad(mask.flatten().to(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    packed = torch.zeros(len(bits), dtype=torch.uint8, device=mask.device)
    for place in range(8):
        packed |= bits[:, place] << place
    return packed


def unpack_bits(packed: Tensor, shape: torch.Size) -> Tensor:
    """The inverse of `pack_bits`."""
    bits = torch.stack([(packed >> place) & 1 for place in range(8)], dim=1)
    return bits.flatten()[: shape.numel()].view(shape).bool()
