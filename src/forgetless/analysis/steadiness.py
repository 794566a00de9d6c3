"""Whether the mask of a training is steady and whether it still learns: warnings for those who watch it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from forgetless.analysis.places import Place

FLAPPING = 0.3
"""The share of the reference's signs that turn at a refresh from which on the mask is said to flap (two unrelated references: 0.5)."""
REFRESHES = 3
"""Refreshes that its mean is over."""
STALLED = 0.99
"""An epoch's mean loss on the inject set has stopped falling where it is more than this share of the last epoch's."""
HELD = 0.4
"""The share of the weights held back from which on few are said to be free."""


class Steadiness:
    """Follows what a method reports about each step.

    Args:
        places: of the parameters, by name.
        sizes: their numbers of weights.
    """

    def __init__(self, places: Mapping[str, Place], sizes: Mapping[str, int]) -> None:
        self.places, self.sizes = places, sizes
        self.recent: list[float] = []  # shares turned at the latest refreshes
        self.loss, self.last_loss = [0.0, 0.0], math.nan  # of this epoch: sum and steps; mean of the last one
        self.held = [0.0, 0.0]  # of this epoch: sum of the shares held back, and steps
        self.turned: dict[str, list[float]] = {}  # of this epoch, by layer: sum of the shares turned, and refreshes

    def step(self, loss: float, told: dict[str, Any]) -> None:
        """Take in a step's loss and metrics; ``sign_flips_by_layer`` is taken out of them and kept by layer for the end of the epoch."""
        self.loss = [self.loss[0] + loss, self.loss[1] + 1]
        by_tensor = told.pop("sign_flips_by_layer", None)
        if "sign_flips" in told:
            self.recent = [*self.recent, float(told["sign_flips"])][-REFRESHES:]
        if "conflicting_fraction" in told:
            self.held = [self.held[0] + float(told["conflicting_fraction"]), self.held[1] + 1]
        for layer, share in self._by_layer(by_tensor or {}).items():
            total = self.turned.get(layer, [0.0, 0])
            self.turned[layer] = [total[0] + share, total[1] + 1]

    def epoch(self) -> dict[str, Any]:
        """What the epoch that ends says: ``{"flips": {layer: mean share turned at a refresh}, "warnings": [text]}``, without empty ones."""
        found: dict[str, Any] = {}
        if self.turned:
            found["flips"] = {layer: total / count for layer, (total, count) in self.turned.items()}
        warnings = []
        turned = sum(self.recent) / REFRESHES
        if len(self.recent) == REFRESHES and turned >= FLAPPING:
            warnings.append(
                f"mask flapping: {turned:.0%} of the reference's signs turned at each of the last {REFRESHES} refreshes (mean); "
                "refresh more often, lower --lr, or take more retain questions at a time"
            )
        mean = self.loss[0] / self.loss[1] if self.loss[1] else math.nan
        held = self.held[0] / self.held[1] if self.held[1] else 0.0
        if mean > STALLED * self.last_loss and held >= HELD:
            warnings.append(
                f"stagnation: the loss on the inject set went from {self.last_loss:.3g} to {mean:.3g} in this epoch, and {held:.0%} of the "
                "weights are held back; a higher --lr, or replay instead of a mask, may learn more"
            )
        if warnings:
            found["warnings"] = warnings
        self.last_loss, self.loss, self.held, self.turned = mean, [0.0, 0.0], [0.0, 0.0], {}
        return found

    def state_dict(self) -> dict[str, Any]:
        """Plain values, to go on from."""
        return {"recent": self.recent, "loss": self.loss, "last_loss": self.last_loss, "held": self.held, "turned": self.turned}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        for name, value in state.items():
            setattr(self, name, value)

    def _by_layer(self, shares: Mapping[str, float]) -> dict[str, float]:
        turned: dict[str, float] = {}
        weights: dict[str, int] = {}
        for name, share in shares.items():
            layer = self.places[name].layer
            key = "outside" if layer is None else str(layer)
            turned[key] = turned.get(key, 0.0) + share * self.sizes[name]
            weights[key] = weights.get(key, 0) + self.sizes[name]
        return {key: turned[key] / weights[key] for key in turned if weights[key]}
