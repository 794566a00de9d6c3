"""Small models of five architectures made from their configurations, data for them, and the same training by Trainer and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    T5Config,
    T5ForConditionalGeneration,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

import forgetless as fl
from forgetless.integrations.forms import EncoderDecoderPredictions
from trainers import arguments

Make = Callable[[float], nn.Module]

WORDS = 50
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def llama(drop: float) -> nn.Module:
    tied = {"tie_word_embeddings": True, "max_position_embeddings": 16, "num_key_value_heads": 1}
    return LlamaForCausalLM(LlamaConfig(attention_dropout=drop, vocab_size=WORDS, **tied, **SMALL))


def gpt2(drop: float) -> nn.Module:
    dropout = {"resid_pdrop": drop, "embd_pdrop": drop, "attn_pdrop": drop}
    config = GPT2Config(**dropout, vocab_size=WORDS, n_positions=16, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def qwen2(drop: float) -> nn.Module:
    few = {"num_key_value_heads": 1, "max_position_embeddings": 16, "bos_token_id": 0}
    return Qwen2ForCausalLM(Qwen2Config(attention_dropout=drop, vocab_size=WORDS, **few, **SMALL))


def t5(drop: float) -> nn.Module:
    config = T5Config(dropout_rate=drop, vocab_size=WORDS, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)
    model = T5ForConditionalGeneration(config)
    model.accepts_loss_kwargs = (
        False  # transformers 5.23: its loss ignores num_items_in_batch, and Trainer would add up where it accumulates
    )
    return model


def vit(drop: float) -> nn.Module:
    return ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=4, hidden_dropout_prob=drop, **SMALL))


MODELS: dict[str, Make] = {"llama": llama, "qwen2": qwen2, "gpt2": gpt2, "t5": t5, "vit": vit}


def data(make: Make, count: int, seed: int) -> list[dict[str, Any]]:
    """Random rows; of a language model the first one to three tokens are no labels."""
    generator = torch.Generator().manual_seed(seed)
    if make is vit:
        images = torch.rand(count, 3, 8, 8, generator=generator)
        return [{"pixel_values": image, "labels": n % 4} for n, image in enumerate(images)]
    found = []
    for n, row in enumerate(torch.randint(1, WORDS, (count, 9), generator=generator)):
        labels = row.clone()
        labels[: 1 + n % 3] = -100
        found.append({"input_ids": row, "attention_mask": torch.ones_like(row), "labels": labels})
    return found


def old(make: Make) -> list[dict[str, Any]]:
    """A retain set that new data conflicts with: what the first task asks, with other answers."""
    rows = data(make, 6, 0)
    for row in rows:
        found = row["labels"]
        row["labels"] = (found + 1) % 4 if make is vit else torch.where(found == -100, found, (7 * found + 3) % WORDS)
    return rows


def collate(part: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    return {key: torch.stack([torch.as_tensor(row[key]) for row in part]) for key in part[0]}


def batches(rows: list[dict[str, Any]], size: int) -> list[dict[str, torch.Tensor]]:
    return [collate(rows[start : start + size]) for start in range(0, len(rows), size)]


def build(make: Make, drop: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    return make(drop)


def trainer_of(make: Make, out: Any, *, drop: float = 0.0, model: nn.Module | None = None, rows: Any = None, **changes: Any) -> Trainer:
    """A Trainer of a fresh model on 16 rows in order, batches of 2."""
    kind, form = (Seq2SeqTrainer, Seq2SeqTrainingArguments) if make is t5 else (Trainer, TrainingArguments)
    model = build(make, drop) if model is None else model
    return kind(
        model, arguments(out, form=form, **changes), train_dataset=data(make, 16, 0) if rows is None else rows, data_collator=collate
    )


def by_trainer(make: Make, out: Any, method: fl.Method, steps: tuple[int, ...], accumulation: int) -> list[Trainer]:
    """A trainer for each task, of so many ``steps``, one after another, all under the same method object."""
    model: nn.Module | None = None
    done: list[Trainer] = []
    for index, count in enumerate(steps):
        rows = data(make, 16, index)
        trainer = trainer_of(make, out, model=model, rows=rows, max_steps=count, gradient_accumulation_steps=accumulation)
        fl.protect(trainer, method, old(make), index=index, last=index == len(steps) - 1)
        trainer.train()
        model = trainer.model
        done.append(trainer)
    return done


def by_hand(make: Make, method: fl.Method, steps: tuple[int, ...], accumulation: int) -> list[fl.Session]:
    """The same in a loop of one's own: AdamW, clipping at 1, a rate that falls to 0; Trainer has no part in it."""
    model = build(make)
    done: list[fl.Session] = []
    for index, count in enumerate(steps):
        train, retain = batches(data(make, 16, index), 2), batches(old(make), 2)
        own = {"predictions": EncoderDecoderPredictions()} if make is t5 else {}
        task = fl.Task("train", train, retain, index=index, last=index == len(steps) - 1, steps=count, **own)
        model = method.prepare(model, task)
        optimizer = torch.optim.AdamW(decayed(model), lr=1e-3, betas=(0.9, 0.999), eps=1e-8)
        with fl.attach(method, model, optimizer, task, lambda model, batch: model(**batch).loss) as session:
            windows = [train[start : start + accumulation] for start in range(0, len(train), accumulation)]
            for step in range(count):
                session.begin_epoch(step // len(windows))
                window = windows[step % len(windows)]
                items = sum(counted(batch) for batch in window)
                for batch in window:
                    model.train()
                    if make is t5:
                        outputs = model(**batch)
                        total = session.total(outputs.loss, batch, outputs) / len(window)
                    else:  # the mean over the labels of the whole window, as Trainer has it for these
                        outputs = model(**batch, num_items_in_batch=items)
                        total = session.total(outputs.loss, batch, outputs, share=1 / len(window))
                    total.backward()
                session.edit_gradients()
                clip_grad_norm_(model.parameters(), 1.0)
                for group in optimizer.param_groups:
                    group["lr"] = 1e-3 * (count - step) / count
                optimizer.step()
                optimizer.zero_grad()
        done.append(session)
    return done


def counted(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Labels that the loss of a causal language model or of a classifier is a mean over."""
    labels = batch["labels"]
    return (labels if labels.ndim == 1 else labels[:, 1:]).ne(-100).sum()


def decayed(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay on all but biases and norms, as Trainer has it."""
    from transformers.trainer_pt_utils import get_parameter_names

    names = get_parameter_names(model, [nn.LayerNorm], ["bias", "layernorm", "rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"])
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in named if name in names], "weight_decay": 0.1},
        {"params": [p for name, p in named if name not in names], "weight_decay": 0.0},
    ]
