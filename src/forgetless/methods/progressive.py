"""Progressive networks: a column per task, with lateral connections from the frozen earlier ones."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.core.method import Method
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.modules.columns import Adapter, ColumnNet


class Progressive(Method):
    r"""Progressive neural networks (Rusu et al. 2016, arXiv 1606.04671, Eq. 1 and 2).

    Every task has a column of layers of its own, with weights :math:`\theta^{(k)}`; those of earlier tasks are frozen, and layer
    i > 1 of column k also sees what they have at that place:

    .. math:: h_i^{(k)} = f\Big(W_i^{(k)} h_{i-1}^{(k)} + U_i^{(k)}\, \sigma\big(V_i^{(k)} [\alpha_j h_{i-1}^{(j)}]_{j<k}\big)\Big), \qquad
        \theta^{(k)} \leftarrow \theta^{(k)} - \eta\,u, \quad \theta^{(j)} \leftarrow \theta^{(j)} \ (j < k)

    with ``adapter="mlp"`` (Eq. 2), or :math:`\sum_{j<k} U_i^{(k:j)} h_{i-1}^{(j)}` with ``adapter="linear"`` (Eq. 1).

    What the paper leaves open: each :math:`\alpha_j` is a scalar per earlier column and layer, a normal draw of standard deviation 0.1;
    :math:`\sigma` is the rectifier; V has a bias and as many units as one :math:`h_{i-1}`, for conv layers it is a convolution of
    size 1; new columns and laterals start as torch initialises such layers. Frozen columns run in evaluation mode (no dropout,
    running statistics stand).

    Earlier columns are not trainable, so no other method of a chain sees them. Columns are part of the model's own state: to go on in a
    new process, call `prepare` for every task so far, in order, then load the model's ``state_dict``.

    Memory: a whole column per task and its laterals (each Eq. 2 lateral again as large as the layer that it joins, and V, which
    grows with the number of tasks). Cost: a forward pass of every earlier column.

    Args:
        adapter: ``"mlp"`` or ``"linear"``.
        seed: new columns are drawn from it, the task's index and nothing else.

    Raises:
        InputError: an option is out of range; the task was trained before others; the model is not a feed-forward
            `torch.nn.Sequential` of linear and conv layers, activations, pooling, flattening, dropout and norms.

    Examples:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
        >>> method = Progressive()
        >>> model = method.prepare(method.prepare(net, Task("a", [])), Task("b", [], index=1))
        >>> len(model.columns), model.active
        (2, 1)
    """

    summary: ClassVar[str] = "a new column of layers per task, fed by the frozen earlier ones; earlier tasks stay exact, the model grows"
    source: ClassVar[str] = "Rusu et al. 2016, arXiv 1606.04671, Eq. 1 and 2"
    needs_task_id = True
    owns: ClassVar[str] = "the architecture"
    extra_memory: ClassVar[str] = "a column per task (4 bytes per parameter and task) and its laterals, about as much again"
    extra_compute: ClassVar[str] = "a forward pass of every earlier column"
    scope: ClassVar[str] = "linear and conv layers: a feed-forward nn.Sequential"

    def __init__(self, *, adapter: Adapter = "mlp", seed: int = 0) -> None:
        self.adapter = options.choice("progressive.adapter", adapter, ("mlp", "linear"))
        self.seed = options.seed("progressive.seed", seed)

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        """Wrap the model into its first column, or add a column for a task that has none. Returns the model to train."""
        if not isinstance(model, ColumnNet):
            return ColumnNet(model, task.index)
        if task.index not in model.tasks:
            model.add(task.index, self.adapter, (self.seed * 1_000_003 + task.index * 1_009) % 2**63)
        model.active = model.tasks.index(task.index)
        if model.active < len(model.tasks) - 1:
            raise InputError("its column is frozen", where=f"task {task.name!r}", mend="Give every task of a stream an index of its own")
        return model

    def activate(self, ctx: Context) -> None:
        """Let the column of the task answer; a task without one is answered by the newest."""
        for module in ctx.model.modules():
            if isinstance(module, ColumnNet):
                module.active = module.tasks.index(ctx.task.index) if ctx.task.index in module.tasks else len(module.tasks) - 1
