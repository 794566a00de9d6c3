"""Memory Aware Synapses: hold each weight by how strongly it moves the outputs; reads no labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from torch import Tensor

from forgetless.core import importance
from forgetless.core.context import Context, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.ops import quadratic


class MAS(importance.Consolidating, Adjustable):
    r"""Memory Aware Synapses (Aljundi et al. 2018, arXiv 1711.09601, Eq. 2-4): importance is the outputs' sensitivity.

    .. math:: \tilde L(\theta) = L(\theta) + \text{strength} \sum_i \Omega_i (\theta_i - \theta^*_i)^2,
        \qquad \Omega_i \leftarrow \Omega_i + \frac1N \sum_n \Big|\frac{\partial \lVert f_\theta(x_n) \rVert_2^2}{\partial \theta_i}\Big|

    at the end of each task (without the factor 1/2, as in the paper), where :math:`f` are the logits and :math:`\theta^*` the latest
    weights. Importances of tasks add up, as in the authors' code. Of a language model the norm is over all positions that it predicts.

    Deviations from the authors' code: gradients are of single examples (theirs sums a batch before the absolute value, the same
    at batch size 1). Without an earlier task ``task.retain`` stands for one.

    Memory: 8 bytes per parameter. Cost: element-wise per step; at the end of a task a forward and backward pass for each of
    ``examples`` examples, one by one.

    Args:
        strength: :math:`\lambda`, 1 in the paper. Importances grow with the square of the logits' size: sweep it, or let ``"auto"`` find
            it as a task begins (`Adjustable`).
        examples: how many examples to draw; None takes all.
        seed: of the generator that draws them.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> MAS(examples=50).strength
        1.0
    """

    state_names: ClassVar[tuple[str, ...]] = ("importance", "anchor", "draws", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("importance", "anchor")
    label: ClassVar[str] = "mas.strength"
    summary: ClassVar[str] = "holds each weight by how strongly it moves the outputs; unlabelled examples of the old data are enough"
    source: ClassVar[str] = "Aljundi et al. 2018, arXiv 1711.09601, Eq. 2-4"
    extra_memory: ClassVar[str] = "8 bytes per parameter"
    extra_compute: ClassVar[str] = "element-wise; once a task a forward and backward pass for each of `examples` examples"

    def __init__(self, *, strength: float | Literal["auto"] = 1.0, examples: int | None = 200, seed: int = 0) -> None:
        super().__init__("mas", examples, seed)
        self.strength = number_or_auto(self.label, strength)
        self.importance: Tree = {}

    def protects(self, ctx: Context) -> bool:
        return bool(self.anchor)

    def penalty(self, ctx: Context) -> Tensor | None:
        strength = self.in_force(ctx)
        return quadratic.penalty(ctx.parameters, self.anchor, self.importance, strength) if strength else None

    def consolidate(self, ctx: Context, batches: Iterable[Any]) -> None:
        """Add the importances on ``batches``, and hold the current weights."""
        found = importance.sensitivity(ctx, batches, examples=self.examples, generator=self.generator)
        for name, tensor in found.items():
            if name in self.importance:
                tensor.add_(self.importance[name].to(tensor.device))
            self.importance[name] = tensor
        self.anchor |= quadratic.copies(ctx.parameters)
