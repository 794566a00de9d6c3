"""KL divergence to the base model on the new inputs: the predictor of forgetting, as a penalty."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Share, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.core.teacher import extend, frozen_sums, kept_groups, snapshot, teacher_logits
from forgetless.ops.distillation import kl_rows, positions

WINS = 1.0
"""From this strength on, an answer to which the base gives no chance can stay less likely than the base's own, however long it is
learned: where forward KL and the loss balance, p is (onehot + strength * base) / (1 + strength). A guard does not tighten to there."""


class KL(Adjustable):
    r"""KL divergence to the base model, on the inputs of the new task.

    RL's Razor (Shenfeld et al. 2025, arXiv 2509.04259): how much is forgotten is predicted by
    :math:`KL(\pi_0 \| \pi)` on the new task's distribution. With the base :math:`\theta_0` (the weights when this method's first
    task began, kept through the whole stream) the loss gains, over the predicted rows r,

    .. math:: \lambda \, \frac{\sum_r w_r \, KL\big(p_{\theta_0}(\cdot|r) \,\|\, p_\theta(\cdot|r)\big)}{\sum_r w_r}
        \quad \text{or, reverse,} \quad KL(p_\theta \| p_{\theta_0})

    With ``first_tokens`` and ``first_weight`` the first labelled positions of each example count more (or less): a model's
    alignment lives in the first tokens of its answers (Qi et al. 2024, arXiv 2406.05946). Theirs is a constraint with a weight
    per position inside a loss of its own; here it is a weight in this mean. RL's Razor measures the divergence; as a penalty it
    is the KL term of RLHF, taken on the data's own tokens rather than on samples of the model.

    Units that a batch rules out are left out. The value of the last batch is reported as ``kl``. A base that knows nothing (a
    network just initialised) is not worth keeping: begin with a trained one.

    Memory: a copy of the trainable weights and buffers (4 bytes per parameter in fp32; none with LoRA adapters that begin at zero).
    Cost: one more forward pass over each batch, and one for the model's own logits where the user's outputs hold none.

    Args:
        strength: :math:`\lambda`; ``"auto"`` finds it as a task begins (`Adjustable`).
        direction: ``"forward"``: :math:`KL(base\|model)`; ``"reverse"``: :math:`KL(model\|base)`.
        first_tokens: how many labelled positions of each example weigh ``first_weight``; the others weigh 1.
        first_weight: w of these.

    Raises:
        InputError: an option is out of range; weights shared with the base have changed between tasks (a merged adapter).

    Examples:
        >>> KL(direction="reverse", first_tokens=5, first_weight=4.0).strength
        0.5
    """

    state_names: ClassVar[tuple[str, ...]] = ("teacher", "sums", "begun", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("teacher",)
    label: ClassVar[str] = "kl.strength"
    summary: ClassVar[str] = "stays near the base model's answers on the new inputs; needs no old data"
    source: ClassVar[str] = "arXiv 2509.04259; weights by position: arXiv 2406.05946"
    extra_memory: ClassVar[str] = "4 bytes per trainable parameter (fp32): the base model"
    extra_compute: ClassVar[str] = "a forward pass of the base model"

    def __init__(
        self,
        *,
        strength: float | Literal["auto"] = 0.5,
        direction: Literal["forward", "reverse"] = "forward",
        first_tokens: int = 0,
        first_weight: float = 1.0,
    ) -> None:
        self.strength = number_or_auto(self.label, strength)
        self.direction = options.choice("kl.direction", direction, ("forward", "reverse"))
        self.first_tokens = options.whole("kl.first_tokens", first_tokens, 0)
        self.first_weight = options.number("kl.first_weight", first_weight, above=True)
        self.teacher: Tree = {}
        self.sums: Tree = {}
        self.begun = False

    def begin_task(self, ctx: Context) -> None:
        if not self.strength:
            return
        if self.begun:
            extend(ctx.model, self.teacher, self.sums)
        else:
            self.teacher, self.sums, self.begun = snapshot(ctx.model), frozen_sums(ctx.model), True

    def numbers(self, ctx: Context) -> tuple[float, ...]:
        return (0.05, 0.15, 0.5)

    def protects(self, ctx: Context) -> bool:
        return bool(kept_groups(ctx.task))

    def tighten(self, ctx: Context, factor: float) -> str:
        return super().tighten(ctx, factor) if self.in_force(ctx) * factor < WINS else ""

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        strength = self.in_force(ctx)
        if not strength:
            return None
        read = ctx.task.predictions
        student = read.logits(read.outputs(ctx.model, batch) if outputs is None else outputs, batch)
        teacher = teacher_logits(ctx.model, self.teacher, batch, read, every=False)  # on every process, whatever its batch holds
        if not len(student):
            ctx.balance(0)
            ctx.report("kl", Share(0.0, 0.0, "data"))
            return None
        rows = kl_rows(teacher, student, self.direction)
        weights = torch.ones_like(rows)
        if self.first_tokens:
            weights[positions(read.owners(batch)).to(rows.device) < self.first_tokens] = self.first_weight
        total, whole = (weights * rows).sum(), weights.sum()
        ctx.report("kl", Share(total.detach(), whole, "data"))
        return ctx.balance(whole) * strength * (total / whole)
