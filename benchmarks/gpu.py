"""Time and memory of an AdamW step on a GPU: plain, under methods, and under the authors' rule for CPL written plainly.

    python benchmarks/gpu.py [--dtype float32] [--batch 4] [--tokens 256] [--steps 24] [--out gpu.json]
    python benchmarks/gpu.py --tiny --device cpu          # the same code on a tiny model, to try it anywhere

The model has the architecture of Qwen2.5-1.5B and random weights; tokens are random too, which neither time nor memory depends on. Every
kind runs in a process of its own. CPL and the authors' rule take a new reference at every 8th step, over two batches: the median is of a
step without one, the mean has its share. Without a GPU nothing is measured: a message says so, and the exit code is 0.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

import forgetless as fl

REFRESH, RETAIN_BATCHES = 8, 2
QWEN = {
    "vocab_size": 151936,
    "hidden_size": 1536,
    "intermediate_size": 8960,
    "num_hidden_layers": 28,
    "num_attention_heads": 12,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}
TINY = {"vocab_size": 256, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
METHODS: dict[str, Callable[[argparse.Namespace], fl.Method]] = {
    "cpl": lambda a: fl.CPL(refresh=REFRESH),
    "ewc": lambda a: fl.EWC(examples=4, labels="data"),
    "agem": lambda a: fl.AGEM(batch_size=a.batch),
    "replay": lambda a: fl.Replay(),
    "lora": lambda a: fl.LoRA(),
}
KINDS = ("plain", *METHODS, "authors")
Batch = dict[str, torch.Tensor]


class AuthorsAdamW(torch.optim.Optimizer):
    """AdamW under CPL as its authors' code has it: a reference gradient in fp32 for every weight, and for each tensor a mask on the
    effective step, weight decay included; moments are of the unmasked gradient."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01})
        self.reference: dict[nn.Parameter, torch.Tensor] = {}

    def refresh(self, loss_fn: Callable[[Batch], torch.Tensor], batches: list[Batch]) -> None:
        """Take the mean gradient over the retain set anew."""
        total: dict[nn.Parameter, torch.Tensor] = {}
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for batch in batches:
            for parameter, gradient in zip(parameters, torch.autograd.grad(loss_fn(batch), parameters), strict=True):
                part = gradient.float() / len(batches)
                total[parameter] = total[parameter].add_(part) if parameter in total else part
        self.reference = total

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One masked step."""
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for parameter in group["params"]:
                gradient, state = parameter.grad, self.state[parameter]
                if not state:
                    state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
                state["step"] += 1
                state["mean"].lerp_(gradient, 1 - beta1)
                state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                root = (state["square"] / (1 - beta2 ** state["step"])).sqrt_().add_(group["eps"])
                update = state["mean"] / (1 - beta1 ** state["step"]) / root + group["weight_decay"] * parameter
                mask = gradient.float() * self.reference[parameter] >= 0
                parameter.sub_(update * mask, alpha=group["lr"])


def loss_fn(model: nn.Module, batch: Batch) -> torch.Tensor:
    """The mean loss of a batch."""
    loss: torch.Tensor = model(**batch).loss
    return loss


def make_model(arguments: argparse.Namespace) -> nn.Module:
    """The model with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(**(QWEN | (TINY if arguments.tiny else {})), use_cache=False)
    with torch.device(arguments.device):
        return Qwen2ForCausalLM(config).to(getattr(torch, arguments.dtype)).train()


