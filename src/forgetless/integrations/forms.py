"""How methods read the batches of Hugging Face and TRL trainers: encoder-decoders, packed rows, preference pairs, rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.predictions import IGNORE, Predictions
from forgetless.errors import InputError


class AlignedPredictions(Predictions):
    """Batches of models whose output at position t predicts label t: token classification, masked language models."""

    def labels(self, batch: Any) -> Tensor:
        found: Tensor = batch["labels"][batch["labels"] != IGNORE]
        return found

    def with_labels(self, batch: Any, labels: Tensor) -> Any:
        new = batch["labels"].clone()
        new[new != IGNORE] = labels.to(new)
        return {**batch, "labels": new}

    def owners(self, batch: Any) -> Tensor:
        found: Tensor = (batch["labels"] != IGNORE).nonzero()[:, 0]
        return found

    def _positions(self, batch: Any, logits: Tensor) -> Tensor:
        found: Tensor = (batch["labels"] != IGNORE).to(logits.device)
        return found


class EncoderDecoderPredictions(AlignedPredictions):
    """Batches of an encoder-decoder (T5, BART), whose labels are as long as they are, whatever the input's length."""

    def collate(self, examples: Sequence[Any]) -> Any:
        """One batch of several; what is padding for all of them is cut from the input alone."""
        parts = [{key: value for key, value in one.items() if _of_decoder(key) is decoder} for decoder in (False, True) for one in examples]
        return {**super().collate(parts[: len(examples)]), **super().collate(parts[len(examples) :])}


def _of_decoder(key: str) -> bool:
    return key == "labels" or key.startswith("decoder_")


class PackedPredictions(Predictions):
    """SFTTrainer's batches. Of a packed row every sequence is an example of its own, with an attention mask in place of the packing."""

    def examples(self, batch: Any) -> list[Any]:
        if not _packed(batch):
            return super().examples(batch)
        found = []
        for row in range(batch["input_ids"].shape[0]):
            starts = [*(batch["position_ids"][row] == 0).nonzero().flatten().tolist(), batch["input_ids"].shape[1]]
            for begin, end in pairwise(starts):
                part = {key: batch[key][row : row + 1, begin:end] for key in ("input_ids", "labels")}
                found.append(part | {"attention_mask": torch.ones_like(part["input_ids"])})
        return found

    def size(self, batch: Any) -> int:
        return int((batch["position_ids"] == 0).sum()) if _packed(batch) else super().size(batch)

    def owners(self, batch: Any) -> Tensor:
        if not _packed(batch):
            return super().owners(batch)
        sequences = (batch["position_ids"] == 0).flatten().cumsum(0).view_as(batch["input_ids"]) - 1
        found: Tensor = sequences[:, 1:][batch["labels"][:, 1:] != IGNORE]
        return found


class PreferencePredictions(Predictions):
    """DPOTrainer's batches: the chosen answers, then the rejected ones. An example is a pair; its rows are the tokens of both answers."""

    def as_language(self, batch: Any) -> Any:
        return _labelled(batch)

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        return model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False)

    def logits(self, outputs: Any, batch: Any, *, every: bool = False) -> Tensor:
        return super().logits(outputs, _labelled(batch), every=every)

    def labels(self, batch: Any) -> Tensor:
        return super().labels(_labelled(batch))

    def with_labels(self, batch: Any, labels: Tensor) -> Any:
        raise InputError("a preference pair has no labels to replace", where="DPOTrainer", mend="Use a method that does not label examples")

    def owners(self, batch: Any) -> Tensor:
        return super().owners(_labelled(batch)) % self.size(batch)

    def size(self, batch: Any) -> int:
        return int(batch["input_ids"].shape[0]) // 2

    def terms(self, batch: Any) -> int:
        return self.size(batch)

    def examples(self, batch: Any) -> list[Any]:
        size = self.size(batch)
        return [{key: value[index::size] for key, value in batch.items()} for index in range(size)]

    def collate(self, examples: Sequence[Any]) -> Any:
        joined = super().collate(examples)
        size = len(examples)
        order = [2 * index for index in range(size)] + [2 * index + 1 for index in range(size)]
        return {key: value[order] if value.shape[0] == 2 * size else value for key, value in joined.items()}


class RolloutPredictions(Predictions):
    """GRPOTrainer's batches: prompts and the model's own completions, whose tokens are the labels; the retain set is plain text."""

    def as_language(self, batch: Any) -> Any:
        return _rollout(batch)

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        form = _rollout(batch)
        return model(input_ids=form["input_ids"], attention_mask=form["attention_mask"], use_cache=False)

    def logits(self, outputs: Any, batch: Any, *, every: bool = False) -> Tensor:
        return super().logits(outputs, _rollout(batch), every=every)

    def labels(self, batch: Any) -> Tensor:
        return super().labels(_rollout(batch))

    def with_labels(self, batch: Any, labels: Tensor) -> Any:
        return super().with_labels(_rollout(batch), labels)

    def owners(self, batch: Any) -> Tensor:
        return super().owners(_rollout(batch))

    def size(self, batch: Any) -> int:
        return super().size(_rollout(batch))

    def examples(self, batch: Any) -> list[Any]:
        return super().examples(_rollout(batch))


def _packed(batch: Any) -> bool:
    return isinstance(batch, Mapping) and "position_ids" in batch and "attention_mask" not in batch


def _labelled(batch: Mapping[str, Any]) -> dict[str, Any]:
    """A preference batch as that of a language model: the answers' tokens are the labels."""
    labels = batch["input_ids"].masked_fill(batch["completion_mask"] == 0, IGNORE)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"], "labels": labels}


def _rollout(batch: Mapping[str, Any]) -> dict[str, Any]:
    if "labels" in batch:
        return dict(batch)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    answered = torch.cat([torch.zeros_like(batch["prompt_mask"]), batch["completion_mask"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(answered == 0, IGNORE)}
