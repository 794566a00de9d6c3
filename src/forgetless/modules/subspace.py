"""PEFT's orthogonal-subspace layers, held to their constraint."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from forgetless.ops.subspace import Factors, Subspace, protected_share

SIDES = (("U", False), ("V", True))


class Outside(nn.Module):
    """A parametrization: a matrix without the part of its columns (or ``rows``) in a protected subspace.

    Args:
        basis, complement: of the `Subspace`.
        rows: whether the rows are held, not the columns.
    """

    basis: Tensor

    def __init__(self, basis: Tensor, *, complement: bool, rows: bool) -> None:
        super().__init__()
        self.register_buffer("basis", basis)
        self.complement, self.rows = complement, rows

    @property
    def protected(self) -> Subspace:
        """What is left out."""
        return Subspace(self.basis, self.complement)

    def forward(self, matrix: Tensor) -> Tensor:
        matrix = matrix.to(self.basis.dtype)
        return self.protected.rest(matrix.T).T if self.rows else self.protected.rest(matrix)


def constrain(layer: Any, name: str) -> None:
    """Hold the adapter ``name`` of a PEFT OSF layer to its constraint wherever it is used, whatever its optimizer does.

    PEFT projects gradients, by hooks that an Adam step undoes and that a copied model loses; here the factors themselves
    are projected. Their start is kept in buffers that are part of the layer's ``state_dict`` (PEFT's are not).
    """
    from peft.tuners._buffer_dict import BufferDict

    layer._detach_hooks()
    factors, dtype = layer.osf_svd_params[name], layer.get_base_layer().weight.dtype
    singular = layer._osf_S_low_init[name]
    factors["S_low"].data = factors["S_low"].data.to(dtype)
    start = {"S": factors["S_low"].to(singular.dtype)}
    for side, rows in SIDES:
        high, low = getattr(layer, f"_osf_{side}_high"), getattr(layer, f"_osf_{side}_low_init")
        complement = name not in high  # PEFT keeps the protected directions only where the small ones do not tell them
        basis = (low if complement else high)[name].clone()
        if not complement:
            del high[name]
        key = f"{side}_low"
        factors[key].data = factors[key].data.to(dtype)
        outside = Outside(basis.T.contiguous() if rows else basis, complement=complement, rows=rows)
        parametrize.register_parametrization(factors, key, outside, unsafe=True)  # half precision is projected in fp32
        start[side] = factors[key]
    for key, value in start.items():
        setattr(layer, f"_osf_{key}_low_init", BufferDict({name: value.detach().clone()}, persistent=True))


def share(layer: Any, name: str, *, directions: int | None = None) -> float:
    """The share of the layer's change since the start of the task that lies in the protected subspaces (`protected_share`)."""
    factors = layer.osf_svd_params[name]
    with torch.no_grad():
        start = Factors(layer._osf_U_low_init[name], layer._osf_S_low_init[name], layer._osf_V_low_init[name])
        now = Factors(factors["U_low"], factors["S_low"].to(start.s.dtype), factors["V_low"])
        left, right = (factors.parametrizations[f"{side}_low"][0].protected for side, _ in SIDES)
        return protected_share(now, start, left, right, directions=directions)