def train(kind: str, arguments: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """Train warm-up and measured steps; the trained model, and what was measured."""
    model = make_model(arguments)
    weights = sum(parameter.numel() for parameter in model.parameters())
    draw = torch.Generator().manual_seed(1)
    steps = arguments.warm_up + arguments.steps

    def batches(count: int) -> list[Batch]:
        shape = (arguments.batch, arguments.tokens)
        found = [torch.randint(0, model.config.vocab_size, shape, generator=draw).to(arguments.device) for _ in range(count)]
        return [{"input_ids": ids, "labels": ids} for ids in found]

    new, old = batches(steps), batches(RETAIN_BATCHES)
    task = fl.Task("bench", new, old, last=True)
    method = METHODS[kind](arguments) if kind in METHODS else None
    if method is not None:
        model = method.prepare(model, task)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = AuthorsAdamW(parameters, 1e-5) if kind == "authors" else torch.optim.AdamW(parameters, lr=1e-5, fused=True)
    session = None if method is None else fl.attach(method, model, optimizer, task, loss_fn).start()
    times, losses = [], []
    for number, batch in enumerate(new):
        wait(arguments.device)
        began = time.perf_counter()
        if isinstance(optimizer, AuthorsAdamW) and number % REFRESH == 0:
            model.eval()
            optimizer.refresh(lambda batch: loss_fn(model, batch), old)
            model.train()
        outputs = model(**batch)
        total = outputs.loss if session is None else session.total(outputs.loss, batch, outputs)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()
        wait(arguments.device)
        times.append(time.perf_counter() - began)
        losses.append(outputs.loss.item())
    if session is not None:
        session.close()
    taken = times[arguments.warm_up :]
    return model, {
        "n": len(taken),
        "seconds_median": statistics.median(taken),
        "seconds_min": min(taken),
        "seconds_max": max(taken),
        "seconds_mean": statistics.fmean(taken),
        "peak_bytes": peak_bytes(arguments.device),
        "weights": weights,
        "trained": sum(parameter.numel() for parameter in parameters),
        "loss": [losses[0], losses[-1]],
        "constraint_violation": None if session is None else session.constraint_violation,
    }


def wait(device: str) -> None:
    """Until the GPU has done what it was given."""
    if device != "cpu":
        torch.cuda.synchronize()


def peak_bytes(device: str) -> int:
    """The most memory in use so far: tensors on the GPU, or the whole process on a processor."""
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(report: dict[str, Any]) -> str:
    """The results as text; ratios are to the plain step."""
    found = report["kinds"]
    base = found.get("plain", {}).get("seconds_median")
    lines = [f"{'':<9}{'s per step, median (min to max)':>34}{'mean':>9}{'x plain':>9}{'peak GB':>9}{'GB per 1e9 weights':>20}"]
    for kind, row in found.items():
        if "error" in row:
            lines.append(f"{kind:<9}{row['error']}")
            continue
        spread = f"{row['seconds_median']:.4f} ({row['seconds_min']:.4f} to {row['seconds_max']:.4f})"
        ratio = f"{row['seconds_median'] / base:.2f}" if base else "-"
        peak = f"{row['peak_bytes'] / 1e9:>9.2f}{row['peak_bytes'] / row['weights']:>20.2f}"
        lines.append(f"{kind:<9}{spread:>34}{row['seconds_mean']:>9.4f}{ratio:>9}{peak}")
    return "\n".join(lines)


def main() -> int:
    """Measure every kind in a process of its own; print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS), help="which to measure")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"], help="of weights, gradients and moments")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--steps", type=int, default=24, help="measured, after the warm-up; a multiple of 8 for a fair mean")
    parser.add_argument("--warm-up", type=int, default=8)
    parser.add_argument("--tiny", action="store_true", help="a tiny model")
    parser.add_argument("--out", default="gpu.json")
    parser.add_argument("--child", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(f"skipped: torch {torch.__version__} sees no CUDA device on this machine; --tiny --device cpu tries the code without one")
        return 0
    if arguments.device == "cpu" and not arguments.tiny:
        parser.error("--device cpu is for --tiny")
    kinds = arguments.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        parser.error(f"--kinds: {unknown[0]!r} is none of {', '.join(KINDS)}")
    if arguments.child:
        print(json.dumps(train(arguments.child, arguments)[1]))
        return 0
    found: dict[str, Any] = {}
    for kind in kinds:
        done = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", kind], capture_output=True, text=True, check=False)
        last = (done.stderr if done.returncode else done.stdout).strip().splitlines() or [f"ended with code {done.returncode}"]
        found[kind] = {"error": last[-1]} if done.returncode else json.loads(last[-1])
    settings = {name: getattr(arguments, name) for name in ("device", "dtype", "batch", "tokens", "steps", "warm_up", "tiny")}
    name = torch.cuda.get_device_name() if arguments.device == "cuda" else "processor"
    report = {"machine": name, "torch": torch.__version__, **settings, "refresh": REFRESH, "retain_batches": RETAIN_BATCHES, "kinds": found}
    weights = next((row["weights"] for row in found.values() if "weights" in row), 0)
    size = f"{arguments.batch} x {arguments.tokens} tokens, n = {arguments.steps} steps"
    print(f"{name}, {weights:,} weights in {arguments.dtype}, AdamW, {size}")
    print(table(report))
    Path(arguments.out).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if any("error" in row for row in found.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
