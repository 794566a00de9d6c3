"""Short work on the cores that torch may use, a Python thread on each.

An operation on a block that stays in a core's cache is too short to be shared out: the barriers between cores cost more,
on a busy machine far more. So each core works through blocks of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


def on_cores(work: Callable[[T], R], shares: Sequence[T]) -> list[R]:
    """``[work(share) for share in shares]``, each on a thread of its own in which torch uses one core."""
    with one_core():
        others = [_pool(os.getpid(), len(shares) - 1).submit(work, share) for share in shares[1:]]
        try:
            own = [work(share) for share in shares[:1]]
        finally:
            wait(others)  # none may go on working when this one failed
        return own + [other.result() for other in others]


@contextmanager
def one_core() -> Iterator[None]:
    """In this thread torch uses one core."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@lru_cache(maxsize=1)  # by process: a fork has none of its parent's threads
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "forgetless", initializer=torch.set_num_threads, initargs=(1,))
