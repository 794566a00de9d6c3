"""The same jobs as tasks of a Ray cluster: this machine's processors, or many machines that see the same disk."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from forgetless.comparison.pool import ATTEMPTS, TICK
from forgetless.comparison.worker import KILLED, Job, Outcome, perform
from forgetless.errors import InputError


class Cluster:
    """Jobs as Ray tasks, each in a process of its own.

    Args:
        address: of a cluster; None takes the one that ``RAY_ADDRESS`` names, else starts one on this machine.
        jobs: how many tasks at a time; None leaves it to Ray.
        threads: processors that a task takes.

    Raises:
        InputError: Ray is not installed, or no cluster answers at the address.
    """

    def __init__(self, address: str | None, jobs: int | None, threads: int) -> None:
        try:
            import ray
        except ImportError as error:
            raise InputError("the package ray is missing", where="--ray", mend="Run: pip install 'forgetless[ray]'") from error
        self._ray, self.jobs = ray, jobs
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster started here tells Ray's makers nothing unless it is asked to
        try:
            ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error", ignore_reinit_error=True)
        except Exception as error:  # Ray has no type of its own for a cluster that does not start
            what = f"no Ray cluster can be used ({' '.join(str(error).split())[:200]})"
            raise InputError(what, where="--ray", mend="Start one by: ray start --head, or leave --ray-address out") from error
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        threads = min(threads, int(ray.cluster_resources().get("CPU", 1)))
        # max_calls: a process for each task, so that its peak memory is its own
        self._task: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_calls=1, max_retries=0)(_perform)

    def room(self, running: int) -> bool:
        return self.jobs is None or running < self.jobs

    def start(self, job: Job) -> Any:
        return self._task.remote(job)

    def ended(self, handles: Sequence[Any]) -> list[tuple[Any, Outcome]]:
        done, _ = self._ray.wait(list(handles), num_returns=1, timeout=TICK)
        return [(handle, self._outcome(handle)) for handle in done]

    def stop(self, handles: Sequence[Any]) -> None:
        for handle in handles:
            self._ray.cancel(handle, force=True)

    def _outcome(self, reference: Any) -> Outcome:
        errors = self._ray.exceptions
        try:
            status, reason = self._ray.get(reference)
            return Outcome(status, reason)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError, errors.NodeDiedError, errors.TaskCancelledError) as error:
            return Outcome(KILLED, f"its process was killed ({type(error).__name__}), {ATTEMPTS} times; the memory may not suffice")

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self._ray.shutdown()


def _perform(job: Job) -> tuple[str, str]:
    outcome = perform(job)
    return outcome.status, outcome.reason
