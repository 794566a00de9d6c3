"""Protected SFT and DPO trainers in each of several processes, or in one. Usage: trl_worker.py MODEL OUT."""

import json
import os
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

import forgetless as fl

METHODS = {
    "none": fl.Plain,
    "cpl": lambda: fl.CPL(refresh=2),
    "replay": lambda: fl.Replay(ratio=0.5),
    "ewc": lambda: fl.EWC(strength=100.0),
}
"""By ``KIND-NAME`` what is trained; every name under both kinds."""


def rows(kind: str, count: int, start: int = 0) -> Dataset:
    if kind == "dpo":
        return Dataset.from_list(
            [{"prompt": f"is {n} odd?", "chosen": " " + "odd" * (1 + n % 2), "rejected": " no idea"} for n in range(start, start + count)]
        )
    return Dataset.from_list([{"prompt": f"what is {n}?", "completion": f" it is {n * 7}"} for n in range(start, start + count)])


def train(kind: str, name: str, model: Path, out: Path) -> dict:
    """Four steps of four rows in all processes together, clipped; gives the weights and the measured constraint."""
    trainer, config = {"sft": (SFTTrainer, SFTConfig), "dpo": (DPOTrainer, DPOConfig)}[kind]
    size = 4 // int(os.environ.get("WORLD_SIZE", "1"))
    options = {"ddp_backend": "gloo"} if "WORLD_SIZE" in os.environ else {}
    args = config(
        output_dir=str(out / f"{kind}-{name}"),
        per_device_train_batch_size=size,
        max_steps=4,
        learning_rate=5e-3,
        max_grad_norm=0.5,
        train_sampling_strategy="sequential",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        **options,
    )
    torch.manual_seed(0)
    own = AutoModelForCausalLM.from_pretrained(model)
    made = trainer(own, args=args, train_dataset=rows(kind, 16), processing_class=AutoTokenizer.from_pretrained(model))
    fl.protect(made, METHODS[name](), rows(kind, 8, 50), retain_batch_size=4)
    made.train()
    weights = {key: parameter.detach().clone() for key, parameter in made.model.named_parameters()}
    return {"weights": weights, "violation": made.forgetless.constraint_violation, "steps": made.forgetless.session.ctx.step}


def every(model: Path, out: Path) -> dict[str, dict]:
    """All of them, one after another."""
    return {f"{kind}-{name}": train(kind, name, model, out) for kind in ("sft", "dpo") for name in METHODS}


if __name__ == "__main__":
    torch.set_num_threads(1)
    place = Path(sys.argv[2])
    found = every(Path(sys.argv[1]), place)
    rank = torch.distributed.get_rank()
    torch.save({name: one.pop("weights") for name, one in found.items()}, place / f"trl-{rank}.pt")
    (place / f"trl-{rank}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()
