"""What each process of the tests runs; its findings go to a file. Usage: worker.py FOLDER WHAT."""

import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from together import CASES, RESHAPING, RESUMED, accumulated, interrupted, optimizer_of, place, plain, stream, task_of, whole, wrapped
from torch.utils._python_dispatch import TorchDispatchMode

import forgetless as fl
from forgetless.core.gradients import mean_gradient
from nets import batches, loss_fn, net


class Counting(TorchDispatchMode):
    """The collectives called inside, and the numbers that each carries."""

    def __enter__(self):
        self.called: list[tuple[str, int]] = []
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace in ("c10d", "_c10d_functional") and "wait" not in str(func):
            flat = torch.utils._pytree.tree_leaves((args, kwargs))
            self.called.append((str(func), max((leaf.numel() for leaf in flat if isinstance(leaf, torch.Tensor)), default=0)))
        return func(*args, **(kwargs or {}))


def equal(kind: str) -> dict:
    found = {name: stream(kind, *case) for name, case in CASES.items()}
    if kind == "ddp":
        found |= {name: stream(kind, *case) for name, case in RESHAPING.items()}
        found["cpl, gradients in buckets"] = stream(kind, *CASES["cpl"], gradient_as_bucket_view=True)
    else:
        found |= {name: stream(kind, *RESHAPING[name], tasks=1) for name in ("progressive", "lora")}
        found["kl, whole after forward"] = stream(kind, *CASES["kl"], reshard_after_forward=False)
    return found | {"accumulated": accumulated(kind)}


def hybrid() -> dict:
    return {name: stream("hsdp", *CASES[name], tasks=1) for name in ("cpl", "agem", "gradient-protection", "ewc")}


def resumed(folder: Path) -> dict:
    found = {}
    for kind in ("ddp", "fsdp"):
        for name in RESUMED:
            interrupted(kind, *CASES[name], folder, save=f"{kind}-{name}")
            found[kind, name] = interrupted(kind, *CASES[name], folder, load=f"one-{name}")
    return found


def reference(kind: str) -> dict:
    """Mean gradients of uneven shares of seven batches, and of the same batches given to every process."""
    rank, _ = place()
    all_batches = batches(7, 3, size=6)
    own = {"uneven": all_batches[:5] if rank == 0 else all_batches[5:], "nothing": all_batches if rank == 0 else []}
    found = {}
    for name, part in [*own.items(), ("everywhere", all_batches)]:
        model = wrapped(kind, net())
        session = fl.attach(fl.Plain(), model, optimizer_of(model), fl.Task("t", part, everywhere=name == "everywhere"), loss_fn)
        gradients = mean_gradient(session.ctx, part)
        found[name] = {k: session.ctx.full(k, g).clone() for k, g in gradients.items()}
        found[name, "untouched"] = all(parameter.grad is None for parameter in model.parameters())
    return found


def collectives(kind: str) -> dict:
    """Collectives inside optimizer.step(), and in all of a step without a refresh, under each method."""
    found = {}
    for name in ("none", "cpl", "ewc", "si", "mas", "l2sp", "packnet", "null-space", "agem", "gem", "gradient-protection"):
        options = {"refresh": "task"} if name == "cpl" else {}
        model, task = wrapped(kind, net()), task_of()
        optimizer = optimizer_of(model)
        with fl.attach(fl.METHODS[name](**options), model, optimizer, task, loss_fn) as session:
            for step in range(3):
                with Counting() as before:
                    session.total(loss_fn(model, task.train[step]), task.train[step]).backward()
                with Counting() as inside:
                    optimizer.step()
                optimizer.zero_grad()
            found[name] = (before.called, inside.called)
    return found


def refused() -> dict[str, str]:
    """What is said about what cannot be protected."""

    def attached(model, method=None, optimizer=None, task=None, **options):
        return fl.attach(method or fl.CPL(), model, optimizer or optimizer_of(model), task or task_of(), loss_fn, **options)

    def late():
        model, task = net(), task_of()
        with attached(model, task=task, group=dist.group.WORLD) as session:
            wrapped("fsdp", model)
            session.total(loss_fn(model, task.train[0])).backward()
            session.ctx.optimizer.step()

    def early():
        model = net()
        optimizer = optimizer_of(model)
        attached(wrapped("fsdp", model), optimizer=optimizer)

    def tensor_parallel():
        from torch.distributed.tensor import distribute_module

        attached(distribute_module(net(), dist.init_device_mesh("cpu", (2,))))

    def unsharded():
        model = net()
        from torch.distributed.fsdp import fully_shard

        fully_shard(model[0])
        attached(model)

    def fsdp_of_old():
        from torch.distributed.fsdp import FullyShardedDataParallel

        attached(FullyShardedDataParallel(net(), use_orig_params=True, device_id=torch.device("cpu")))

    def prepared(name):
        method, task = fl.METHODS[name](), task_of()
        attached(wrapped("fsdp", method.prepare(net(), task)), method, task=task)

    tries = {
        "sharded after attach": late,
        "optimizer built too early": early,
        "bare model": lambda: attached(net()),
        "tensor parallel": tensor_parallel,
        "partly sharded": unsharded,
        "FSDP1": fsdp_of_old,
        "osf": lambda: prepared("osf"),
        "supermask": lambda: prepared("supermask"),
        "generative-replay": lambda: attached(wrapped("ddp", net()), fl.Replay() >> fl.GenerativeReplay()),
        "no epoch": lambda: (
            attached(wrapped("ddp", net()), task=fl.Task("t", batches(2, 1), batches(2, 1), everywhere=True)).start().total(torch.zeros(()))
        ),
    }
    found = {}
    for name, attempt in tries.items():
        try:
            attempt()
            found[name] = "not refused"
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


def alone() -> dict:
    """Every process trains a model of its own."""
    task = fl.Task("t", batches(2, place()[0]), batches(2, 9))
    model = net()
    with fl.attach(fl.CPL(), model, optimizer_of(model), task, loss_fn, group="alone") as session:
        loss = session.total(loss_fn(model, task.train[0]))
        loss.backward()
        session.ctx.optimizer.step()
    return whole(plain(model).named_parameters())


def main(folder: Path, what: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=timedelta(seconds=300))
    if what == "hybrid":
        found = hybrid()
    else:
        found = {("equal", kind): equal(kind) for kind in ("ddp", "fsdp")} | {
            ("reference", kind): reference(kind) for kind in ("ddp", "fsdp")
        }
        found |= {("collectives", kind): collectives(kind) for kind in ("ddp", "fsdp")}
        found |= {"resumed": resumed(folder), "refused": refused(), "alone": alone()}
    torch.save(found, folder / f"{what}-{dist.get_rank()}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
