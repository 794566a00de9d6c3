"""A training watched from inside: drift from its start, movement by layer, circuits, predicted and real change of the retain loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.analysis.circuit import circuit, components, corrupted_pairs, stability
from forgetless.analysis.drift import estimate
from forgetless.analysis.passes import mean_loss, reference, trainable
from forgetless.analysis.places import places
from forgetless.core.context import LossFunction, Tree
from forgetless.core.gradients import quiet
from forgetless.core.predictions import Predictions
from forgetless.core.teacher import snapshot, teacher_logits
from forgetless.errors import InputError
from forgetless.ops.distillation import kl_rows
from forgetless.ops.similarity import inner


class Watch:
    r"""What a training does to a model, compared with the model as it stands when this is made.

    Nothing that training draws on is touched: no gradient, no random number, no mode, so that a watched training gives the same weights.

    Memory: a copy of all trainable weights and buffers; with ``first_order`` another one and a reference gradient. Cost: for each epoch
    three forward passes over the samples and a backward one over the retain sample; with ``first_order`` for each step two forward passes
    and a backward one over the retain sample.

    Args:
        model: the model before its first step.
        samples: batches by name, the inject and the retain set among them.
        loss_fn: mean loss of a batch.
        retain: which of the samples is the retain set; None where there is none (then no circuits and no first order).
        first_order: also compare predicted with real change of the retain loss at each step.

    Raises:
        InputError: ``first_order`` without a retain set.
    """

    def __init__(
        self,
        model: nn.Module,
        samples: Mapping[str, Sequence[Any]],
        loss_fn: LossFunction,
        *,
        retain: str | None = "retain",
        first_order: bool = False,
    ) -> None:
        if first_order and not samples.get(retain or ""):
            raise InputError("there is no retain set to watch", where="first_order", mend="Give one, or leave it out")
        self.model, self.samples, self.loss_fn, self.first_order = model, samples, loss_fn, first_order
        self.retain: Sequence[Any] = samples.get(retain or "") or ()
        self.predictions, self.places = Predictions(), places(model)
        self.base = snapshot(model)
        self.parameters = trainable(model)
        self.pairs = corrupted_pairs(self.retain)
        try:
            self.parts = components(model) if self.pairs else []
        except InputError:  # not a transformer, or one whose parts are not known: then it has no circuit to follow
            self.parts = []
        self.start = circuit(model, loss_fn, self.pairs, places=self.parts) if self.parts else None
        self._reference: Tree = {}
        self._weights: Tree = {}
        self._loss = math.nan

    def epoch(self) -> dict[str, Any]:
        r"""The state now.

        ``{"kl": {sample: {"forward", "reverse"}}, "moved": {layer: share}, "circuit": rank correlation}``. KL is an
        `forgetless.analysis.drift.Estimate` over examples, in nats per answer token; the movement of a layer is
        :math:`\lVert\theta - \theta_0\rVert / \lVert\theta_0\rVert` over its trainable weights; the circuit is that of the retain sample,
        each question against the next one's inputs, in rank correlation with the circuit at the start (left out where there is none).
        """
        found: dict[str, Any] = {
            "kl": {name: self._kl(batches) for name, batches in self.samples.items() if batches},
            "moved": self._moved(),
        }
        if self.start is not None:
            now = circuit(self.model, self.loss_fn, self.pairs, places=self.parts)
            found["circuit"] = stability(self.start, now)
        return found

    def step_begins(self) -> None:
        """Before a step's forward pass: take the reference gradient and the weights."""
        if self.first_order:
            self._reference = reference(self.model, self.loss_fn, self.parameters, self.retain)
            self._weights = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
            self._loss = mean_loss(self.model, self.loss_fn, self.retain)

    def step_ended(self) -> dict[str, float]:
        r"""After it: ``{"predicted", "real"}`` change of the mean loss on the retain sample by this step, in nats.

        Predicted: :math:`\langle g(M), \theta' - \theta\rangle` with the gradient at :math:`\theta` and the step as it really was:
        with masks, moments and weight decay. Empty without ``first_order``.
        """
        if not self.first_order:
            return {}
        predicted = 0.0
        for name, grad in self._reference.items():
            predicted += float(inner(grad, self.parameters[name].detach() - self._weights[name]))
        real = mean_loss(self.model, self.loss_fn, self.retain) - self._loss
        self._reference, self._weights = {}, {}
        return {"predicted": predicted, "real": real}

    def _kl(self, batches: Sequence[Any]) -> dict[str, Any]:
        """Both divergences of each example, summed up."""
        ways: dict[str, list[float]] = {"forward": [], "reverse": []}
        for batch in batches:
            old = teacher_logits(self.model, self.base, batch, self.predictions)
            with quiet(self.model), torch.no_grad():
                new = self.predictions.logits(self.predictions.outputs(self.model, batch), batch, every=True)
            owners = self.predictions.owners(batch).to(old.device)
            counts = torch.bincount(owners).clamp(min=1).double()
            for way, values in ways.items():
                rows = kl_rows(old.double(), new.double(), "reverse" if way == "reverse" else "forward")
                totals = torch.zeros_like(counts).index_add_(0, owners, rows)
                values += (totals / counts)[torch.bincount(owners) > 0].tolist()
        return {way: estimate(values).to_dict() for way, values in ways.items()}

    def _moved(self) -> dict[str, float]:
        moved: dict[str, list[Tensor]] = {}
        for name, parameter in self.parameters.items():
            start, layer = self.base[name], self.places[name].layer
            change = parameter.detach() - start.to(parameter.device)
            pair = moved.setdefault("outside" if layer is None else str(layer), [])
            pair.append(torch.stack([inner(change, change), inner(start, start).to(parameter.device)]))
        found = {}
        for layer_name, parts in moved.items():
            change_square, start_square = torch.stack(parts).sum(0).tolist()
            found[layer_name] = math.sqrt(change_square / start_square) if start_square else 0.0
        return found
