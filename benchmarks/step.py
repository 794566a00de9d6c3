"""Time of an optimizer step, CPL against plain and against the authors' rule written plainly, as ratios from one run.

    python benchmarks/step.py [--weights 134515008] [--repeats 7] [--threads N] [--optimizers sgd ...] [--kinds cpl torch authors]
    python benchmarks/step.py --whole [--repeats 7] [--threads N]
    python benchmarks/step.py --profile [--threads 1] [--optimizers sgd ...] [--kinds cpl torch]

The weights are laid out as in SmolLM2-135M. Each optimizer steps plainly, under CPL (two-bit signs, one pass in compiled loops), SGD on
one thread in those loops alone (the rest of CPL's step is Python), under CPL in torch operations alone, and under the authors' rule (a
full fp32 reference, full copies, masks of whole tensors); they take turns,
medians are compared. With ``--whole`` SmolLM2-135M is trained on batches of 8 rows of 32 tokens: forward, backward and step together,
plainly and under CPL, and by itself the refresh of a reference from one such batch. Beside each ratio stands that of the last release
(benchmarks/baseline.json). On one thread the processor's time counts, else that of the clock. ``--profile`` says instead in which
functions the time of each kind of step goes; the compiled loops stand under the Python function that calls them.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

import baseline
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.methods import CPL
from forgetless.ops import fused
from forgetless.ops.descent import Plain


class Layers(nn.Module):
    """Tensors of the shapes of SmolLM2-135M, scaled to about so many weights."""

    def __init__(self, weights: int) -> None:
        super().__init__()
        share = weights / 134_515_008
        shapes = [(int(49152 * share), 576)]
        for _ in range(30):
            rows = max(1, int(1536 * share))
            shapes += [(max(1, int(576 * share)), 576)] * 2 + [(max(1, int(192 * share)), 576)] * 2 + [(rows, 576)] * 3 + [(576,)] * 2
        self.parts = nn.ParameterList([nn.Parameter(torch.randn(shape) * 0.02) for shape in shapes])

    def forward(self, scale: torch.Tensor) -> torch.Tensor:
        return sum((part * scale).sum() for part in self.parts)


Make = Callable[[list[nn.Parameter]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, Make] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=1e-6),
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=1e-6, momentum=0.9),
    "adamw (default)": lambda parameters: torch.optim.AdamW(parameters, lr=1e-6),
    "adamw (fused)": lambda parameters: torch.optim.AdamW(parameters, lr=1e-6, fused=True),
}


KINDS = ("cpl", "loops", "torch", "authors")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=int, default=134_515_008)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=list(OPTIMIZERS))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--whole", action="store_true", help="whole training steps of SmolLM2-135M")
    parser.add_argument("--profile", action="store_true", help="where the time of a step goes, function by function")
    parser.add_argument("--json", type=Path, help="put the ratios into this file too")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    threads = torch.get_num_threads()
    clock = time.process_time if threads == 1 else time.perf_counter
    print(f"n = {arguments.repeats} steps each, {threads} threads, medians (min to max); ratios are to plain in the same run")
    found = json.loads(arguments.json.read_text("utf-8")) if arguments.json and arguments.json.is_file() else {}
    for name in arguments.optimizers:
        make = OPTIMIZERS[name]
        steps = whole(make) if arguments.whole else steps_of(arguments.weights, make, arguments.kinds)
        if arguments.profile:
            for kind, step in steps.items():
                print(
                    f"{name}, {kind}, {threads} threads: own time, {arguments.repeats} steps\n{profiled(step, arguments.repeats)}",
                    flush=True,
                )
            continue
        times: dict[str, list[float]] = {kind: [] for kind in steps}
        for repeat in range(arguments.repeats + 2):
            for kind, step in steps.items():
                began = clock()
                step()
                if repeat > 1:  # the first steps make the optimizer's state, and CPL audits itself
                    times[kind].append(clock() - began)
        base = statistics.median(times.pop("plain"))
        for kind, values in times.items():
            ratios = sorted(value / base for value in values)
            key = f"{'whole step' if arguments.whole else 'step'}, {name}, {kind}, {threads} thread{'s'[: threads > 1]}"
            found[key] = [round(value, 3) for value in (statistics.median(ratios), ratios[0], ratios[-1])]
            print(f"{key:<52}{found[key][0]:>7.2f}x ({ratios[0]:.2f}-{ratios[-1]:.2f}){baseline.beside(key, found[key][0])}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def profiled(step: Callable[[], object], repeats: int, least: float = 0.02) -> str:
    """The functions that take at least a share ``least`` of the time of some steps, by the time in themselves."""
    for _ in range(2):
        step()
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(repeats):
        step()
    profile.disable()
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(row[2] for row in found.values())
    lines = []
    for (file, _, name), (_, calls, own, _, _) in sorted(found.items(), key=lambda item: -item[1][2]):
        if own >= least * total:
            lines.append(f"  {own / total:6.1%}  {calls // repeats:>7} calls a step  {name} ({Path(file).name})")
    return "\n".join(lines)


def whole(make: Make) -> dict[str, Callable[[], object]]:
    """Training steps of SmolLM2-135M, and the refresh of a reference."""
    from forgetless.data.model import EMBEDDED, load_model

    model = load_model(EMBEDDED).model.train()
    ids = torch.randint(0, model.config.vocab_size, (8, 32), generator=torch.Generator().manual_seed(1))
    batch, own, method = {"input_ids": ids, "labels": ids}, make(list(model.parameters())), CPL(refresh="task")
    protected = make(list(model.parameters()))
    session = attach(method, model, protected, Task("bench", [batch], [batch]), lambda m, b: m(**b).loss).start()

    def plainly() -> None:
        model(**batch).loss.backward()
        own.step()
        own.zero_grad()

    def under_cpl() -> None:
        session.total(model(**batch).loss, batch).backward()
        protected.step()
        protected.zero_grad()

    return {"plain": plainly, "cpl": under_cpl, "refresh alone": lambda: method.begin_task(session.ctx)}


def steps_of(weights: int, make: Make, kinds: list[str]) -> dict[str, Callable[[], object]]:
    """The steps that take turns, on the same weights and gradients; each kind with an optimizer of its own."""
    torch.manual_seed(0)
    model = Layers(weights)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    reference = [torch.randn_like(parameter) for parameter in parameters]
    made: dict[str, Callable[[], object]] = {"plain": make(parameters).step}
    if {"cpl", "loops", "torch"} & set(kinds):
        optimizer, method = make(parameters), CPL(refresh="task")
        loss = sum((parameter * part).sum() for parameter, part in zip(parameters, reference, strict=True))
        attach(method, model, optimizer, Task("bench", [None], [None]), lambda m, b: loss).start()
        made |= {"cpl": optimizer.step, "torch": lambda: in_torch(optimizer.step)}
        alone = type(optimizer) is torch.optim.SGD and not optimizer.defaults["momentum"] and torch.get_num_threads() == 1
        if alone and (loops := fused.loops()):
            named = {name: p for name, p in model.named_parameters() if p.grad is not None}
            whole = [fused.Stretch(method.reference[n], 0, p.grad, p.detach(), [], 0, p.numel()) for n, p in named.items()]
            descent = Plain(optimizer.defaults["lr"], 0.0)
            made["loops"] = lambda: loops.descend(whole, descent, frozen=False)
    if "authors" in kinds:
        own = make(parameters)
        made["authors"] = lambda: authors(own, parameters, reference)
    else:
        reference.clear()
    return {kind: made[kind] for kind in ("plain", *kinds) if kind in made}


def in_torch(step: Callable[[], object]) -> None:
    """A step of CPL without compiled loops."""
    compiled = fused.loops
    fused.loops = lambda: None  # type: ignore[assignment]  # as FORGETLESS_COMPILE=0 does from the start
    try:
        step()
    finally:
        fused.loops = compiled


def authors(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], reference: list[torch.Tensor]) -> None:
    """The rule as the paper's code has it: full copies, a product, a mask, the masked step."""
    with torch.no_grad():
        before = [parameter.detach().clone() for parameter in parameters]
        optimizer.step()
        for parameter, old, known in zip(parameters, before, reference, strict=True):
            mask = (parameter.grad * known >= 0).to(parameter.dtype)
            parameter.copy_(old + mask * (parameter - old))


if __name__ == "__main__":
    main()
