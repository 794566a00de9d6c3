"""Peak memory of comparing gradients, against one backward pass: each in a process of its own, on the same random tokens.

    python benchmarks/diagnosis_memory.py [--model smollm2-135m | --billion] [--groups 4] [--batch 16] [--tokens 32] [--inject 4]

``--billion`` takes a random model with the sizes of TinyLlama (1.1 billion weights, 10 GB). The references get as many bytes as the
weights (`hold_bytes`), which is also what larger models get by default. The goal: at most 1.1 times one backward pass and a reference in
two bits a weight. Linux only: the peak is the kernel's, counted from after the model was loaded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

GOAL = 1.1


def peak() -> int:
    """Peak resident bytes of this process since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def forget_peak() -> None:
    """Let the kernel count the peak anew."""
    Path("/proc/self/clear_refs").write_text("5")


def billion() -> Any:
    """A random model with the sizes of TinyLlama."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32000, **sizes))


def child(what: str, arguments: argparse.Namespace) -> None:
    """Do it and print the peak and the size of the model."""
    import torch

    from forgetless.analysis.conflict import conflict
    from forgetless.analysis.questions import answer_loss
    from forgetless.data.model import load_model

    torch.set_num_threads(1)
    model = billion() if arguments.billion else load_model(arguments.model).model
    draw = torch.Generator().manual_seed(0)

    def batch(size: int) -> dict[str, torch.Tensor]:
        ids = torch.randint(1, model.config.vocab_size, (size, arguments.tokens), generator=draw)
        labels = ids.clone()
        labels[:, :-3] = -100  # three answer tokens
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}

    retain = {f"group {n}": [batch(arguments.batch)] for n in range(arguments.groups)}
    inject = [batch(1) for _ in range(arguments.inject)]
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    forget_peak()
    if what == "backward":
        answer_loss(model.eval(), retain["group 0"][0]).backward()  # type: ignore[no-untyped-call]
    else:
        conflict(model, answer_loss, retain, inject, hold_bytes=size)
    print(json.dumps({"peak": peak(), "weights": sum(parameter.numel() for parameter in model.parameters())}))


def main() -> None:
    """Run both and print the ratio; exits 1 where the goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--billion", action="store_true")
    parser.add_argument("--groups", type=int, default=4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--inject", type=int, default=4)
    parser.add_argument("--child", choices=["backward", "conflict"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child, arguments)
        return
    found = {}
    for what in ("backward", "conflict"):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--child", what], capture_output=True, text=True, check=True, env=dict(os.environ)
        )
        found[what] = json.loads(done.stdout.splitlines()[-1])
    packed = found["backward"]["weights"] // 4
    ratio = found["conflict"]["peak"] / (found["backward"]["peak"] + packed)
    print(f"one backward pass {found['backward']['peak'] / 1e6:.0f} MB, packed reference {packed / 1e6:.0f} MB")
    print(
        f"comparing gradients of {arguments.groups} retain groups {found['conflict']['peak'] / 1e6:.0f} MB: {ratio:.2f} times (goal {GOAL})"
    )
    sys.exit(ratio > GOAL)


if __name__ == "__main__":
    main()
