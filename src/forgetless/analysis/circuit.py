"""Which attention heads and MLP blocks carry an answer, and whether they still do: attribution patching and circuit stability."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.analysis.correlation import spearman
from forgetless.analysis.passes import BROKEN, finite
from forgetless.core.context import LossFunction
from forgetless.core.gradients import quiet
from forgetless.errors import InputError

OUTPUTS = ("o_proj", "out_proj", "c_proj", "wo", "dense")
"""What the linear layer behind the heads of an attention module is called."""
BLOCKS = ("mlp", "ffn", "feed_forward", "block_sparse_moe")
"""What an MLP block is called."""


@dataclass(frozen=True, slots=True)
class Component:
    """A place whose activation is looked at.

    Attributes:
        name: of the module.
        kind: ``heads`` (the input of the attention's output layer, cut into heads) or ``MLP`` (the output of the block).
        parts: how many components it holds: the heads, or 1.
    """

    name: str
    kind: str
    parts: int


def components(model: nn.Module) -> list[Component]:
    """The attention heads and MLP blocks of a transformer, in the order of its modules.

    Raises:
        InputError: there is none, or the number of heads is not told by ``model.config.num_attention_heads``.
    """
    found = []
    heads = getattr(getattr(model, "config", None), "num_attention_heads", None)
    for name, module in model.named_modules():
        last = name.rpartition(".")[2]
        if "attention" in type(module).__name__.lower():
            output = next((child for child, layer in module.named_children() if child in OUTPUTS and _weighted(layer)), None)
            if output is not None:
                if not isinstance(heads, int) or heads < 1:
                    raise InputError("its config names no num_attention_heads", where="model", mend="Give a transformer whose config does")
                found.append(Component(f"{name}.{output}", "heads", heads))
        elif last in BLOCKS:
            found.append(Component(name, "MLP", 1))
    if not found:
        known = f"attention modules with {', '.join(OUTPUTS)}, blocks called {', '.join(BLOCKS)}"
        raise InputError("no attention head and no MLP block is found in it", where="model", mend=f"Known are {known}")
    return found


def circuit(
    model: nn.Module, loss_fn: LossFunction, pairs: Sequence[tuple[Any, Any]], *, places: Sequence[Component] | None = None
) -> Tensor:
    r"""The effect of each component on the loss, by attribution patching (Nanda 2023; Syed et al. 2023, arXiv 2310.10348).

    For each pair of a clean and a corrupted batch, and each component c with the activation :math:`a_c`,

    .. math:: e_c = \Big\langle a_c(\text{corrupted}) - a_c(\text{clean}),\; \frac{\partial L(\text{clean})}{\partial a_c} \Big\rangle,

    the first-order change of the loss on the clean batch if the corrupted activation took the clean one's place, summed over positions and
    examples; the mean over the pairs. A head's activation is its part of the input of the attention's output layer.

    Args:
        model: a transformer.
        loss_fn: mean loss of a batch.
        pairs: batches whose inputs have the same shape, position by position.
        places: None takes `components`.

    Returns:
        float64 of shape (sum of the components' parts,), in their order.

    Raises:
        InputError: there is no pair, the shapes of one differ, or a loss is not a finite scalar.
    """
    if not pairs:
        raise InputError("there is no pair", where="circuit", mend="Give at least one")
    chosen = components(model) if places is None else list(places)
    total = torch.zeros(sum(place.parts for place in chosen), dtype=torch.float64)
    for clean, corrupted in pairs:
        other = activations(model, loss_fn, corrupted, chosen)
        total += _effects(model, loss_fn, clean, other, chosen)
    return total / len(pairs)


def circuit_change(
    before: nn.Module, after: nn.Module, loss_fn: LossFunction, batches: Sequence[Any], *, places: Sequence[Component] | None = None
) -> Tensor:
    r"""The same for two models on the same inputs.

    .. math:: e_c = \Big\langle a_c(\text{after}) - a_c(\text{before}),\; \frac{\partial L(\text{before})}{\partial a_c} \Big\rangle

    To first order, how much the change of each component's activation alone changed the loss of the model ``before``.

    Args:
        before, after: transformers of one architecture.
        loss_fn, places: as for `circuit`.
        batches: the inputs.

    Returns:
        float64 of shape (components,).

    Raises:
        InputError: as `circuit`, or the two models have different components.
    """
    chosen = components(before) if places is None else list(places)
    if places is None and components(after) != chosen:
        raise InputError("the two models have different components", where="after", mend="Compare a model with one fine-tuned from it")
    if not batches:
        raise InputError("there is no batch", where="circuit", mend="Give at least one")
    total = torch.zeros(sum(place.parts for place in chosen), dtype=torch.float64)
    for batch in batches:
        total += _effects(before, loss_fn, batch, activations(after, loss_fn, batch, chosen), chosen)
    return total / len(batches)


def stability(one: Tensor, other: Tensor) -> float | None:
    """Spearman's rank correlation of two circuit vectors: 1 where the same components carry the answers in the same order.

    None where one does not vary, or holds fewer than three components.

    Raises:
        InputError: their lengths differ.
    """
    if one.shape != other.shape:
        raise InputError(f"{len(one)} and {len(other)} components", where="circuits", mend="Compare circuits of one architecture")
    return spearman(one.tolist(), other.tolist())


def corrupted_pairs(batches: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each batch paired with the same batch whose inputs are those of the next example (of the last: the first).

    So the clean answers are asked of another example's question, position by position; labels and mask stay those of the clean one.
    What has no ``input_ids``, or one example only, is left out.
    """
    usable = [batch for batch in batches if isinstance(batch, Mapping) and "input_ids" in batch and batch["input_ids"].shape[0] > 1]
    return [(batch, {**batch, "input_ids": batch["input_ids"].roll(-1, 0)}) for batch in usable]


def activations(model: nn.Module, loss_fn: LossFunction, batch: Any, places: Sequence[Component]) -> list[Tensor]:
    """The activation of each place on a batch, detached."""
    kept: list[Tensor] = [torch.empty(0)] * len(places)

    def take(index: int, value: Tensor) -> Tensor:
        kept[index] = value.detach()
        return value

    with quiet(model), torch.no_grad(), touching(model, places, take):
        finite(loss_fn(model, batch))
    return kept


@contextmanager
def touching(model: nn.Module, places: Sequence[Component], touch: Callable[[int, Tensor], Tensor]) -> Iterator[None]:
    """Inside, every forward pass gives the activation of each place to ``touch(index, value)`` and goes on with what that returns."""
    modules = dict(model.named_modules())
    handles = []

    def before(index: int) -> Any:
        return lambda module, args: (touch(index, args[0]), *args[1:])

    def behind(index: int) -> Any:
        return lambda module, args, output: (touch(index, output[0]), *output[1:]) if isinstance(output, tuple) else touch(index, output)

    try:
        for index, place in enumerate(places):
            module = modules[place.name]
            hook = module.register_forward_pre_hook(before(index)) if place.kind == "heads" else module.register_forward_hook(behind(index))
            handles.append(hook)
        yield
    finally:
        for handle in handles:
            handle.remove()


def _effects(model: nn.Module, loss_fn: LossFunction, batch: Any, other: Sequence[Tensor], places: Sequence[Component]) -> Tensor:
    leaves: list[Tensor] = [torch.empty(0)] * len(places)

    def take(index: int, value: Tensor) -> Tensor:
        leaves[index] = value if value.requires_grad else value.requires_grad_()
        return leaves[index]

    with quiet(model), touching(model, places, take):
        loss = finite(loss_fn(model, batch))
        grads = torch.autograd.grad(loss, leaves)
    found = []
    for place, clean, corrupted, grad in zip(places, leaves, other, grads, strict=True):
        if clean.shape != corrupted.shape:
            raise InputError(
                f"the activations of {place.name!r} have the shapes {tuple(clean.shape)} and {tuple(corrupted.shape)}",
                where="circuit",
                mend="Give pairs of inputs of the same length",
            )
        share = ((corrupted - clean.detach()).double() * grad.double()).reshape(-1, place.parts, clean.shape[-1] // place.parts)
        found.append(share.sum((0, 2)).cpu())
    total = torch.cat(found)
    if not all(math.isfinite(value) for value in total.tolist()):
        raise InputError("an activation or its gradient is not finite", where="model", mend=BROKEN)
    return total


def _weighted(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "weight", None), Tensor)
