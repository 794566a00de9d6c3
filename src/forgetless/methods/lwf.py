"""Learning without Forgetting: on the new inputs, keep answering as the old model did."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.core.teacher import kept_groups, snapshot, teacher_logits
from forgetless.ops.distillation import grouped


class LwF(Adjustable):
    r"""Learning without Forgetting (Li & Hoiem 2017, arXiv 1606.09282, Eq. 1-3): distillation on the new inputs.

    With the teacher's logits :math:`t` (the model as the task began, weights :math:`\theta^*`) and the logits :math:`s` of
    :math:`\theta` on the same new inputs, the loss gains, as the mean over rows and over the groups g of earlier output units,

    .. math:: \lambda \, T^2 \cdot \frac{1}{|G|} \sum_{g \in G} -\sum_{i \in g}
        \mathrm{softmax}_g(t/T)_i \, \log \mathrm{softmax}_g(s/T)_i

    The paper's :math:`y'^{(1/T)} / \sum_j y_j'^{(1/T)}` of Eq. 3 is this softmax at temperature T.

    Deviations from the paper: the factor :math:`T^2`, which keeps the gradient's size (Hinton 2015; as in van de Ven &
    Tolias 2019), so the paper's :math:`\lambda_o` is ``strength * temperature**2``; the mean over the old tasks' heads,
    not the sum; no warm-up phase in which only the new head is trained; weight decay is left to the optimizer.

    Groups come from ``task.earlier_heads``; None is one group of all units (a language model's vocabulary). Where there are none, in the
    first task of a stream of classifications, there is nothing to keep, unless ``task.retain`` shows that there is old data; it is not
    read otherwise.

    Memory: a copy of the trainable weights and buffers (4 bytes per parameter in fp32; none with LoRA adapters that begin at zero).
    Cost: one more forward pass over each batch, and one for the model's own logits where the user's outputs hold none.

    Args:
        strength: :math:`\lambda`; ``"balanced"`` takes the number of earlier tasks (at least 1), the ratio of van de Ven & Tolias,
            who weigh the new loss with 1/n and this with 1 - 1/n in task n; ``"auto"`` finds it as a task begins (`Adjustable`).
        temperature: T; the paper's is 2.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> LwF(temperature=2.0).strength
        1.0
    """

    state_names: ClassVar[tuple[str, ...]] = ("teacher", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("teacher",)
    label: ClassVar[str] = "lwf.strength"
    summary: ClassVar[str] = "keeps the old model's answers on the new inputs; needs no old data, works best where new inputs are like old"
    source: ClassVar[str] = "arXiv 1606.09282, Eq. 1-3"
    extra_memory: ClassVar[str] = "4 bytes per trainable parameter (fp32): the old model"
    extra_compute: ClassVar[str] = "a forward pass of the old model"

    def __init__(self, *, strength: float | Literal["balanced", "auto"] = 1.0, temperature: float = 2.0) -> None:
        self.strength = strength if strength == "balanced" else number_or_auto(self.label, strength)
        self.temperature = options.number("lwf.temperature", temperature, above=True)
        self.teacher: Tree = {}

    def begin_task(self, ctx: Context) -> None:
        self.teacher = snapshot(ctx.model) if self.strength and kept_groups(ctx.task) else {}

    def numbers(self, ctx: Context) -> tuple[float, ...]:
        # one softmax over old and new answers: from about 1 / T on, the old ones stay the likelier
        return (0.1, 0.3, 1.0, 3.0) if ctx.task.earlier_heads else (0.1 / self.temperature, 0.3 / self.temperature, 0.9 / self.temperature)

    def protects(self, ctx: Context) -> bool:
        return bool(self.teacher)

    def in_force(self, ctx: Context) -> float:
        balanced = self.strength == "balanced" and self.found is None
        return float(max(1, ctx.task.index)) if balanced else super().in_force(ctx)

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        strength = self.in_force(ctx)
        if not self.teacher or not strength:
            return None
        read = ctx.task.predictions
        student = read.logits(read.outputs(ctx.model, batch) if outputs is None else outputs, batch, every=True)
        teacher = teacher_logits(ctx.model, self.teacher, batch, read)  # on every process, whatever its batch holds
        factor = ctx.balance(len(student))
        if not len(student):
            return None
        return factor * strength * grouped(student, teacher, kept_groups(ctx.task), self.temperature)
