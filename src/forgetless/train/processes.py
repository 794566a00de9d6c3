"""Several processes that train one model, as torchrun, accelerate launch or mpirun start them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from forgetless.core.predictions import IGNORE
from forgetless.errors import InputError

T = TypeVar("T")
_MPI = {"RANK": ("OMPI_COMM_WORLD_RANK", "PMI_RANK"), "WORLD_SIZE": ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")}
_MPI |= {"LOCAL_RANK": ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")}


def started() -> tuple[int, int]:
    """This process's rank and how many there are, as the launcher says; one where there is none."""
    return _number("RANK", 0), _number("WORLD_SIZE", 1)


class Processes:
    """The processes of one ``forgetless train``. Each gets its part of every batch, the first one writes.

    Joins the others when it is made; `leave` ends that.

    Args:
        device: ``settings.device``.

    Attributes:
        rank, size: of several processes which this is, and how many there are.

    Raises:
        InputError: the launcher asks for a way to train that this does not know.
    """

    def __init__(self, device: str) -> None:
        self.rank, self.size = started()
        self._joined = False
        if self.size == 1:
            return
        for key, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
            if os.environ.get(key, "").lower() == "true":
                raise InputError(
                    f"forgetless train replicates the model in every process, but the launcher is set to {name}",
                    where="accelerate launch",
                    mend="Launch with --multi_gpu; to shard a model use forgetless.protect, or attach, with FSDP2",
                )
        on_gpu = torch.cuda.is_available() and device != "cpu" and os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true"
        if on_gpu:
            torch.cuda.set_device(_number("LOCAL_RANK", self.rank) % torch.cuda.device_count())
        if not dist.is_initialized():
            os.environ |= {"RANK": str(self.rank), "WORLD_SIZE": str(self.size)}
            os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
            os.environ.setdefault("MASTER_PORT", "29500")
            dist.init_process_group("nccl" if on_gpu else "gloo")
            self._joined = True
        self.device = "cuda" if on_gpu else "cpu"

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    def together(self, model: nn.Module) -> nn.Module:
        """The model to call in training: with gradients averaged over processes."""
        return model if self.size == 1 else nn.parallel.DistributedDataParallel(model)

    def first_alone(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the first process, and then in the others."""
        done = [work()] if self.first else []
        if self.size > 1:
            dist.barrier()
        return done[0] if done else work()

    def agreed(self, value: T) -> T:
        """What the first process has."""
        if self.size == 1:
            return value
        found: list[T] = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    def all_of(self, value: Any) -> list[Any]:
        """What each process has, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def part(self, batch: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], float]:
        """This process's rows of a batch, and the factor with which the mean over processes of their losses is that of the whole.

        The loss is a mean over answers' tokens. A process for which no row is left takes the first, with a factor of zero.
        """
        if self.size == 1:
            return batch, 1.0
        counts = (batch["labels"][:, 1:] != IGNORE).sum(1)
        rows = len(counts)
        own = slice(rows * self.rank // self.size, rows * (self.rank + 1) // self.size)
        factor = float(self.size * counts[own].sum() / counts.sum())
        return {key: value[own] if len(counts[own]) else value[:1] for key, value in batch.items()}, factor

    def leave(self) -> None:
        """End the group that was joined."""
        if self._joined:
            dist.destroy_process_group()
            self._joined = False


def _number(name: str, otherwise: int) -> int:
    for key in (name, *_MPI.get(name, ())):
        if key in os.environ:
            return int(os.environ[key])
    return otherwise
