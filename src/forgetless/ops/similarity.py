"""Inner products of gradients, and a sketch of how their elements' products are spread."""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 1 << 15
"""Elements whose products are summed in float32; these sums are added up in float64."""
BLOCK = 1 << 20
"""Elements that are held in float64 at a time."""
STEPS = 64
"""Bins of `MagnitudeSketch` to a factor of two."""
_SHIFT = 52 - 6  # of a float64's bits: what is left are its exponent and 6 bits of its mantissa
_BINS = 1 << (64 - 1 - _SHIFT)


def inner(one: Tensor, other: Tensor) -> Tensor:
    r"""The inner product :math:`\sum_j a_j b_j` of two tensors of one shape: a float64 scalar on their device.

    Pieces of `PIECE` elements are summed in float32 (float64 for float64 tensors), the pieces in float64, without a copy of either
    tensor: the error is far below float32's own rounding of the elements, of the order of :math:`10^{-9} \sum_j |a_j b_j|`.
    """
    a, b = one.detach().reshape(-1), other.detach().reshape(-1)
    wide = torch.float64 if torch.float64 in (a.dtype, b.dtype) else torch.float32
    parts = [torch.dot(x.to(wide), y.to(wide)) for x, y in zip(a.split(PIECE), b.split(PIECE), strict=True)]  # type: ignore[no-untyped-call]
    return torch.stack(parts).double().sum() if parts else torch.zeros((), dtype=torch.float64, device=a.device)


class MagnitudeSketch:
    """How many values have which sign and size, and how much they add up to, in bins of 1/64 of a factor of two.

    A bin holds the values of one sign whose float64 bits agree in the exponent and the first 6 bits of the mantissa, so the
    largest value in it is less than 1 + 1/64 times the smallest. Counts are exact; memory is 4 MB whatever the number of values.

    Attributes:
        counts: int64 of shape (2, bins): how many values are below zero (row 0) and above (row 1).
        sums: float64 of the same shape: the sums of their absolute values.
        zeros: how many values are zero.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(2, _BINS, dtype=torch.int64)
        self.sums = torch.zeros(2, _BINS, dtype=torch.float64)
        self.zeros = 0

    def add(self, values: Tensor) -> None:
        """Take in ``values``: float64, any shape and device, all finite."""
        for sign, row in ((-1, 0), (1, 1)):
            sizes = values[values > 0] if sign > 0 else -values[values < 0]
            bins = sizes.view(torch.int64) >> _SHIFT
            self.counts[row] += torch.bincount(bins, minlength=_BINS).cpu()
            self.sums[row] += torch.bincount(bins, weights=sizes, minlength=_BINS).cpu()
        self.zeros += int((values == 0).sum())

    @property
    def total(self) -> int:
        """How many values there are."""
        return int(self.counts.sum()) + self.zeros

    def top_share(self, share: float) -> tuple[float, float]:
        r"""Which part of :math:`\sum_j |s_j|` the ``share`` of all values that are largest in size carry: the least and the most it can be.

        The two differ only by what the bin that is cut in two leaves open. 0 where all values are zero.
        """
        counts, sums = self.counts.sum(0).flip(0), self.sums.sum(0).flip(0)
        whole = float(sums.sum())
        wanted = round(share * self.total)
        if not whole or not wanted:
            return 0.0, 0.0
        before = counts.cumsum(0)
        cut = int(torch.searchsorted(before, wanted))
        if cut >= len(before):  # fewer values are not zero than are wanted
            return 1.0, 1.0
        left = wanted - (int(before[cut - 1]) if cut else 0)
        carried = float(sums[:cut].sum())
        low, high = (_edge(_BINS - 1 - cut), _edge(_BINS - cut)) if left < int(counts[cut]) else (0.0, 0.0)
        inside, mean = float(sums[cut]), float(sums[cut]) / int(counts[cut])
        if left == int(counts[cut]):
            least = most = inside
        else:  # the largest of them are at least the bin's mean, at most its upper edge; the rest at least its lower edge
            least, most = left * mean, min(left * high, inside - (int(counts[cut]) - left) * low)
        return (carried + least) / whole, (carried + most) / whole

    def decades(self) -> list[dict[str, float]]:
        """The same by powers of ten, smallest first: ``{"from", "to", "below", "above", "below_sum", "above_sum"}``.

        ``below`` and ``above`` count the values of that size below and above zero; a bin belongs to the power of ten of its lower edge.
        """
        import math

        found: dict[int, list[float]] = {}
        live = self.counts.sum(0).nonzero()[:, 0].tolist()
        for index in live:
            power = math.floor(math.log10(_edge(index)) + 1e-12) if _edge(index) else -324
            row = found.setdefault(power, [0, 0, 0.0, 0.0])
            for sign in (0, 1):
                row[sign] += int(self.counts[sign, index])
                row[2 + sign] += float(self.sums[sign, index])
        return [
            {
                "from": float(f"1e{power}"),
                "to": float(f"1e{power + 1}"),
                "below": row[0],
                "above": row[1],
                "below_sum": row[2],
                "above_sum": row[3],
            }
            for power, row in sorted(found.items())
        ]


def _edge(index: int) -> float:
    """The lower edge of a bin."""
    return float(torch.tensor(index << _SHIFT, dtype=torch.int64).view(torch.float64))
