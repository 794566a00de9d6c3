"""TRL's SFTTrainer on prompts and completions, protected by one line.

python examples/sft_trl.py
python examples/sft_trl.py --plain                # what plain fine-tuning forgets
python examples/sft_trl.py --model Qwen/Qwen2.5-1.5B-Instruct --inject new.jsonl --retain known.jsonl
"""

from __future__ import annotations

from datasets import Dataset
from start import arguments, tell
from trl import SFTConfig, SFTTrainer

import forgetless as fl


def main() -> None:
    """Train, and say what was learned and forgotten."""
    args = arguments(__doc__)
    language = fl.load_model(args.model)

    def dataset(file: str) -> Dataset:
        questions = fl.read_questions(file)
        return Dataset.from_list([{"prompt": q.prompt, "completion": f" {q.answers[0]}"} for q in questions])

    trainer = SFTTrainer(
        language.model,
        SFTConfig(
            output_dir=args.out or "out",
            per_device_train_batch_size=args.batch_size,
            num_train_epochs=args.epochs,
            learning_rate=args.lr,
            lr_scheduler_type="constant",
            completion_only_loss=True,
            save_strategy="no",
            report_to=[],
            bf16=False,
        ),
        train_dataset=dataset(args.inject),
        processing_class=language.tokenizer,
    )
    watch = fl.RetentionCallback(trainer, retain=args.retain, inject=args.inject, every=100, template="plain")
    trainer.add_callback(watch)

    method = fl.Plain() if args.plain else fl.Replay() >> fl.CPL(refresh=2)
    trainer = fl.protect(trainer, method, retain=dataset(args.retain))  # the one line

    trainer.train()
    tell(watch.history[-1], trainer.forgetless.constraint_violation)
    if args.out:
        trainer.save_model(args.out)


if __name__ == "__main__":
    main()
