"""Training that any number of processes do together, sharing out the same batches: what the tests compare."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict as checkpoints

import forgetless as fl
from nets import batches, loss_fn, net

STEPS = 10
CASES = {
    "none": ("none", {}),
    "cpl": ("cpl", {"refresh": 2}),
    "cpl-fixed": ("cpl", {"mask": "fixed", "confidence": 0.5}),
    "cpl-streaming": ("cpl", {"refresh": "streaming"}),
    "cpl-gradient": ("cpl", {"level": "gradient"}),
    "ewc": ("ewc", {"strength": 100.0, "examples": 9}),
    "online-ewc": ("online-ewc", {"strength": 100.0, "labels": "data"}),
    "si": ("si", {"strength": 1.0}),
    "mas": ("mas", {"strength": 1.0, "examples": 9}),
    "l2sp": ("l2sp", {"strength": 1.0}),
    "lwf": ("lwf", {}),
    "kl": ("kl", {"strength": 2.0}),
    "replay": ("replay", {"capacity": 11}),
    "replay-diverse": ("replay", {"sampling": "diversity", "capacity": 9, "ratio": 0.25}),
    "joint": ("joint", {}),
    "der": ("der", {"capacity": 13}),
    "derpp": ("derpp", {"capacity": 13}),
    "gem": ("gem", {"per_task": 10, "batch_size": 3, "margin": 0.1}),
    "agem": ("agem", {"capacity": 20, "batch_size": 6}),
    "gradient-protection": ("gradient-protection", {"threshold": 0.5}),
    "gradient-protection-element": ("gradient-protection", {"statistic": "element", "history": 5}),
    "packnet": ("packnet", {}),
    "null-space": ("null-space", {}),
    "auto": ("auto", {"ratio": 0.5}),
    "wise": ("wise", {"alpha": 0.5}),
}
RESHAPING = {"progressive": ("progressive", {}), "lora": ("lora", {"rank": 2}), "supermask": ("supermask", {}), "osf": ("osf", {})}
"""Methods that change the model: with FSDP in its first task only, before it is sharded, or not at all."""
RESUMED = (
    "cpl",
    "cpl-streaming",
    "ewc",
    "si",
    "kl",
    "replay",
    "derpp",
    "gem",
    "agem",
    "gradient-protection-element",
    "packnet",
    "null-space",
)


def place() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def shared_out(whole):
    """This process's rows of every batch."""
    rank, size = place()
    return [tuple(part.chunk(size)[rank] for part in batch) for batch in whole]


def wrapped(kind: str, model: nn.Module, **options) -> nn.Module:
    if kind == "ddp":
        return nn.parallel.DistributedDataParallel(model, **options)
    if kind != "one":
        from torch.distributed.fsdp import fully_shard

        if kind == "hsdp":
            options["mesh"] = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("copies", "shards"))
        for layer in [module for module in model.modules() if isinstance(module, nn.Linear)]:
            fully_shard(layer, **options)
        fully_shard(model, **options)
    return model


def plain(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def whole(tree) -> dict[str, Tensor]:
    """Whole tensors, on every process."""
    return {name: (w.full_tensor() if hasattr(w, "full_tensor") else w).detach().clone() for name, w in tree}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return whole(plain(model).named_parameters())


def task_of(index: int = 0) -> fl.Task:
    return fl.Task(f"task {index}", shared_out(batches(5, 2 + index)), shared_out(batches(3, 30)), index=index, steps=STEPS)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=0.01)


def steps(session, model, start: int, stop: int) -> list[dict]:
    told = []
    for step in range(start, stop):
        session.begin_epoch(step // 5)
        x, y = session.ctx.task.train[step % 5]
        out = model(x)
        session.total(nn.functional.cross_entropy(out, y), (x, y), out).backward()
        session.ctx.optimizer.step()
        session.ctx.optimizer.zero_grad()
        told.append(dict(session.metrics))
    return told


def stream(kind: str, name: str, options: dict, tasks: int = 2, **wrapping) -> dict:
    """A stream of tasks: the weights, what each step reported, the worst violation, bytes of packed signs."""
    method, told, violations = fl.METHODS[name](**options), [], []
    model = net()
    for index in range(tasks):
        task = task_of(index)
        if kind in ("one", "ddp") or not index:
            torch.manual_seed(7)
            model = wrapped(kind, method.prepare(plain(model), task), **wrapping)
        else:
            assert method.prepare(model, task) is model
        with fl.attach(method, model, optimizer_of(model), task, loss_fn) as session:
            told += steps(session, model, 0, STEPS)
        violations.append(session.constraint_violation)
    packed = sum(reference.numel() * 4 for reference in getattr(method, "reference", {}).values())
    return {"weights": weights(model), "told": told, "violations": violations, "packed": packed}


def accumulated(kind: str) -> dict:
    """Two micro-batches a step, gradients reduced with the second only, the sum clipped."""
    model, task = wrapped(kind, net()), task_of()
    method, optimizer = fl.CPL(refresh=1) >> fl.L2SP(strength=0.5), optimizer_of(model)
    with fl.attach(method, model, optimizer, task, loss_fn) as session:
        for step in range(STEPS):
            x, y = task.train[step % 5]
            for part, (a, b) in enumerate(zip(x.chunk(2), y.chunk(2), strict=True)):
                if kind == "fsdp":
                    model.set_requires_gradient_sync(part == 1)
                elif kind == "ddp":
                    model.require_backward_grad_sync = part == 1
                (session.total(loss_fn(model, (a, b))) / 2).backward()
            session.edit_gradients()
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            optimizer.zero_grad()
    return {"weights": weights(model), "violations": [session.constraint_violation]}


def interrupted(kind: str, name: str, options: dict, folder: Path, *, save: str = "", load: str = "") -> dict[str, Tensor]:
    """One task, saved after 4 steps, or taken up there."""
    model, task = wrapped(kind, net() if not load else net(seed=5)), task_of()
    optimizer = optimizer_of(model)
    session = fl.attach(fl.METHODS[name](**options), model, optimizer, task, loss_fn)
    form = checkpoints.StateDictOptions(full_state_dict=True, cpu_offload=True)
    if load:
        kept = fl.load_state(folder / load)
        checkpoints.set_model_state_dict(model, kept["model"], options=form)
        checkpoints.set_optimizer_state_dict(model, optimizer, kept["optimizer"], options=form)
        session.load_state_dict(kept["session"])
    with session:
        if not load:
            steps(session, model, 0, 4)
        if save:
            own = {
                "model": checkpoints.get_model_state_dict(model, options=form),
                "optimizer": checkpoints.get_optimizer_state_dict(model, optimizer, options=form),
                "session": session.state_dict(),
            }
            if place()[0] == 0:
                fl.save_state(folder / save, own)
        steps(session, model, 4, STEPS)
    return weights(model)
