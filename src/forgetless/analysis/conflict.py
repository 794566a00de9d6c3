"""Where the new data pull against the old: the gradients' similarity, weight by weight, tensor by tensor, example by example."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.analysis.passes import BROKEN, parts, reference, trainable, watching
from forgetless.analysis.places import Place, places
from forgetless.analysis.similarity import Conflict, TensorConflict
from forgetless.analysis.taylor import Step, check_step, direction
from forgetless.core.context import LossFunction, Tree
from forgetless.core.gradients import batch_size
from forgetless.errors import InputError
from forgetless.ops.similarity import BLOCK, MagnitudeSketch, inner
from forgetless.progress import Advance, silent

__all__ = ["Conflict", "TensorConflict", "conflict"]


def conflict(
    model: nn.Module,
    loss_fn: LossFunction,
    retain: Mapping[str, Sequence[Any]],
    inject: Sequence[Any],
    *,
    step: Step = "sgd",
    tensors: Collection[str] | None = None,
    hold_bytes: int | None = None,
    advance: Advance = silent,
) -> Conflict:
    r"""Compare the gradient of the retain set with that of the inject set, and of each of its examples, at the current weights.

    For each weight j, :math:`s_j = g_j(M)\, g_j(I)` (arXiv 2601.21577, Eq. 17); it conflicts where :math:`s_j < 0`. With
    :math:`L_G = \frac1{N_G}\sum_b n_b L_b` over a group's batches of :math:`n_b` examples, :math:`g(M) = \sum_G \frac{N_G}{N} g(G)`
    and :math:`g(I) = \frac{1}{\sum_i n_i} \sum_i n_i\, g(i)`.

    No example's gradient is ever whole: each tensor's inner products are taken as soon as backpropagation has its gradient,
    which is then added to the mean and freed. The references g(G) and g(I) of as many tensors as ``hold_bytes`` allows stand in
    memory at a time, in the parameters' dtype; for the others both sets are walked again. Peak memory: the weights, ``hold_bytes`` (at
    least one tensor's references), the activations, and the gradient of the largest tensor.

    Inner products are exact up to `forgetless.ops.similarity.inner`; signs and sizes of :math:`s_j` are of float64 products, so none
    underflows. Evaluation mode; the model is left as it was.

    Args:
        model: any model.
        loss_fn: ``loss_fn(model, batch)`` gives the mean loss of a batch.
        retain: batches by group; groups may be anything (subjects, files). Walked once for each part of the tensors.
        inject: n batches, weighted by their examples. Walked likewise. Each is a row i of the result: give batches of one example
            (`forgetless.core.predictions.Predictions.examples` cuts larger ones) to rank examples.
        step: whose step the products with single examples are for: ``sgd`` (along :math:`g(i)`) or ``adamw`` (along the first step of Adam,
            `forgetless.analysis.taylor.direction`), which have little to do with each other. Conflict is of the gradients in both.
        tensors: names of the parameters to look at; None takes all trainable ones.
        hold_bytes: None takes the bytes of those weights, or `forgetless.analysis.passes.HOLD_BYTES` if that is more.
        advance: told of every inject example gone through, n times for each part.

    Raises:
        InputError: a set is empty, a loss or a gradient is not finite.
    """
    if not retain or not inject:
        raise InputError("there is no example", where="retain" if not retain else "inject", mend="Give at least one")
    check_step("step", step)
    looked = trainable(model, tensors)
    counts = [sum(batch_size(batch) for batch in batches) for batches in retain.values()]
    if 0 in counts:
        raise InputError("a group holds no example", where=f"retain {list(retain)[counts.index(0)]!r}", mend="Leave it out")
    found = _Found(list(looked), [count / sum(counts) for count in counts], [batch_size(batch) for batch in inject], step)
    for part in parts(looked, len(retain), hold_bytes):
        found.references = [reference(model, loss_fn, part, batches) for batches in retain.values()]
        with watching(model, loss_fn, part, found.visit) as take:
            for found.row, batch in enumerate(inject):
                found.losses[found.row] = take(batch)
                advance(1)
        for name, parameter in part.items():
            found.close(name, parameter)
    return found.result(tuple(retain), tuple(counts), places(model))


class _Found:
    """What the passes leave."""

    def __init__(self, names: list[str], weights: list[float], sizes: list[int], step: Step) -> None:
        self.names, self.weights, self.sizes, self.step, self.row = names, weights, sizes, step, 0
        examples = len(sizes)
        self.column = {name: index for index, name in enumerate(names)}
        self.by_tensor = torch.zeros(examples, len(names), dtype=torch.float64)
        self.by_group = torch.zeros(examples, len(weights), dtype=torch.float64)
        self.squares = torch.zeros(examples, dtype=torch.float64)
        self.losses = torch.zeros(examples, dtype=torch.float64)
        self.norms = torch.zeros(len(weights), dtype=torch.float64)
        self.retain = self.inject = 0.0
        self.tensors: dict[str, TensorConflict] = {}
        self.sketch = MagnitudeSketch()
        self.references: list[Tree] = []  # of this part, one a group
        self.total: Tree = {}  # of this part: the sum of the examples' gradients

    def visit(self, name: str, grad: Tensor) -> None:
        """Take in the gradient of one example in one tensor."""
        column, row = self.column[name], self.row
        along = direction(grad, self.step)
        for group, tree in enumerate(self.references):
            if name in tree:
                product = float(inner(tree[name], along))
                self.by_group[row, group] += product
                self.by_tensor[row, column] += self.weights[group] * product
        self.squares[row] += float(inner(along, along))
        size = self.sizes[row]
        if name in self.total:
            self.total[name].add_(grad, alpha=size)
        else:
            self.total[name] = grad.mul_(size) if size > 1 else grad  # ours from here on: it is taken away from the parameter

    def close(self, name: str, parameter: nn.Parameter) -> None:
        r"""Work out :math:`s_j` in a tensor whose gradients are complete, and let go of them."""
        own = [tree.pop(name) if name in tree else None for tree in self.references]
        for group, tensor in enumerate(own):
            if tensor is not None:
                self.norms[group] += float(inner(tensor, tensor))
        inject = self.total.pop(name, None)
        numel, conflicting, product, size = parameter.numel(), 0, 0.0, 0.0
        zeros_before = self.sketch.zeros
        for start in range(0, numel, BLOCK):
            stop = min(numel, start + BLOCK)
            m = torch.zeros(stop - start, dtype=torch.float64, device=parameter.device)
            for weight, tensor in zip(self.weights, own, strict=True):
                if tensor is not None:
                    m += weight * tensor.reshape(-1)[start:stop].double()
            i = torch.zeros_like(m) if inject is None else inject.reshape(-1)[start:stop].double() / sum(self.sizes)
            self.retain += float(m.dot(m))
            self.inject += float(i.dot(i))
            s = m.mul_(i)
            if not torch.isfinite(s).all():
                raise InputError(
                    f"the gradient of {name!r} is not finite",
                    where="model",
                    mend=BROKEN,
                )
            conflicting += int((s < 0).sum())
            product += float(s.sum())
            size += float(s.abs().sum())
            self.sketch.add(s)
        self.tensors[name] = TensorConflict(name, numel, conflicting, self.sketch.zeros - zeros_before, product, size)

    def result(self, groups: tuple[str, ...], counts: tuple[int, ...], where: dict[str, Place]) -> Conflict:
        ordered = tuple(self.tensors[name] for name in self.names)
        return Conflict(
            step=self.step,
            groups=groups,
            examples_retain=counts,
            places={name: where[name] for name in self.names},
            similarity=math.fsum(tensor.inner for tensor in ordered),
            norm_retain=math.sqrt(self.retain),
            norm_inject=math.sqrt(self.inject),
            norm_groups=self.norms.sqrt(),
            tensors=ordered,
            sketch=self.sketch,
            by_tensor=self.by_tensor,
            by_group=self.by_group,
            norms=self.squares.sqrt(),
            losses=self.losses,
        )
