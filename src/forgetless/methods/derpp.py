"""Dark Experience Replay++: hold the logits of stored examples, and their labels."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.memory.dark import DarkReplay


class DERpp(DarkReplay):
    r"""Dark Experience Replay++ (Buzzega et al. 2020, arXiv 2004.07211, Eq. 6).

    A reservoir M holds examples of the whole past stream with their labels y, and the logits z that the model h gave them
    when they came by. Two batches are drawn independently:

    .. math:: \theta \leftarrow \theta - \eta\, \nabla_\theta \Big( L(\theta; B) +
        \alpha\, \mathbb{E}_{(x', z') \sim M} \lVert z' - h_\theta(x') \rVert_2^2 +
        \beta\, \mathbb{E}_{(x'', y'') \sim M} L(\theta; x'', y'') \Big)

    with the squared norm as the mean over units (and over the labelled positions of a language model), as in the official
    code, so its values of :math:`\alpha` and :math:`\beta` can be used; Eq. 6 writes the sum. The first distance compares all units,
    also those that a task's ``active`` rules out; the loss on labels in the class setting scores against all classes so far
    (`Predictions.update_active`). Examples of the running task are replayed too.

    Each batch drawn is as large as the micro-batch. Deviations from the official code: drawn with replacement (theirs: without,
    within a batch), so that gradient accumulation makes no difference; the stored input is the one trained on (theirs: before
    augmentation). ``task.retain``, where given, is offered to the reservoir at the beginning of the task.

    Memory: capacity examples with their logits, on the CPU. For a language model those are vocabulary size × labelled positions
    numbers an example (50 positions of 49,152 units in fp32: 10 MB). Cost: forward and backward on two more batches.

    Args:
        alpha: weight of the distance between logits.
        beta: weight of the loss on the stored labels.
        capacity: examples held.
        seed: of the reservoir.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> DERpp(beta=1.0, capacity=200).memory.capacity
        200
    """

    summary: ClassVar[str] = "replays stored examples with their labels and the logits of their time; strong where old data may be kept"
    source: ClassVar[str] = "arXiv 2004.07211, Eq. 6"
    extra_compute: ClassVar[str] = "forward and backward on two more batches"

    def __init__(self, *, alpha: float = 0.5, beta: float = 0.5, capacity: int = 500, seed: int = 0) -> None:
        super().__init__("derpp", capacity, seed)
        self.alpha = options.number("derpp.alpha", alpha)
        self.beta = options.number("derpp.beta", beta)

    def replayed(self, ctx: Context, batch: Any) -> Tensor | None:
        places = self.memory.draw_own(ctx, batch, 2)  # in turn for either, whatever the size of a micro-batch
        total: Tensor | None = None
        if self.alpha:
            total = self.alpha * self.memory.distance(ctx, places[0::2])
        if self.beta:
            labelled = self.beta * self.memory.labelled_loss(ctx, places[1::2], batch)
            total = labelled if total is None else total + labelled
        return total
