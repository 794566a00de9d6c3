"""Hugging Face Trainer, protected by one line.

python examples/trainer.py
python examples/trainer.py --plain                # what plain fine-tuning forgets
python examples/trainer.py --model smollm2-135m --inject new.jsonl --retain known.jsonl
"""

from __future__ import annotations

from start import arguments, tell
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

import forgetless as fl
from forgetless.data.encoding import encode, target


def main() -> None:
    """Train, and say what was learned and forgotten."""
    args = arguments(__doc__)
    language = fl.load_model(args.model)
    tokenizer = language.tokenizer

    def rows(file: str) -> list[dict[str, list[int]]]:
        found = []
        for question in fl.read_questions(file):
            example = encode(question, target(question, None), tokenizer, end=True)
            found.append({"input_ids": [*example.prompt, *example.answer], "labels": [-100] * len(example.prompt) + [*example.answer]})
        return found

    trainer = Trainer(
        language.model,
        TrainingArguments(
            output_dir=args.out or "out",
            per_device_train_batch_size=args.batch_size,
            num_train_epochs=args.epochs,
            learning_rate=args.lr,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to=[],
        ),
        train_dataset=rows(args.inject),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
        processing_class=tokenizer,
    )
    watch = fl.RetentionCallback(trainer, retain=args.retain, inject=args.inject, every=100)
    trainer.add_callback(watch)

    method = fl.Plain() if args.plain else fl.Replay() >> fl.CPL(refresh=2)
    trainer = fl.protect(trainer, method, retain=rows(args.retain))  # the one line

    trainer.train()
    tell(watch.history[-1], trainer.forgetless.constraint_violation)
    if args.out:
        trainer.save_model(args.out)


if __name__ == "__main__":
    main()
