"""Examples that a causal language model makes up itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from inspect import signature
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.gradients import quiet
from forgetless.core.predictions import IGNORE, Predictions
from forgetless.errors import InputError
from forgetless.ops.sampling import draw_tokens

TOGETHER = 32
"""Texts sampled in one batch."""


def is_language(batch: Any) -> bool:
    """Whether a batch is a causal language model's: tokens, and a label for each position."""
    return isinstance(batch, Mapping) and "input_ids" in batch and getattr(batch.get("labels"), "ndim", 0) == 2


def speaks(model: nn.Module, batches: Iterable[Any], predictions: Predictions) -> bool:
    """Whether a model is a causal language model: Hugging Face's say so themselves, of others the first of its batches tells."""
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return False
    tells = getattr(model, "can_generate", None)
    if callable(tells):
        return bool(tells())
    with torch.random.fork_rng([]):  # a DataLoader draws when it is walked
        first = next(iter(batches), None)
    return first is not None and is_language(predictions.as_language(first))


def opening(model: nn.Module) -> list[int]:
    """The token that a text begins with: the model's BOS, else its end of text.

    Raises:
        InputError: its configuration names neither.
    """
    for name in ("bos_token_id", "eos_token_id"):
        found = _named(model, name)
        if found:
            return found[:1]
    raise InputError(
        "the model's configuration names no token to begin a text with",
        where="model.config",
        mend="Set bos_token_id there (for generative-replay start=[...] serves as well; null-space with a retain set texts=0)",
    )


def prompts_of(batches: Iterable[Any], count: int, predictions: Predictions) -> list[list[int]]:
    """What stands before the first label of each of the first ``count`` examples.

    Raises:
        InputError: a batch is not a language model's.
    """
    found: list[list[int]] = []
    for one in batches:
        batch = predictions.as_language(one)
        if not is_language(batch):
            raise InputError(
                "a batch holds no prompts of tokens",
                where="task",
                mend="Give batches with input_ids and labels; generative-replay has prompts='none'",
            )
        mask = batch.get("attention_mask")
        for row, (ids, labels) in enumerate(zip(batch["input_ids"], batch["labels"], strict=True)):
            labelled = (labels != IGNORE).nonzero()
            end = int(labelled[0]) if len(labelled) else len(ids)
            real = slice(None) if mask is None else mask[row, :end].bool()
            found.append(ids[:end][real].tolist())
            if len(found) == count:
                return found
    return found


def beginnings(prompts: Sequence[list[int]], count: int, draw: torch.Generator) -> Iterator[list[list[int]]]:
    """``count`` prompts drawn with replacement, each up to a random place in its first half; at most `TOGETHER`, of one length."""

    def below(bound: int) -> int:
        return int(torch.randint(bound, (1,), generator=draw))

    drawn = [prompts[below(len(prompts))] for _ in range(count)]
    cut = sorted((prompt[: 1 + below(max(1, len(prompt) // 2))] for prompt in drawn), key=len)
    for _, same in groupby(cut, key=len):
        together = list(same)
        yield from (together[first : first + TOGETHER] for first in range(0, len(together), TOGETHER))


def speak(
    model: nn.Module,
    prompts: Sequence[Sequence[int]],
    length: int,
    predictions: Predictions,
    *,
    temperature: float,
    top_k: int | None,
    draw: torch.Generator,
) -> list[dict[str, Tensor]]:
    """An example for each prompt, on the CPU: the prompt and what the model adds, which is labelled.

    Prompts of one length are sampled together, so nothing is padded; Hugging Face models use their cache of keys and values.
    """
    device = next(model.parameters()).device
    cached = caches(model)
    room = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    cut = [list(prompt)[-max(1, room - length) :] if room else list(prompt) for prompt in prompts]

    def forward(new: Tensor, past: Any) -> tuple[Tensor, Any]:
        if cached:
            out = model(input_ids=new, past_key_values=past, use_cache=True)
            return out.logits[:, -1], out.past_key_values
        whole = new if past is None else torch.cat([past, new], 1)
        batch = {"input_ids": torch.nn.functional.pad(whole, (0, 1))}  # a row for the last position, whose successor is not known
        out = predictions.outputs(model, batch)
        rows = predictions.logits(out, batch)
        return rows.view(len(whole), whole.shape[1], -1)[:, -1], whole

    examples: list[dict[str, Tensor]] = []
    with quiet(model), torch.no_grad():
        for _, same in groupby(sorted(cut, key=len), key=len):
            rows = list(same)
            for start in range(0, len(rows), TOGETHER):
                part = rows[start : start + TOGETHER]
                ends = _named(model, "eos_token_id")
                made = draw_tokens(
                    forward, torch.tensor(part, device=device), length, temperature=temperature, top_k=top_k, draw=draw, ends=ends
                )
                examples += [_example(prompt, new) for prompt, new in zip(part, made, strict=True)]
    return examples


def caches(model: nn.Module) -> bool:
    """Whether the model keeps the keys and values of what it read, so that `speak` gives it every token once."""
    inner: Any = model
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner  # PEFT's takes any keyword
    return hasattr(getattr(model, "config", None), "use_cache") and "past_key_values" in signature(inner.forward).parameters


def _example(prompt: list[int], new: list[int]) -> dict[str, Tensor]:
    ids = torch.tensor([prompt + new])
    labels = torch.tensor([[IGNORE] * len(prompt) + new])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def _named(model: nn.Module, name: str) -> list[int]:
    """Special tokens as the model's generation settings, or else its configuration, name them."""
    for holder in ("generation_config", "config"):
        value = getattr(getattr(model, holder, None), name, None)
        if value is not None:
            return [int(one) for one in value] if isinstance(value, list | tuple) else [int(value)]
    return []
