"""Dark Experience Replay: hold the logits of stored examples."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.memory.dark import DarkReplay


class DER(DarkReplay):
    r"""Dark Experience Replay (Buzzega et al. 2020, arXiv 2004.07211, Eq. 5).

    A reservoir M holds examples of the whole past stream, each with the logits z that the model h gave it when it came by:

    .. math:: \theta \leftarrow \theta - \eta\, \nabla_\theta \Big( L(\theta; B) +
        \alpha\, \mathbb{E}_{(x, z) \sim M} \lVert z - h_\theta(x) \rVert_2^2 \Big)

    with the squared norm as the mean over units (and over the labelled positions of a language model), as in the official
    code, so its values of :math:`\alpha` can be used; Eq. 5 writes the sum. All units are compared, also those that a
    task's ``active`` rules out. It needs no labels and no end of a task: examples of the running task are replayed too.

    The batch drawn is as large as the micro-batch. Deviations from the official code: drawn with replacement (theirs: without,
    within a batch), so that gradient accumulation makes no difference; the stored input is the one trained on (theirs: before
    augmentation). Batches with ``active`` do not train the units of later classes, so their stored logits are those of chance, where
    the official code has trained them down: alone DER then keeps less than in the paper; take DER++. ``task.retain``, where given,
    is offered to the reservoir at the beginning of the task.

    Memory: capacity examples with their logits, on the CPU. For a language model those are vocabulary size × labelled positions
    numbers an example (50 positions of 49,152 units in fp32: 10 MB). Cost: forward and backward on a second batch.

    Args:
        alpha: weight of the distance between logits.
        capacity: examples held.
        seed: of the reservoir.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> DER(alpha=0.3, capacity=200).memory.capacity
        200
    """

    summary: ClassVar[str] = "replays stored examples with the logits of their time; for streams without clear tasks, no labels needed"
    source: ClassVar[str] = "arXiv 2004.07211, Eq. 5"
    extra_compute: ClassVar[str] = "a second forward and backward"

    def __init__(self, *, alpha: float = 0.5, capacity: int = 500, seed: int = 0) -> None:
        super().__init__("der", capacity, seed)
        self.alpha = options.number("der.alpha", alpha)

    def replayed(self, ctx: Context, batch: Any) -> Tensor | None:
        if not self.alpha:
            return None
        return self.alpha * self.memory.distance(ctx, self.memory.draw_own(ctx, batch, 1))
