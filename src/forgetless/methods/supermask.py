"""Supermasks: the weights stay as they are; each task learns which of them to use."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import nn

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.modules.masked import Kind, bake, mask_layers, masks_of
from forgetless.ops.masks import pack_bits, unpack_bits


class Supermask(Method):
    r"""Supermasks (SupSup: Wortsman et al. 2020, arXiv 2006.14769, section 3; Piggyback: Mallya et al. 2018, arXiv 1801.06519, Eq. 1-4).

    The weights :math:`\theta` of linear and conv layers, random or pretrained, are frozen; a layer computes with
    :math:`\theta \odot m(s)`, and the scores s are learned, their gradient passing straight through the mask m:

    .. math:: s \leftarrow s - \eta\,u\Big(\theta \odot \frac{\partial L}{\partial (\theta \odot m)}\Big), \qquad
        m_j = \mathbb{1}[s_j > \tau] \text{ (threshold)} \quad\text{or}\quad \mathbb{1}[|s_j| \text{ among the top share of its layer}]

    At the end of a task its masks are kept, in one bit per weight. The weights never change by a bit.

    Deviations: all other parameters (biases, norms, embeddings, a tied output layer) are frozen too, the output layer has
    a mask like any other (Piggyback trains a head per task, SupSup has no biases and norms without parameters); the weights are
    the model's own (SupSup draws signed constants: give such a model for that); the task is given (SupSup can also infer it).
    The scores of ``kind="threshold"`` begin at 0.01, so every weight counts at first: the untouched model is the base model. Those
    of ``kind="topk"`` begin as uniform draws, as in SupSup. At learning rates far below 0.001 few scores cross the threshold.

    Memory: a score per weight, the masked copy of the weights in the forward pass, 1 bit per weight and task. Cost: the masks of
    each forward pass: a comparison ("threshold") or a sort of every layer ("topk").

    Args:
        kind: ``"threshold"`` for pretrained weights, ``"topk"`` for random ones.
        share: the share of each layer's weights, in (0, 1), that ``"topk"`` uses.
        threshold: :math:`\tau` of ``"threshold"``, at least 0 and below 0.01, with which the scores begin.
        start: the scores of a later task begin ``"fresh"``, or where those of the ``"last"`` one ended.
        seed: the scores of ``"topk"`` are drawn from it, the task's index and nothing else.

    Raises:
        InputError: an option is out of range; the model has no linear or conv layer of its own.

    Examples:
        >>> model = Supermask().prepare(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)), Task("a", []))
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['0.parametrizations.weight.0.score', '2.parametrizations.weight.0.score']
    """

    state_names: ClassVar[tuple[str, ...]] = ("masks",)
    summary: ClassVar[str] = "leaves every weight as it is and learns, for each task, which of them to use; 1 bit per weight and task"
    source: ClassVar[str] = "Wortsman et al. 2020, arXiv 2006.14769; Mallya et al. 2018, arXiv 1801.06519"
    needs_task_id = True
    owns: ClassVar[str] = "the architecture"
    needs_whole_weights: ClassVar[str] = "a mask is chosen over the scores of a whole layer"
    extra_memory: ClassVar[str] = "a score per weight (its own size) and 1 bit per weight and task"
    extra_compute: ClassVar[str] = "masks in every forward pass: a comparison, or a sort of every layer"
    scope: ClassVar[str] = "linear and conv layers: those of any model"

    def __init__(
        self,
        *,
        kind: Kind = "threshold",
        share: float = 0.5,
        threshold: float = 5e-3,
        start: Literal["fresh", "last"] = "fresh",
        seed: int = 0,
    ) -> None:
        self.kind = options.choice("supermask.kind", kind, ("threshold", "topk"))
        self.share = options.number("supermask.share", share, above=True, below=1.0)
        self.threshold = options.number("supermask.threshold", threshold, below=0.01)
        self.start = options.choice("supermask.start", start, ("fresh", "last"))
        self.seed = options.seed("supermask.seed", seed)
        self.masks: dict[str, Tree] = {}  # by the index of a finished task: the packed mask of every layer

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        """Freeze the weights and give every linear and conv layer a score per weight. Returns the model to train."""
        found = dict(masks_of(model)) or mask_layers(model, self.kind, self.share, self.threshold)
        if not found:
            raise InputError("the model has no linear or conv layer of its own to mask", where="supermask", mend="Use lora or packnet")
        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + task.index) % 2**63)
        for mask in found.values():
            mask.fixed = None
            if mask.task is None or (mask.task != task.index and self.start == "fresh"):
                mask.reset(draw)
            mask.task = task.index
        return model

    def begin_task(self, ctx: Context) -> None:
        self.masks = {task: masks for task, masks in self.masks.items() if task != str(ctx.task.index)}
        self.activate(ctx)

    def end_task(self, ctx: Context) -> None:
        self.masks = self.masks | {str(ctx.task.index): {name: pack_bits(mask.mask()) for name, mask in masks_of(ctx.model)}}

    def activate(self, ctx: Context) -> None:
        """Use the masks kept of the task; of a task that is not finished, or not begun, those of the scores."""
        kept = self.masks.get(str(ctx.task.index))
        for name, mask in masks_of(ctx.model):
            mask.fixed = None if kept is None else unpack_bits(kept[name].to(mask.score.device), mask.score.shape)

    def export(self, model: nn.Module) -> nn.Module:
        """The same model with plain layers, which hold the weights as the masks in use show them (activate a task first). In place."""
        return bake(model)
