"""Small trainers for tests: a tiny model, rows of tokens, a Trainer whose batches come in order."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments, get_scheduler

import forgetless as fl


def rows(count: int, seed: int, longest: int = 12) -> list[dict[str, list[int]]]:
    """Random tokens; the first two of each row are no labels."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        size = int(torch.randint(5, longest + 1, (1,), generator=generator))
        ids = torch.randint(1, 200, (size,), generator=generator).tolist()
        found.append({"input_ids": ids, "labels": [-100] * 2 + ids[2:]})
    return found


def arguments(out: Any, *, form: type[TrainingArguments] = TrainingArguments, **changes: Any) -> TrainingArguments:
    plain = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_steps": 6,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "max_grad_norm": 1.0,
        "optim": "adamw_torch",
        "report_to": [],
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
    }
    return form(output_dir=str(out), **(plain | changes))


def make_trainer(
    folder: Any, out: Any, *, data: Any = None, kind: type[Trainer] = Trainer, model: Any = None, asked: Any = None, **changes: Any
) -> Trainer:
    """A Trainer of the model in ``folder`` on 16 rows, two epochs of which are less than its six steps of four."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder) if model is None else model
    collate = DataCollatorForSeq2Seq(tokenizer, padding=True)
    data = rows(16, 0) if data is None else data
    return kind(model, arguments(out, **changes), train_dataset=data, eval_dataset=asked, data_collator=collate)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference."""
    assert set(one) == set(other)
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def plain_loop(folder: Any, out: Any, method: fl.Method, retain: list[Any] | None, **changes: Any) -> dict[str, torch.Tensor]:
    """What `make_trainer` and `protect` do, as a loop of one's own around `attach`."""
    trainer = make_trainer(folder, out, **changes)  # for its arguments, its optimizer and its collator; it does not train
    args, model, collate = trainer.args, trainer.model, trainer.data_collator
    size = args.per_device_train_batch_size

    def batches(data: list[Any]) -> list[Any]:
        return [dict(collate(data[start : start + size])) for start in range(0, len(data), size)]

    train = batches(trainer.train_dataset)
    task = fl.Task("train", train, None if retain is None else batches(retain), last=True)
    model = method.prepare(model, task)
    optimizer = trainer.create_optimizer()
    scheduler = get_scheduler(args.lr_scheduler_type, optimizer, num_warmup_steps=0, num_training_steps=args.max_steps)
    with fl.attach(method, model, optimizer, task, lambda model, batch: model(**batch).loss) as session:
        steps = 0
        for epoch in range(99):
            session.begin_epoch(epoch)
            for start in range(0, len(train), args.gradient_accumulation_steps):
                window = train[start : start + args.gradient_accumulation_steps]
                items = sum((batch["labels"][:, 1:] != -100).sum() for batch in window)
                for batch in window:
                    model.train()
                    outputs = model(**batch, num_items_in_batch=items)
                    session.total(outputs.loss, batch, outputs, share=1 / len(window)).backward()
                if args.max_grad_norm:
                    session.edit_gradients()
                    clip_grad_norm_(model.parameters(), args.max_grad_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                steps += 1
                if steps == args.max_steps:
                    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    raise AssertionError("never reached")
