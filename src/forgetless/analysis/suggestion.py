"""What to do about it: a method and a learning rate, with the measurements that speak for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from forgetless.analysis.conflict import Conflict
from forgetless.analysis.taylor import TRUSTED, RatePoint, largest_trusted

TURNED = 0.1
"""The most signs of the reference that may have turned before a mask made of them is to be refreshed."""
FRIENDLY = 0.1
"""From this cosine on the inject set as a whole works for the retain set."""
FEW = 0.1
"""Up to this share of examples that pull against the retain set, plain fine-tuning is suggested where the whole is `FRIENDLY`."""


def suggest(
    found: Conflict, inner: Tensor, curves: dict[str, Sequence[RatePoint]], turns: Sequence[tuple[int, float]], tried: float
) -> dict[str, Any]:
    """A starting point, not a verdict: whether it holds is for `forgetless train` with held-out questions to say.

    Rules: plain fine-tuning (``none``) where the cosine of the two gradients is at least `FRIENDLY` and at most a share `FEW` of the
    inject examples pull against the retain set, at the largest rate tried at which predictions under AdamW's step are trustworthy;
    else the recipe, ``auto``, at its own rate. For those who would rather mask (``cpl``): the largest number of steps tried after which
    at most `TURNED` of the reference's signs have turned.

    Args:
        found: the conflict in all tensors.
        inner: of each inject example, with the reference.
        curves: by optimizer.
        turns: pairs of steps and the share of signs turned.
        tried: the rate at which ``turns`` were measured.

    Returns:
        ``{"method", "lr", "reasons"}``; ``lr`` is None where the method has a rate of its own, no rate is trustworthy or none was tried.
    """
    against = f"{float((inner < 0).double().mean()):.0%} of the inject examples pull against the retain set"
    whole, cosine = found.whole, f"cosine {found.cosine:.3f}"
    rate = largest_trusted(curves.get("adamw", ()))
    friendly = found.cosine >= FRIENDLY and float((inner < 0).double().mean()) <= FEW
    if friendly:
        reasons = [f"the gradients of the two sets point the same way ({cosine}) and {against}: plain fine-tuning is the one to beat"]
    else:
        reasons = [f"{against} and {whole.share:.0%} of the weights conflict ({cosine}): protect what is known"]
    if turns and not friendly:
        count, share = max(((count, share) for count, share in turns if share <= TURNED), default=turns[0])
        often = f"every {count} steps" if share <= TURNED and count > 1 else "at every step"
        steps = f"{count} step{'s' if count > 1 else ''} at lr {tried:g}"
        reasons.append(f"a mask (`cpl`) would have to be refreshed {often}: after {steps} {share:.0%} of the reference's signs have turned")
    if rate is not None:
        reasons.append(
            f"{rate:g} is the largest rate tried at which one AdamW step changes the retain loss as predicted (R² at least {TRUSTED:g})"
        )
    elif curves.get("adamw"):
        reasons.append(
            f"at no rate tried does one AdamW step change the retain loss as predicted (R² {TRUSTED:g}): take a low one and a budget"
        )
    return {"method": "none" if friendly else "auto", "lr": rate if friendly else None, "reasons": reasons}
