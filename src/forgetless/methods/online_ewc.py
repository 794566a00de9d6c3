"""Online EWC: one running Fisher that forgets gradually, and the latest weights."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from torch import Tensor

from forgetless.core import importance, options
from forgetless.core.context import Context, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.ops import quadratic


class OnlineEWC(importance.Consolidating, Adjustable):
    r"""Online EWC (Schwarz et al. 2018, arXiv 1805.06370, section 3.2): one penalty at the latest weights, with a decaying Fisher.

    .. math:: \tilde L(\theta) = L(\theta) + \frac{\text{strength}}{2} \sum_i \tilde F_i (\theta_i - \theta^*_i)^2,
        \qquad \tilde F \leftarrow \gamma \tilde F + F^k, \quad \theta^* \leftarrow \theta

    at the end of each task k, with its diagonal Fisher information :math:`F^k` there, of each example's own gradient (see `ewc`).
    With :math:`\gamma < 1` old tasks are gradually given up for new ones, so the weights do not stiffen without end.

    Deviations from the paper: its penalty multiplies :math:`\tilde F` by :math:`\gamma` once more, a constant factor that
    ``strength`` holds here; the Fisher of a task is not normalised, and the log-likelihood is of the model's outputs. Without an
    earlier task ``task.retain`` stands for one, as in `ewc`.

    Memory: 8 bytes per parameter. Cost: element-wise per step; at the end of a task a forward and backward pass for each of
    ``examples`` examples, one by one.

    Args:
        strength: :math:`\lambda`; sweep it by factors of ten, or let ``"auto"`` find it as a task begins (`Adjustable`).
        gamma: from 0 (only the last task counts) to 1 (no decay).
        labels: ``"model"``: labels drawn from the model's distribution; ``"data"``: the true labels (the empirical Fisher).
        examples: how many examples to draw for the Fisher; None takes all.
        seed: of the generator that draws labels and examples.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> OnlineEWC(gamma=0.9).gamma
        0.9
    """

    state_names: ClassVar[tuple[str, ...]] = ("fisher", "anchor", "draws", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("fisher", "anchor")
    label: ClassVar[str] = "online-ewc.strength"
    summary: ClassVar[str] = (
        "as ewc, with one running Fisher that decays by gamma: keeps learning over many tasks, gives old ones up gradually"
    )
    source: ClassVar[str] = "Schwarz et al. 2018, arXiv 1805.06370, section 3.2"
    extra_memory: ClassVar[str] = "8 bytes per parameter"
    extra_compute: ClassVar[str] = "element-wise; once a task a forward and backward pass for each of `examples` examples"

    def __init__(
        self,
        *,
        strength: float | Literal["auto"] = 10.0,
        gamma: float = 0.95,
        labels: importance.Labels = "model",
        examples: int | None = 200,
        seed: int = 0,
    ) -> None:
        super().__init__("online-ewc", examples, seed)
        self.strength = number_or_auto(self.label, strength)
        self.gamma = options.number("online-ewc.gamma", gamma, high=1.0)
        self.labels = options.choice("online-ewc.labels", labels, ("model", "data"))
        self.fisher: Tree = {}

    def protects(self, ctx: Context) -> bool:
        return bool(self.anchor)

    def penalty(self, ctx: Context) -> Tensor | None:
        strength = self.in_force(ctx)
        return quadratic.penalty(ctx.parameters, self.anchor, self.fisher, strength / 2) if strength else None

    def consolidate(self, ctx: Context, batches: Iterable[Any]) -> None:
        """Let the running Fisher take in the task that ``batches`` are of, at the current weights."""
        found = importance.fisher(ctx, batches, labels=self.labels, examples=self.examples, generator=self.generator)
        for name, fisher in found.items():
            if name in self.fisher:
                fisher.add_(self.fisher[name].to(fisher.device), alpha=self.gamma)
            self.fisher[name] = fisher
        self.anchor |= quadratic.copies(ctx.parameters)
