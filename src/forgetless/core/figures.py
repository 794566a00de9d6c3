"""What a method reported about a step, as plain numbers of the whole model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from forgetless.core.context import Share
from forgetless.core.world import World
from forgetless.errors import ProtectionError


class Figures:
    """The latest metrics and the worst violation, made into numbers, over all processes, when somebody looks.

    Not before: a step is to cost no communication, and no waiting for an accelerator, that plain training does not have.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.worst: float | None = None
        self._reported: dict[str, Any] | None = None
        self._metrics: dict[str, Any] = {}
        self._alone = True  # whether `worst` is of this process alone

    def tell(self, reported: dict[str, Any]) -> dict[str, Any]:
        """Take the reports of a step; gives them back."""
        self._reported = reported
        return reported

    def moved(self, distance: float) -> None:
        """Take a measured violation."""
        self.worst, self._alone = max(distance, self.worst or 0.0), True

    def metrics(self) -> dict[str, Any]:
        """The latest metrics. Collective, once a step."""
        if self._reported is not None:
            self._metrics, self._reported = settled(self._reported, self.world), None
        return self._metrics

    def violation(self) -> float | None:
        """The worst violation of all processes. Collective, where something was measured since."""
        if self.worst is not None and self._alone and self.world.size > 1:
            self.worst = float(self.world.max(torch.tensor(self.worst, dtype=torch.float64)))
        self._alone = False
        return self.worst

    def settle(self) -> None:
        """Bring together what there is, so that every process can look by itself."""
        self.metrics()
        self.violation()


def settled(reported: dict[str, Any], world: World) -> dict[str, Any]:
    """Numbers in place of the scalar tensors and the `Share`s in nested dictionaries; a share of nothing is left out.

    The accelerator is waited for once, at the end of a step. Collective where weights are sharded and shares of them are among
    the values, and where shares of the data are in several processes.
    """
    shares: list[Share] = []
    _collect(reported, shares)
    sums = {"weights": world.sum_shards, "data": world.sum}
    values: dict[int, float | None] = {}
    for over, add in sums.items():
        chosen = [share for share in shares if share.over == over]
        if not chosen:
            continue
        together = bool(world.shards if over == "weights" else world.groups)
        pairs = torch.tensor([[float(share.part), float(share.whole)] for share in chosen] + [[1.0, len(chosen)]], dtype=torch.float64)
        if together:
            pairs = add(pairs)
            if pairs[-1, 1] != len(chosen) * pairs[-1, 0]:
                raise ProtectionError("the processes report different things about this step")
        values |= {id(share): part / whole if whole else None for share, (part, whole) in zip(chosen, pairs.tolist()[:-1], strict=True)}
    found: dict[str, Any] = _plain(reported, values)
    return found


def _collect(value: Any, shares: list[Share]) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            _collect(inner, shares)
    elif isinstance(value, Share):
        shares.append(value)


def _plain(value: Any, values: dict[int, float | None]) -> Any:
    if isinstance(value, dict):
        plain = {key: _plain(inner, values) for key, inner in value.items()}
        return {key: inner for key, inner in plain.items() if not (inner is None and isinstance(value[key], Share))}
    if isinstance(value, Share):
        return values[id(value)]
    return value.item() if isinstance(value, Tensor) and value.ndim == 0 else value
