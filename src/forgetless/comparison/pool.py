"""Jobs in processes of their own on this machine, several at a time, each GPU in turn."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from forgetless.comparison.worker import FAILED, KILLED, Job, Outcome, begin

TICK = 0.25
"""Seconds between two looks at the running jobs."""

ATTEMPTS = 2
"""How often a job is begun whose process is killed."""

PRELOADED = (
    "forgetless.methods",
    "forgetless.train.loop",
    "forgetless.data.model",
    "forgetless.demo.plan",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "transformers.models.llama.modeling_llama",
    "peft.utils.transformers_weight_conversion",
)
"""What takes seconds to import; a process that has done so once is forked for each job."""


Watch = Callable[[Sequence[Job]], Sequence[str]]
"""Told the running jobs every moment; gives the names of those to stop."""


class Pool(Protocol):
    """Something that does jobs, several at a time: processes here, or a cluster. A handle is a job begun."""

    def room(self, running: int) -> bool:
        """Whether another job may begin beside so many."""

    def start(self, job: Job) -> Any:
        """Begin a job; gives its handle."""

    def ended(self, handles: Sequence[Any]) -> list[tuple[Any, Outcome]]:
        """Those that have ended, after a moment at the most."""

    def stop(self, handles: Sequence[Any]) -> None:
        """Kill the jobs."""


def run_jobs(pool: Pool, jobs: Sequence[Job], watch: Watch) -> Generator[tuple[Job, Outcome], None, None]:
    """Begin the jobs in order; yield each with its outcome as it ends. One whose process is killed is begun once more.

    Whatever ends the walk kills what runs.
    """
    waiting, running, stopped = [(job, 1) for job in jobs], list[tuple[Any, Job, int]](), set[str]()
    try:
        while waiting or running:
            while waiting and pool.room(len(running)):
                job, attempt = waiting.pop(0)
                running.append((pool.start(job), job, attempt))
            for ended, outcome in pool.ended([handle for handle, _, _ in running]):
                job, attempt = next((job, attempt) for handle, job, attempt in running if handle is ended)
                running = [one for one in running if one[0] is not ended]
                if outcome.status == KILLED and attempt < ATTEMPTS and job.name not in stopped:
                    waiting.insert(0, (job, attempt + 1))
                else:
                    yield job, outcome
            stopped |= set(watch([job for _, job, _ in running]))
            pool.stop([handle for handle, job, _ in running if job.name in stopped])
    finally:
        pool.stop([handle for handle, _, _ in running])


@dataclass(slots=True, eq=False)
class _Running:
    process: Any
    connection: Connection
    slot: int


class Processes:
    """Jobs as processes of this machine.

    Each is a process of its own, so its peak memory is its own. On Linux it is forked from a process that has imported what is slow
    to import; elsewhere it starts from nothing.

    Args:
        log: where what that process prints goes.
        jobs: how many at a time.
        gpus: names for ``CUDA_VISIBLE_DEVICES``, given out in turn; empty where there is none.
    """

    def __init__(self, log: Path, jobs: int, gpus: Sequence[str] = ()) -> None:
        self.jobs, self.gpus = jobs, gpus
        self._taken: set[int] = set()
        linux = sys.platform.startswith("linux")
        self._context: Any = multiprocessing.get_context("forkserver" if linux else "spawn")
        if linux:
            self._context.set_forkserver_preload(list(PRELOADED))
            _preload(log)

    def room(self, running: int) -> bool:
        return running < self.jobs

    def start(self, job: Job) -> _Running:
        slot = min(set(range(self.jobs)) - self._taken)
        self._taken.add(slot)
        ours, theirs = self._context.Pipe(duplex=False)
        gpu = self.gpus[slot % len(self.gpus)] if self.gpus else None
        process = self._context.Process(target=begin, args=(job, gpu, theirs), name=job.name)
        process.start()
        theirs.close()
        return _Running(process, ours, slot)

    def ended(self, handles: Sequence[_Running]) -> list[tuple[_Running, Outcome]]:
        wait([one.process.sentinel for one in handles], timeout=TICK)
        over = [one for one in handles if one.process.exitcode is not None]
        self._taken -= {one.slot for one in over}
        return [(one, _outcome(one)) for one in over]

    def stop(self, handles: Sequence[_Running]) -> None:
        for one in handles:
            one.process.kill()
        for one in handles:
            one.process.join()


def _outcome(one: _Running) -> Outcome:
    """What an ended process sent, or how it died without sending anything."""
    with one.connection, suppress(EOFError, OSError):
        if one.connection.poll():
            status, reason = one.connection.recv()
            return Outcome(status, reason)
    code = one.process.exitcode
    if code == 0:
        return Outcome(FAILED, "its process ended without saying anything")
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return Outcome(KILLED, f"its process was killed ({how}), {ATTEMPTS} times; the memory may not suffice")


def _preload(log: Path) -> None:
    """Start the process that imports and forks; it keeps the standard error that it is born with, so that is its log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    sys.stderr.flush()
    own = os.dup(2)
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 2)
        forkserver.ensure_running()
    finally:
        os.dup2(own, 2)
        os.close(own)


def gpus_here() -> list[str]:
    """What ``CUDA_VISIBLE_DEVICES`` may name on this machine: those in it where it is set, else all."""
    import torch

    count = torch.cuda.device_count()
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named[:count] if named else [str(index) for index in range(count)]
