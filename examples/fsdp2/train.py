"""A training loop of your own under FSDP2, protected: each process holds a shard of the weights, and of what the method keeps.

    torchrun --nproc-per-node 2 examples/fsdp2/train.py
    torchrun --nproc-per-node 2 examples/fsdp2/train.py --plain          # what plain fine-tuning forgets
    torchrun --nproc-per-node 8 examples/fsdp2/train.py --model Qwen/Qwen2.5-7B-Instruct --inject new.jsonl --retain known.jsonl

On processors it runs over gloo, on GPUs over nccl.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, DistributedSampler
from transformers import DataCollatorForSeq2Seq

import forgetless as fl
from forgetless.data.encoding import encode, target

sys.path.append(str(Path(__file__).parents[1]))
from start import arguments, tell


def main() -> None:
    """Train, and say what was learned and forgotten."""
    args = arguments(__doc__)
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo")

    language = fl.load_model(args.model)
    model, collate = language.model.to(device), DataCollatorForSeq2Seq(language.tokenizer)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(model)  # before the optimizer, and before attach: it replaces the parameters

    def batches(questions: list[Any]) -> DataLoader[Any]:
        """This process's share of the questions; the same number of batches on every process."""
        rows = []
        for question in questions:
            example = encode(question, target(question, None), language.tokenizer, end=True)
            rows.append({"input_ids": [*example.prompt, *example.answer], "labels": [-100] * len(example.prompt) + [*example.answer]})
        share = DistributedSampler(rows, shuffle=False)
        return DataLoader(rows, args.batch_size, sampler=share, collate_fn=lambda part: {k: v.to(device) for k, v in collate(part).items()})

    def right(questions: list[Any]) -> list[bool]:
        """Every process asks all questions: the forward pass of a sharded model needs all of them."""
        found = [bool(verdict.right) for verdict in fl.score(language, questions)]
        model.reshard()  # the outermost part stays whole after a forward pass that no backward pass follows
        return found

    new, known = fl.read_questions(args.inject), fl.read_questions(args.retain)
    before = right(new), right(known)

    task = fl.Task("new facts", train=batches(new), retain=batches(known), last=True)
    method = fl.Plain() if args.plain else fl.Replay() >> fl.CPL(refresh=2)
    model = method.prepare(model, task).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    with fl.attach(method, model, optimizer, task, lambda model, batch: model(**batch).loss) as session:
        for _ in range(args.epochs):
            for batch in task.train:
                outputs = model(**batch)
                session.total(outputs.loss, batch, outputs).backward()
                optimizer.step()
                optimizer.zero_grad()

    after = right(new), right(known)
    outcome = {
        "learned": sum(now and not was for was, now in zip(before[0], after[0], strict=True)),
        "inject_total": before[0].count(False),
        "forgotten": sum(was and not now for was, now in zip(before[1], after[1], strict=True)),
        "retain_total": before[1].count(True),
    }
    weights = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)) if args.out else None
    tell(outcome, session.constraint_violation)
    if args.out and dist.get_rank() == 0:
        model.save_pretrained(args.out, state_dict=weights)
        language.tokenizer.save_pretrained(args.out)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
