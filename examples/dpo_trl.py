"""TRL's DPOTrainer on preference pairs, protected by one line: old preferences are kept while new ones are learned.

    python examples/dpo_trl.py
    python examples/dpo_trl.py --plain                # what plain training forgets
    python examples/dpo_trl.py --model Qwen/Qwen2.5-1.5B-Instruct --inject new.jsonl --retain known.jsonl

The question files have a question and two choices: {"question": ..., "choices": [one, other], "answer": 0}. A pair counts as
known where the right choice is the likelier one.
"""

from __future__ import annotations

from datasets import Dataset
from start import arguments, tell
from trl import DPOConfig, DPOTrainer

import forgetless as fl


def main() -> None:
    """Train, and say which preferences were learned and forgotten."""
    args = arguments(__doc__, pairs=True)
    language = fl.load_model(args.model)

    def dataset(file: str) -> Dataset:
        rows = []
        for question in fl.read_questions(file):
            wrong = next(choice for choice in question.choices if choice not in question.answers)
            rows.append({"prompt": question.prompt, "chosen": f" {question.answers[0]}", "rejected": f" {wrong}"})
        return Dataset.from_list(rows)

    trainer = DPOTrainer(
        language.model,
        args=DPOConfig(
            output_dir=args.out or "out",
            per_device_train_batch_size=args.batch_size,
            num_train_epochs=args.epochs,
            learning_rate=args.lr,
            lr_scheduler_type="constant",
            save_strategy="no",
            report_to=[],
            bf16=False,
        ),
        train_dataset=dataset(args.inject),
        processing_class=language.tokenizer,
    )
    watch = fl.RetentionCallback(trainer, retain=args.retain, inject=args.inject, every=100, scorer="likelihood", template="plain")
    trainer.add_callback(watch)

    method = fl.Plain() if args.plain else fl.Replay() >> fl.CPL(refresh=2)
    trainer = fl.protect(trainer, method, retain=dataset(args.retain))  # the one line

    trainer.train()
    tell(watch.history[-1], trainer.forgetless.constraint_violation)
    if args.out:
        trainer.save_model(args.out)


if __name__ == "__main__":
    main()
