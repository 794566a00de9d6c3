"""A trainer's datasets as batches that methods can walk, made by the trainer's own preprocessing and collator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import torch

from forgetless.core.predictions import IGNORE
from forgetless.data.encoding import collate, pad_id, taught
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError

Collate = Callable[[list[Any]], Any]
ROLLOUT_RETAIN = "Give GRPOTrainer a retain set with columns prompt and completion, messages, text, or input_ids"


class Walk:
    """Batches of a dataset in its own order. A walk draws no random number of the training's."""

    def __init__(self, rows: Any, size: int, collate: Collate, place: Callable[[Any], Any]) -> None:
        self.rows, self.batch_size, self.collate, self.place = rows, size, collate, place

    def __iter__(self) -> Iterator[Any]:
        rows = iter(self.rows)
        index = 0
        while chunk := list(islice(rows, self.batch_size)):
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.manual_seed(index)  # a collator that draws draws the same each time
                batch = self.place(self.collate(chunk))
            index += 1
            yield dict(batch) if isinstance(batch, Mapping) else batch


class Batches(Walk):
    """A `Walk` over a dataset of known length."""

    def __iter__(self) -> Iterator[Any]:
        yield from Walk((self.rows[index] for index in range(len(self.rows))), self.batch_size, self.collate, self.place)

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)


class Rollouts:
    """Stands for the inject set of GRPOTrainer, whose batches do not exist until the model has written them."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __iter__(self) -> Iterator[Any]:
        raise InputError(
            "the method looks at the inject set beforehand or afterwards, but GRPOTrainer's batches are written by the model as it trains",
            where="method",
            mend="Take one that does not (cpl with mask='dynamic', replay, ...), give auto and null-space a retain set, leave last=True",
        )


def inject_batches(trainer: Any, *, rollouts: bool) -> Iterable[Any]:
    """The trainer's training set in micro-batches, as the trainer makes them but in order."""
    rows = trainer.train_dataset
    if rows is None:
        raise InputError("it has no train_dataset", where="trainer", mend="Give the trainer what it is to learn")
    if rollouts:
        return Rollouts(rows)
    rows, collate = _columns(trainer, rows, trainer.data_collator)
    kind = Batches if hasattr(rows, "__len__") and hasattr(rows, "__getitem__") else Walk
    return kind(rows, trainer.args.train_batch_size, collate, trainer._prepare_input)


def retain_batches(trainer: Any, rows: Any, size: int | None, kind: str) -> Batches:
    """The retain set, preprocessed as the trainer does with its own, never packed, in batches of ``size`` examples."""
    if not hasattr(rows, "__len__") or not hasattr(rows, "__getitem__"):
        raise InputError(
            f"a {type(rows).__name__} has no length",
            where="retain",
            mend="Give a dataset in memory or on disk (a list, a datasets.Dataset)",
        )
    if not len(rows):
        raise InputError("it is empty", where="retain", mend="Give data that the model is to stay good at")
    size = trainer.args.train_batch_size if size is None else size
    if kind != "transformers" and isinstance(rows, Sequence):
        from datasets import Dataset

        rows = Dataset.from_list(list(rows))
    collate: Collate = trainer.data_collator
    if kind == "grpo":
        tokenizer = trainer.processing_class
        return Batches([_tokens(row, tokenizer) for row in rows], size, lambda part: _padded(part, tokenizer), trainer._prepare_input)
    vision = getattr(trainer, "_is_vision_dataset", False)
    if kind == "sft" and not vision and not getattr(trainer, "_skip_prepare_dataset", False):
        formatting = getattr(trainer, "_formatting_func", None)
        rows = trainer._prepare_dataset(rows, trainer.processing_class, trainer.args, False, formatting, "retain")
    if kind == "dpo" and not vision:
        rows = trainer._prepare_dataset(rows, trainer.processing_class, trainer.args, "retain")
        if getattr(trainer, "precompute_ref_logps", False):
            rows = trainer._precompute_ref_logps(rows, "retain", size)
    if getattr(collate, "padding_free", False) and dataclasses.is_dataclass(collate):
        collate = dataclasses.replace(collate, padding_free=False)  # type: ignore[type-var]  # an instance
    rows, collate = _columns(trainer, rows, collate)
    return Batches(rows, size, collate, trainer._prepare_input)


def question_batches(trainer: Any, questions: Sequence[Question], template: str | None, size: int | None, kind: str) -> Batches:
    """Questions as batches of the retain set: worded and padded as in `forgetless.train`, whatever collator the trainer has.

    Raises:
        InputError: the trainer keeps no texts; a question does not fit the template, or is longer than the model takes.
    """
    if kind == "dpo":
        mend = "Give pairs as retain, and the questions as Budget(0.01, questions=...)"
        raise InputError("it holds questions, and DPOTrainer's are preference pairs", where="retain", mend=mend)
    tokenizer = trainer.processing_class
    examples = taught(questions, tokenizer, template, room=Language(trainer.model, tokenizer, "").room)
    size = trainer.args.train_batch_size if size is None else size
    return Batches(examples, size, lambda part: collate(part, pad_id(tokenizer)), trainer._prepare_input)


def _columns(trainer: Any, rows: Any, collate: Collate) -> tuple[Any, Collate]:
    """The dataset without the columns that the trainer would leave out."""
    if hasattr(rows, "column_names") and hasattr(rows, "remove_columns") and hasattr(rows, "__len__"):
        return trainer._remove_unused_columns(rows, description="retain"), collate
    return rows, trainer._get_collator_with_removed_columns(collate, description="retain")


def _tokens(row: Mapping[str, Any], tokenizer: Any) -> dict[str, list[int]]:
    """One retain example of GRPOTrainer as tokens; what stands before the answer is no label."""
    if row.get("input_ids") is not None:
        return {"input_ids": list(row["input_ids"]), "labels": list(row.get("labels") or row["input_ids"])}
    prompt: Any
    prompt, answer = row.get("prompt"), row.get("completion")
    if row.get("messages"):
        prompt, answer = row["messages"][:-1], row["messages"][-1:]
    elif answer is None and row.get("text"):
        prompt, answer = "", row["text"]
    if answer is None or prompt is None:
        raise InputError(f"a row has columns {sorted(row)}, which hold no answer to keep", where="retain", mend=ROLLOUT_RETAIN)
    if isinstance(prompt, str):
        before = list(tokenizer(prompt)["input_ids"]) if prompt else []
        whole = before + list(tokenizer(answer, add_special_tokens=not prompt)["input_ids"])
        whole += [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    else:
        form = {"tokenize": True, "return_dict": True}
        before = list(tokenizer.apply_chat_template(prompt, add_generation_prompt=True, **form)["input_ids"]) if prompt else []
        whole = list(tokenizer.apply_chat_template([*prompt, *answer], **form)["input_ids"])
    return {"input_ids": whole, "labels": [IGNORE] * len(before) + whole[len(before) :]}


def _padded(rows: list[dict[str, list[int]]], tokenizer: Any) -> dict[str, torch.Tensor]:
    length = max(len(row["input_ids"]) for row in rows)
    filler = tokenizer.pad_token_id or 0
    gaps = [length - len(row["input_ids"]) for row in rows]
    return {
        "input_ids": torch.tensor([row["input_ids"] + [filler] * gap for row, gap in zip(rows, gaps, strict=True)]),
        "attention_mask": torch.tensor([[1] * (length - gap) + [0] * gap for gap in gaps]),
        "labels": torch.tensor([row["labels"] + [IGNORE] * gap for row, gap in zip(rows, gaps, strict=True)]),
    }
