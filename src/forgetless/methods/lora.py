"""LoRA: train a low-rank addition to frozen weights, one for each task or one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
from torch import nn

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.core.method import Method
from forgetless.core.task import Task
from forgetless.modules import adapters


class LoRA(Method):
    r"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685, Eq. 3), through PEFT.

    The weights :math:`\theta_0` of every linear layer are frozen; beside each stands a product of two thin matrices,

    .. math:: \theta = \theta_0 + \frac{\alpha}{r} B A, \qquad
        B \in \mathbb{R}^{out \times r},\ A \in \mathbb{R}^{r \times in},\quad B \leftarrow 0 \text{ at the start},

    and only :math:`A` and :math:`B` are trained. With one adapter a task nothing that an earlier task uses ever changes, so
    its outputs stay the same bit for bit; the task must be known at use. Merged, each task's product is added to
    :math:`\theta_0` when the next begins, and the task need not be known: forgetting is then limited by the rank alone.

    Deviations from the paper: all linear layers are adapted (theirs: the attention's query and value), as the later
    literature recommends, but for a language model's output layer and tied weights; no dropout by default (the CPL paper's
    LoRA runs have r=16, alpha=32, dropout 0.05; theirs drops inputs at random, so results depend on gradient accumulation).
    Biases, norms and embeddings are frozen. A task that has no adapter is answered by the model as it came.

    Memory: :math:`r (in + out)` weights a layer and task, with gradients and optimizer state for one task only: usually under
    1% of a language model. Cost: two thin products a layer.

    Args:
        rank: the rank r.
        alpha: the product's factor is alpha / rank.
        dropout: the share of a layer's inputs that the adapter does not see in training, from 0 to 0.99.
        target: ``"all-linear"``, or names of layers, such as ``("q_proj", "v_proj")``.
        adapter: ``"per-task"`` or ``"merged"``.
        seed: of the random start of A.

    Raises:
        InputError: an option is out of range, PEFT is missing, or the model has no layer to adapt.

    Examples:
        >>> method = LoRA(rank=2)
        >>> model = method.prepare(nn.Sequential(nn.Linear(4, 3)), Task("new", []))
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['0.lora_A.task0.weight', '0.lora_B.task0.weight']
    """

    state_names: ClassVar[tuple[str, ...]] = ("tasks",)
    summary: ClassVar[str] = (
        "freezes the model and trains a low-rank addition a task; earlier tasks are kept exactly where the task is known"
    )
    source: ClassVar[str] = "Hu et al. 2021, arXiv 2106.09685, Eq. 3"
    needs_task_id = True
    extra_memory: ClassVar[str] = "rank x (in + out) weights a linear layer and task; gradients and moments of the current task's only"
    extra_compute: ClassVar[str] = "two thin products a linear layer"
    scope: ClassVar[str] = "any model: with linear layers"
    owns: ClassVar[str] = "the architecture"

    def __init__(
        self,
        *,
        rank: int = 16,
        alpha: float = 32.0,
        dropout: float = 0.0,
        target: str | Sequence[str] = adapters.ALL_LINEAR,
        adapter: Literal["per-task", "merged"] = "per-task",
        seed: int = 0,
    ) -> None:
        self.rank = options.whole("lora.rank", rank)
        self.alpha = options.number("lora.alpha", alpha, above=True)
        self.dropout = options.number("lora.dropout", dropout, high=0.99)
        self.target = adapters.check_target("lora.target", target)
        self.adapter = options.choice("lora.adapter", adapter, ("per-task", "merged"))
        self.seed = options.seed("lora.seed", seed)
        self.needs_task_id = adapter == "per-task"
        self.tasks: list[int] = []

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        adapters.refuse_foreign(model, "task" if self.adapter == "per-task" else "merged")
        if self.adapter == "merged":
            adapters.unload(model)
        self.tasks = sorted({*self.tasks, task.index})
        for index in self.tasks if self.adapter == "per-task" else [task.index]:
            self._add(model, index)
        adapters.select(model, self._name(task.index), train=True)
        return model

    def _add(self, model: nn.Module, index: int) -> None:
        """Put the adapter of a task on the model unless it is there."""
        from peft import LoraConfig
        from transformers.pytorch_utils import Conv1D

        name = self._name(index)
        there = dict(adapters.layers(model))
        if any(name in layer.lora_A for layer in there.values()):
            return
        targets = there or adapters.linears(model, self.target, (nn.Linear, Conv1D))
        turned = any(isinstance(getattr(layer, "base_layer", layer), Conv1D) for layer in targets.values())
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, lora_dropout=self.dropout, fan_in_fan_out=turned)
        with torch.random.fork_rng(sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})):
            torch.manual_seed((self.seed * 1_000_003 + index) % 2**63)
            adapters.inject(model, config, name, list(targets))

    def activate(self, ctx: Context) -> None:
        if self.adapter == "per-task":
            adapters.select(ctx.model, self._name(ctx.task.index))

    def export(self, model: nn.Module) -> nn.Module:
        """The plain model with the adapter in use added to its weights (in place: training cannot go on with it)."""
        return adapters.unload(model)

    def _name(self, index: int) -> str:
        return f"task{index}" if self.adapter == "per-task" else "merged"
