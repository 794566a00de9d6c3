"""Peak memory of training, in bytes per parameter, for each method and optimizer: derived, and measured in a process each.

    python benchmarks/memory_table.py measure --out docs/results/memory.json     # goes on where it stopped
    python benchmarks/memory_table.py table docs/results/memory.json             # the table of docs/memory.md

A Llama of 25 million weights made on the spot, one row of 8 tokens, so that activations hardly count; four steps of a first task with a
retain set, and its end. Measured is the largest resident size of the process less what it had before the model was made.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import raw

CHUNK_BYTES = 16 << 20
OPTIMIZERS = {"sgd": 0.0, "momentum": 4.0, "adamw": 8.0, "adamw-8bit": 2.0}
"""Bytes of state per trained parameter."""
METHODS: dict[str, tuple[float, float, str]] = {
    "none": (0, 0, ""),
    "cpl": (0.25, 0, "two bits of the reference; the chunk"),
    "l2sp": (4, 4, "the anchor; the penalty's gradients"),
    "wise": (4, 0, "the weights before training"),
    "ewc": (8, 4, "Fisher and anchor; the penalty's gradients"),
    "online-ewc": (8, 4, "Fisher and anchor; the penalty's gradients"),
    "si": (8, 0, "path integral and anchor; from the second task on importance and the penalty's gradients, 8 more"),
    "mas": (8, 4, "importance and anchor; the penalty's gradients"),
    "lwf": (4, 0, "the old model"),
    "kl": (4, 0, "the base model"),
    "packnet": (1, 0, "the owner of each weight; the chunk; at the end a selection in the largest tensor"),
    "joint": (0, 0, "the examples"),
    "replay": (0, 0, "the examples"),
    "der": (0, 0, "examples and logits"),
    "derpp": (0, 0, "examples and logits"),
    "generative-replay": (0, 0, "the texts"),
    "gem": (0, 4, "a gradient for each earlier task"),
    "agem": (0, 4, "a gradient"),
    "gradient-protection": (0, 0, "100 numbers a tensor"),
}
"""Bytes per parameter beyond plain training: kept, in passing, and what for. Methods that train other weights are below."""
OTHERS = ("lora", "supermask", "osf", "null-space", "auto")
INSIDE = ", in backward"
"""At the end of a method's name: the optimizer steps inside ``backward``, so gradients never exist all at once."""
COMPACT = ", fixed mask, compact state"
"""At the end of a method's name: the optimizer keeps state for the weights that may move only."""
RUNS = [
    *((name, "adamw", "float32") for name in (*METHODS, *OTHERS)),
    *((name, optimizer, "float32") for name in ("none", "cpl", "ewc", "packnet") for optimizer in ("sgd", "momentum", "adamw-8bit")),
    *((name, "adamw", "bfloat16") for name in ("none", "cpl", "kl")),
    ("lora", "adamw", "bfloat16"),
    *((name + INSIDE, optimizer, "float32") for name in ("none", "cpl") for optimizer in ("sgd", "adamw")),
    ("cpl" + COMPACT, "adamw", "float32"),
]


def plainly(name: str) -> str:
    """The method's own name."""
    return name.removesuffix(INSIDE).removesuffix(COMPACT)


