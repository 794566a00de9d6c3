"""A LoRA adapter of PEFT, trained under a method that protects the adapter's weights, and merged at the end.

python examples/lora_peft.py
python examples/lora_peft.py --plain              # what a plain adapter forgets
python examples/lora_peft.py --model meta-llama/Llama-3.2-1B-Instruct --inject new.jsonl --retain known.jsonl
"""

from __future__ import annotations

from datasets import Dataset
from peft import LoraConfig
from start import arguments, tell
from trl import SFTConfig, SFTTrainer

import forgetless as fl
from forgetless.data.model import Language


def main() -> None:
    """Train, merge, and say what was learned and forgotten."""
    args = arguments(__doc__, rate=1e-2)
    language = fl.load_model(args.model)
    tokenizer = language.tokenizer

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
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    watch = fl.RetentionCallback(trainer, retain=args.retain, inject=args.inject, every=100, template="plain", kl=True)
    trainer.add_callback(watch)

    # only the adapter's weights are trained, so only they are looked at
    method = fl.Plain() if args.plain else fl.Replay() >> fl.CPL(refresh=2)
    trainer = fl.protect(trainer, method, retain=dataset(args.retain))

    trainer.train()
    tell(watch.history[-1], trainer.forgetless.constraint_violation)

    adapted = [verdict.right for verdict in fl.score(Language(trainer.model, tokenizer, args.model), fl.read_questions(args.retain))]
    merged = trainer.model.merge_and_unload()
    after = [verdict.right for verdict in fl.score(Language(merged, tokenizer, args.model), fl.read_questions(args.retain))]
    print(
        f"merged, {sum(one == other for one, other in zip(adapted, after, strict=True))} of {len(after)} known questions are answered alike"
    )
    if args.out:
        merged.save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
