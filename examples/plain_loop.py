"""A training loop of your own, protected: the old facts are kept while new ones are learned.

python examples/plain_loop.py
python examples/plain_loop.py --plain                # what plain fine-tuning forgets
python examples/plain_loop.py --model smollm2-135m --inject new.jsonl --retain known.jsonl
"""

from __future__ import annotations

from typing import Any

import torch
from start import arguments, tell
from transformers import DataCollatorForSeq2Seq

import forgetless as fl
from forgetless.data.encoding import encode, target


def main() -> None:
    """Train, and say what was learned and forgotten."""
    args = arguments(__doc__)
    language = fl.load_model(args.model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    language.model.to(device)
    new, known = fl.read_questions(args.inject), fl.read_questions(args.retain)

    collate = DataCollatorForSeq2Seq(language.tokenizer)

    def batches(questions: list[Any]) -> list[dict[str, torch.Tensor]]:
        rows = []
        for question in questions:
            example = encode(question, target(question, None), language.tokenizer, end=True)
            rows.append({"input_ids": [*example.prompt, *example.answer], "labels": [-100] * len(example.prompt) + [*example.answer]})
        parts = [collate(rows[start : start + args.batch_size]) for start in range(0, len(rows), args.batch_size)]
        return [{key: value.to(device) for key, value in part.items()} for part in parts]

    def right(questions: list[Any]) -> list[bool]:
        return [bool(verdict.right) for verdict in fl.score(language, questions)]

    before = right(new), right(known)

    task = fl.Task("new facts", train=batches(new), retain=batches(known), last=True)
    method = fl.Plain() if args.plain else fl.Replay() >> fl.CPL(refresh=2)
    model = method.prepare(language.model, task).train()
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=args.lr)
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
    tell(outcome, session.constraint_violation)
    if args.out:
        method.export(model).save_pretrained(args.out)
        language.tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
