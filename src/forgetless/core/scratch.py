"""Memory for the weights of a chunk before its step, used again by every chunk."""

from __future__ import annotations

import torch
from torch import Tensor


class Scratch:
    """Room for copies of some tensors at a time; it grows to the most that was asked for."""

    def __init__(self) -> None:
        self._room = torch.empty(0, dtype=torch.uint8)

    def copies(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Contiguous copies of the parts, good until the next call."""
        sizes = [-(-part.numel() * part.element_size() // 64) * 64 for part in parts.values()]
        device = next(iter(parts.values())).device
        if self._room.numel() < sum(sizes) or self._room.device != device:
            self._room = torch.empty(sum(sizes), dtype=torch.uint8, device=device)
        copies, start = {}, 0
        for (name, part), size in zip(parts.items(), sizes, strict=True):
            room = self._room[start : start + part.numel() * part.element_size()]
            copies[name] = room.view(part.dtype).view(part.shape).copy_(part)
            start += size
        return copies
