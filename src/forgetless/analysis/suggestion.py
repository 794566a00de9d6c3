"""What to do about it: a method, a learning rate and a refresh interval, each with the measurement that speaks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from forgetless.analysis.conflict import Conflict
from forgetless.analysis.taylor import TRUSTED, RatePoint, largest_trusted

TURNED = 0.1
"""The most signs of the reference that may have turned before it is to be refreshed."""
STALE = 0.25
"""Where so many have turned after a single step, a mask made of them is not worth its cost."""
FRIENDLY = 0.1
"""From this cosine on the inject set as a whole works for the retain set."""
FEW = 0.1
"""Up to this share of examples that pull against the retain set, plain fine-tuning is suggested where the whole is `FRIENDLY`."""


def suggest(
    found: Conflict, inner: Tensor, curves: dict[str, Sequence[RatePoint]], turns: Sequence[tuple[int, float]], tried: float
) -> dict[str, Any]:
    """A starting point, not a verdict: whether it holds is for `forgetless train` with held-out questions to say.

    Rules: plain fine-tuning (``none``) where the cosine of the two gradients is at least `FRIENDLY` and at most a share `FEW` of the
    inject examples pull against the retain set; else ``replay`` where more than `STALE` of the reference's signs turn in one step; else
    ``cpl``, refreshed at the largest number of steps tried after which at most `TURNED` of them have (1 if none). The rate is the
    largest one tried at which predictions under AdamW's step are trustworthy.

    Args:
        found: the conflict in all tensors.
        inner: of each inject example, with the reference.
        curves: by optimizer.
        turns: pairs of steps and the share of signs turned.
        tried: the rate at which ``turns`` were measured.

    Returns:
        ``{"method", "lr", "refresh", "reasons"}``; ``lr`` is None where no rate is trustworthy or none was tried, ``refresh`` where
        the method has none or turns were not measured.
    """
    against = f"{float((inner < 0).double().mean()):.0%} of the inject examples pull against the retain set"
    whole, cosine, first = found.whole, f"cosine {found.cosine:.3f}", dict(turns).get(1)
    refresh = None
    if found.cosine >= FRIENDLY and float((inner < 0).double().mean()) <= FEW:
        method = "none"
        reasons = [f"the gradients of the two sets point the same way ({cosine}) and {against}: plain fine-tuning is the one to beat"]
    elif first is not None and first > STALE:
        method = "replay"
        reasons = [
            f"{against}, and {first:.0%} of the reference's signs turn in one step at lr {tried:g}, too many for a mask: train on both"
        ]
    else:
        method = "cpl"
        held = f"{against} and {whole.share:.0%} of the weights conflict ({cosine}): hold those back"
        reasons = [f"{held}; `replay` of the same retain set is the rival to compare with"]
        kept = [(count, share) for count, share in turns if share <= TURNED]
        refresh = max((count for count, _ in kept), default=1) if turns else None
        if kept:
            count, share = max(kept)
            steps = f"after {count} step{'s' if count > 1 else ''} at lr {tried:g}"
            reasons.append(f"{steps}, {share:.0%} of the reference's signs have turned (at most {TURNED:.0%} are wanted)")
        elif turns:
            reasons.append(
                f"after 1 step at lr {tried:g} already {turns[0][1]:.0%} of the reference's signs have turned: refresh every step"
            )
    rate = largest_trusted(curves.get("adamw", ()))
    if rate is not None:
        reasons.append(
            f"{rate:g} is the largest rate tried at which one AdamW step changes the retain loss as predicted (R² at least {TRUSTED:g})"
        )
    elif curves.get("adamw"):
        reasons.append(
            f"at no rate tried does one AdamW step change the retain loss as predicted (R² {TRUSTED:g}): take a low one and a budget"
        )
    return {"method": method, "lr": rate, "refresh": refresh, "reasons": reasons}
