"""Projecting a gradient so that no stored task's loss rises to first order (Lopez-Paz & Ranzato 2017, Eq. 8-12)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

PIECE = 1 << 20
"""Elements that are held in float64 at a time."""
RIDGE = 2.5e-13
"""Weight of |v|² beside the squared length of the result, both relative to the gradient's.

Its root bounds by how much an inner product may stay negative where stored gradients are all but opposite, as a share of
:math:`|g||g_k|`; elsewhere it changes the result by as little as itself.
"""

Gradients = Mapping[str, Tensor]
Total = Callable[[Tensor], Tensor]
"""Adds up over processes what each has of its own shards of the gradients."""


def one_process(values: Tensor) -> Tensor:
    """The `Total` of a process that holds the gradients whole."""
    return values


class Projection(NamedTuple):
    """What a projection did; inner products are relative to the norms of the gradient before it and of the stored one.

    Attributes:
        gradients: what to give to the optimizer.
        projected: whether they differ from what was given.
        before, after: the smallest inner product with a stored gradient.
    """

    gradients: dict[str, Tensor]
    projected: bool
    before: float
    after: float


def dots(one: Gradients, others: Sequence[Gradients]) -> Tensor:
    """The inner products of a tree with others: float64 of shape ``(len(others),)``; what only one of two has counts as zero in the other.

    Summed in float64, piece by piece; a piece of ``one`` is brought to float64 once for all others.
    """
    totals: dict[torch.device, Tensor] = {}
    for name, tensor in one.items():
        having = [index for index, other in enumerate(others) if name in other]
        total = totals.setdefault(tensor.device, torch.zeros(len(others), dtype=torch.float64, device=tensor.device))
        for piece, *parts in zip(_pieces(tensor), *(_pieces(others[index][name]) for index in having), strict=True):
            own = piece.double()
            for index, part in zip(having, parts, strict=True):
                total[index] += torch.dot(own, part.double())
    return sum((total.cpu() for total in totals.values()), torch.zeros(len(others), dtype=torch.float64))


def products(trees: Sequence[Gradients]) -> Tensor:
    """The inner products of trees with each other, as `dots` gives them: float64 of shape ``(len(trees), len(trees))``.

    Every tree is brought to float64 once, in pieces that together are no larger than `PIECE`.
    """
    size = len(trees)
    totals: dict[torch.device, Tensor] = {}
    for name in dict.fromkeys(name for tree in trees for name in tree):
        having = [index for index, tree in enumerate(trees) if name in tree]
        device = trees[having[0]][name].device
        total = totals.setdefault(device, torch.zeros(size, size, dtype=torch.float64, device=device))
        places = torch.tensor(having, device=device)
        for parts in zip(*(_pieces(trees[index][name], max(1, PIECE // size)) for index in having), strict=True):
            rows = torch.empty(len(parts), len(parts[0]), dtype=torch.float64, device=device)
            for row, part in zip(rows, parts, strict=True):
                row.copy_(part)  # to float64 in one pass
            total[places[:, None], places] += rows @ rows.T
    found = sum((total.cpu() for total in totals.values()), torch.zeros(size, size, dtype=torch.float64))
    return found.triu() + found.triu(1).T  # whatever the order in which a processor sums


def add(gradients: Gradients, others: Sequence[Gradients], weights: Sequence[float]) -> dict[str, Tensor]:
    """``gradients`` + Σ ``weights[k]`` · ``others[k]``, summed in float64 and rounded once; uses the memory of ``gradients``."""
    result = {name: tensor.contiguous() for name, tensor in gradients.items()}
    for other in others:
        for name, tensor in other.items():
            if name not in result:
                result[name] = torch.zeros_like(tensor, memory_format=torch.contiguous_format)
    for name, tensor in result.items():
        terms = [(weight, _pieces(other[name])) for weight, other in zip(weights, others, strict=True) if weight and name in other]
        if terms:
            for piece in _pieces(tensor):
                total = piece.double()
                for weight, pieces in terms:
                    total.add_(next(pieces), alpha=weight)  # brought to float64 on its way
                piece.copy_(total)
    return result


def multipliers(products: Tensor, margin: float = 0.0) -> list[float]:
    r"""The solution v of GEM's dual problem, :math:`\min_v \tfrac12 v^\top G G^\top v + g^\top G^\top v` with :math:`v \ge` margin.

    It is the non-negative least squares problem :math:`\min_{w \ge 0} |G^\top (w + \text{margin}) + g|`, in the few
    coordinates that g and the rows of G span. Every vector is brought to length one first, so scales do not matter, and no
    matrix is inverted; `RIDGE` keeps v bounded where rows are all but opposite (then the exact v is beyond float64).

    Args:
        products: float64 of shape (t + 1, t + 1): inner products of g (first) and the t rows of G with each other.
        margin: the least value of v.
    """
    from scipy.optimize import nnls

    products = products.cpu()
    norms = products.diagonal().clamp(min=0).sqrt()
    live = (norms[1:] > 0).nonzero()[:, 0] + 1
    found = [0.0] * (len(norms) - 1)
    if not len(live) or not norms[0] > 0:
        return found
    kept = torch.cat([torch.zeros(1, dtype=torch.int64), live])
    length = norms[kept]
    values, vectors = torch.linalg.eigh(products[kept][:, kept] / length / length[:, None])
    coordinates = vectors * values.clamp(min=0).sqrt()
    ratio = length[0] / length[1:]
    least = margin / ratio
    matrix = torch.cat([coordinates[1:].T, RIDGE**0.5 * torch.eye(len(live), dtype=torch.float64)])
    target = torch.cat([-(coordinates[0] + least @ coordinates[1:]), torch.zeros(len(live), dtype=torch.float64)])
    solved, _ = nnls(matrix.numpy(), target.numpy())
    for place, value in zip((live - 1).tolist(), ((torch.from_numpy(solved) + least) * ratio).tolist(), strict=True):
        found[place] = value
    return found


def project(gradients: Gradients, stored: Sequence[Gradients], margin: float = 0.0, total: Total = one_process) -> Projection:
    """The nearest gradients whose inner product with none of the ``stored`` ones is negative.

    Untouched where none is negative. Uses the memory of ``gradients``.

    Args:
        gradients: of the new task.
        stored: of the stored tasks.
        margin: the least weight of every stored gradient, once any inner product is negative.
        total: adds up inner products over processes that hold shards.
    """
    found = total(products([gradients, *stored]))
    if not found.isfinite().all():
        raise ValueError("a gradient is not finite")
    norms = found.diagonal().sqrt()
    lengths = norms[0] * norms[1:]
    scale = torch.where(lengths > 0, 1 / lengths, 0)
    before = float((found[0, 1:] * scale).min()) if stored else 0.0
    if before >= 0:
        return Projection(dict(gradients), False, before, before)
    result = add(gradients, stored, multipliers(found, margin))
    after = total(dots(result, stored))
    return Projection(result, True, before, float((after * scale).min()))


def project_one(gradients: Gradients, reference: Gradients, total: Total = one_process) -> Projection:
    r"""A-GEM's closed form: :math:`g - \frac{g^\top r}{r^\top r} r` where :math:`g^\top r < 0`. Uses the memory of ``gradients``."""
    found = products([gradients, reference])
    product, square, own = total(torch.stack([found[0, 1], found[1, 1], found[0, 0]])).tolist()
    if not all(map(isfinite, (product, square, own))):
        raise ValueError("a gradient is not finite")
    scale = (own * square) ** 0.5
    before = product / scale if scale else 0.0
    if before >= 0:
        return Projection(dict(gradients), False, before, before)
    result = add(gradients, [reference], [-product / square])
    after = float(total(dots(result, [reference])))
    return Projection(result, True, before, after / scale)


def _pieces(tensor: Tensor, size: int | None = None) -> Iterator[Tensor]:
    return iter(tensor.detach().reshape(-1).split(size or PIECE))  # type: ignore[no-untyped-call]  # torch leaves split untyped
