"""GEM's dual quadratic program by brute force."""

from __future__ import annotations

from itertools import product

import numpy as np


def by_active_sets(g: np.ndarray, stored: np.ndarray, margin: float = 0.0) -> np.ndarray:
    """min over v ≥ margin of |g + storedᵀ v|², by trying every set of multipliers that stand at their bound."""
    best, found = np.inf, g
    for free in product([False, True], repeat=len(stored)):
        v = np.full(len(stored), margin)
        rows = stored[np.array(free)]
        if len(rows):
            rest = g + margin * stored[~np.array(free)].sum(0)
            v[np.array(free)] = np.linalg.lstsq(rows @ rows.T, -rows @ rest, rcond=1e-13)[0]
        if (v >= margin - 1e-12).all():
            value = 0.5 * np.sum((g + stored.T @ v) ** 2)
            if value < best - 1e-15:
                best, found = value, g + stored.T @ v
    return found
