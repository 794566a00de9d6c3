"""Orthogonal subspace fine-tuning: train only the small singular directions of every weight matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import torch
from torch import nn

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.modules import adapters, subspace

NAME = "osf"
DIRECTIONS = 4


class OSF(Method):
    r"""Orthogonal subspace fine-tuning (Nayak et al. 2025, arXiv 2504.07097, Sec. 3), through PEFT.

    At the start of every task each weight matrix is decomposed; its large singular directions, which carry what is known,
    are frozen, and the small ones are trained at right angles to them:

    .. math:: \theta = U_h S_h V_h^\top + U S V^\top, \qquad U_h^\top U = 0,\quad V_h^\top V = 0,

    so that :math:`U_h^\top \Delta\theta = 0` and :math:`\Delta\theta\, V_h = 0`. When the next task begins the product is added to the
    weight and decomposed anew. The task need not be known at use, and no old data are needed.

    The constraint: PEFT projects gradients, which holds under plain gradient descent only; an AdamW step puts 0.5% of the
    change into the protected subspace. Here the trained matrices themselves are projected wherever they are used (in
    PEFT's forward pass and its merging), so it holds under any optimizer and beside any other method, such as one that
    freezes single weights. It is measured: after every step along random directions (``osf_protected_share`` in the
    metrics: the worst layer), and exactly on the steps that the session audits (`violation`): the share
    :math:`(\lVert U_h^\top\Delta\theta\rVert^2 + \lVert\Delta\theta V_h\rVert^2) / \lVert\Delta\theta\rVert^2` since the start of
    the task. A change smaller than 4096 roundings of :math:`U S V^\top` (5e-4 of it in fp32) is measured against that much.

    Deviations from the paper: one share of protected directions for all layers and tasks (theirs: by the layer's importance).
    Biases, norms, embeddings, a language model's output layer and tied weights are frozen. The decomposition is made in fp32.

    Memory: beside the frozen weight its small factors (about the size of the weight where it is square), their start, and a
    basis; gradients and moments of the factors. Cost: a decomposition a task; in every forward pass the factored product
    (about twice the layer's own work) and the projections.

    Args:
        preserved: the share of the singular directions that is protected, above 0 and up to 0.99.
        target: ``"all-linear"``, or names of layers.

    Raises:
        InputError: an option is out of range, PEFT is missing, or the model has no layer to adapt.

    Examples:
        >>> method = OSF(preserved=0.5)
        >>> model = method.prepare(nn.Sequential(nn.Linear(6, 4)), Task("new", []))
        >>> [tuple(parameter.shape) for parameter in model.parameters() if parameter.requires_grad]
        [(2,), (4, 2), (2, 6)]
    """

    summary: ClassVar[str] = "trains only the small singular directions of every weight matrix, at right angles to the large ones"
    source: ClassVar[str] = "Nayak et al. 2025, arXiv 2504.07097, Sec. 3"
    extra_memory: ClassVar[str] = "the factors of each adapted matrix, their start and a basis: about 3 times the matrix at preserved=0.5"
    extra_compute: ClassVar[str] = "a decomposition a task; about twice the layers' work, and projections"
    scope: ClassVar[str] = "any model: with linear layers"
    owns: ClassVar[str] = "the architecture"
    tolerance: ClassVar[float] = 1e-6
    needs_whole_weights: ClassVar[str] = "it projects whole matrices, also outside of the forward pass"

    def __init__(self, *, preserved: float = 0.5, target: str | Sequence[str] = adapters.ALL_LINEAR) -> None:
        self.preserved = options.number("osf.preserved", preserved, above=True, high=0.99)
        self.target = adapters.check_target("osf.target", target)
        self._worst = (-1, 0.0)  # the step that was measured last, and the largest share found in it

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        adapters.refuse_foreign(model, NAME)
        adapters.unload(model)
        from peft import OSFConfig

        found = adapters.linears(model, self.target, (nn.Linear,))
        found = {name: layer for name, layer in found.items() if int(min(layer.weight.shape) * self.preserved) >= 1}
        if not found:
            raise InputError("no layer has a direction to protect", where="osf.preserved", mend="Give a larger share")
        raised = {layer: layer.weight.data for layer in found.values() if layer.weight.dtype in (torch.float16, torch.bfloat16)}
        for layer, weight in raised.items():
            layer.weight.data = weight.float()  # what is decomposed in half precision would not be orthogonal
        adapters.inject(model, OSFConfig(effective_rank=self.preserved), NAME, list(found))
        for layer, weight in raised.items():
            layer.weight.data = weight
        for _, layer in adapters.layers(model):
            subspace.constrain(layer, NAME)
        return model

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        for layer in _finished(ctx, after):
            step, worst = self._worst
            found = subspace.share(layer, NAME, directions=DIRECTIONS)
            self._worst = (ctx.step, max(worst, found) if step == ctx.step else found)
            ctx.report("osf_protected_share", self._worst[1])
        return after

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        return max((subspace.share(layer, NAME) for layer in _finished(ctx, written)), default=None)

    def export(self, model: nn.Module) -> nn.Module:
        """The plain model, with the factors added to its weights (in place: training cannot go on with it)."""
        return adapters.unload(model)


def _finished(ctx: Context, chunk: Tree) -> Iterator[Any]:
    """The layers whose last trained tensor is in this chunk."""
    for name in chunk:
        layer, found, _ = name.partition(f".osf_svd_params.{NAME}.parametrizations.V_low.")
        last = found and ctx.offsets.get(name, 0) + chunk[name].numel() == ctx.parameters[name].numel()
        if last:
            yield ctx.model.get_submodule(layer)