def network(dtype: str) -> Any:
    """A Llama of 24.6 million weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=8192,
        hidden_size=512,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=8,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, dtype))
    model = LlamaForCausalLM(config)
    torch.set_default_dtype(before)
    return model


def child(name: str, optimizer: str, dtype: str) -> None:
    """Train, and print what was measured."""
    import resource

    import torch
    from transformers import LlamaForCausalLM  # noqa: F401  # before memory is counted

    import forgetless as fl

    if optimizer == "adamw-8bit":
        import bitsandbytes

    torch.manual_seed(0)
    torch.ones(1).requires_grad_().sum().backward()  # what autograd needs once
    options: dict[str, dict[str, Any]] = {
        "cpl": {"refresh": 2},
        "cpl" + INSIDE: {"refresh": "task"},
        "cpl" + COMPACT: {"mask": "fixed", "compact_state": True},
        "generative-replay": {"count": 4, "length": 4},
        "null-space": {"texts": 4, "length": 4},
        "auto": {"texts": 4, "length": 4},
    }
    made = fl.METHODS[plainly(name)](**options.get(name, {}))
    if name in ("lora", "osf"):
        import peft  # noqa: F401
    start = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    model = network(dtype)
    weights = sum(parameter.numel() for parameter in model.parameters())
    draw = torch.Generator().manual_seed(1)

    def batch() -> dict[str, torch.Tensor]:
        ids = torch.randint(3, 8192, (1, 8), generator=draw)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}

    train = [batch() for _ in range(4)]
    task = fl.Task("one", train, [batch() for _ in range(2)], steps=4)
    model = made.prepare(model, task)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stepper: Any = {
        "sgd": lambda: torch.optim.SGD(trained, lr=1e-3),
        "momentum": lambda: torch.optim.SGD(trained, lr=1e-3, momentum=0.9),
        "adamw": lambda: torch.optim.AdamW(trained, lr=1e-4),
        "adamw-8bit": lambda: bitsandbytes.optim.AdamW8bit(trained, lr=1e-4),
    }[optimizer]()
    with fl.attach(
        made, model, stepper, task, lambda m, b: m(**b).loss, chunk_bytes=CHUNK_BYTES, in_backward=name.endswith(INSIDE)
    ) as session:
        for one in train:
            outputs = model(**one)
            session.total(outputs.loss, one, outputs).backward()
            stepper.step()
            stepper.zero_grad()
            del outputs
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kept = session.constraint_violation
    held = session.metrics.get("conflicting_fraction")
    found = {"peak": peak - start, "weights": weights, "trained": sum(p.numel() for p in trained), "violation": kept, "held": held}
    print(json.dumps(found))


def measure(out: Path, runs: int) -> None:
    """Run what the file does not hold yet."""
    found = json.loads(out.read_text("utf-8")) if out.is_file() else {"chunk_bytes": CHUNK_BYTES, "runs": []}
    for name, optimizer, dtype in RUNS:
        for run in range(runs):
            key = {"method": name, "optimizer": optimizer, "dtype": dtype, "run": run}
            if any(row.items() >= key.items() for row in found["runs"]):
                continue
            environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}  # freed memory goes back at once
            command = [sys.executable, __file__, "child", name, optimizer, dtype]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            found["runs"].append(key | json.loads(done.stdout.splitlines()[-1]))
            found = raw.named(out, found, [0])
            out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(key, found["runs"][-1]["peak"], flush=True)


def derived(name: str, optimizer: str, dtype: str) -> float | None:
    """Weights, gradients, the optimizer's state and the method's; of those that train other weights nothing is derived here."""
    if name.endswith(INSIDE):
        usual = derived(name.removesuffix(INSIDE), optimizer, dtype)
        return None if usual is None else usual - 4
    if plainly(name) not in METHODS or name.endswith(COMPACT):
        return None
    size = 2 if dtype == "bfloat16" else 4
    state = OPTIMIZERS[optimizer] * (size / 4 if optimizer != "adamw-8bit" else 1)
    kept, passing, _ = METHODS[name]
    return 2 * size + state + (kept if name in ("cpl", "packnet") else (kept + passing) * size / 4)


def table(file: Path) -> None:
    """Print the results as Markdown, means over processes."""
    found = json.loads(file.read_text("utf-8"))["runs"]
    plain = {(row["optimizer"], row["dtype"]): row["peak"] / row["weights"] for row in found if row["method"] == "none"}
    print("| method | optimizer | weights in | derived | measured | over plain: derived | measured | what for |")
    print("|---|---|---|---|---|---|---|---|")
    for name, optimizer, dtype in RUNS:
        rows = [row for row in found if (row["method"], row["optimizer"], row["dtype"]) == (name, optimizer, dtype)]
        if not rows:
            continue
        values = [row["peak"] / row["weights"] for row in rows]
        mean, base = sum(values) / len(values), plain[optimizer, dtype]
        plan, alone = derived(name, optimizer, dtype), derived("none", optimizer, dtype)
        what = (
            f"two bits of the mask; AdamW's moments of the {1 - rows[0]['held']:.0%} of the weights that may move"
            if name.endswith(COMPACT)
            else METHODS[plainly(name)][2]
            if plainly(name) in METHODS
            else f"trains {rows[0]['trained'] / rows[0]['weights']:.2f} weights per weight"
        )
        plans = ("", "") if plan is None or alone is None else (f"{plan:.2f}", f"{plan - alone:+.2f}")
        print(f"| `{name}` | {optimizer} | {dtype} | {plans[0]} | {mean:.1f} | {plans[1]} | {mean - base:+.1f} | {what} |")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--runs", type=int, default=2)
    parts.add_parser("table").add_argument("file", type=Path)
    inner = parts.add_parser("child")
    for argument in ("name", "optimizer", "dtype"):
        inner.add_argument(argument)
    given = parser.parse_args()
    if given.part == "measure":
        measure(given.out, given.runs)
    elif given.part == "table":
        table(given.file)
    else:
        child(given.name, given.optimizer, given.dtype)
    return 0


if __name__ == "__main__":
    sys.exit(main())
