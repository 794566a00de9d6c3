"""What one process of a comparison does: score a data set before training, or train one cell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TextIO

from forgetless.errors import ForgetlessError, InputError
from forgetless.files import write_json
from forgetless.train.settings import Settings

DONE, REFUSED, FAILED, KILLED = "done", "refused", "failed", "killed"
MACHINE = "machine.json"
"""What a worker adds to the folder of a run: the machine that it ran on."""


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of work.

    Attributes:
        name: of the cell or data set.
        kind: ``questions`` (make those of the demo), ``score`` or ``train``.
        out: the file or folder to make.
        log: where what the process prints goes.
        plan: the plan's file and what it holds: on another machine this shows whether the disk is shared.
        settings: of the training, or of any on the data set to score; None for questions.
        before: the file with the scores before training.
        threads: of the process.
        steps: planned optimizer steps, for the progress; None where the clock decides.
        keep_model: leave the trained model in the folder.
    """

    name: str
    kind: str
    out: Path
    log: Path
    plan: tuple[Path, str] | None
    settings: Settings | None
    before: Path | None = None
    threads: int = 1
    steps: int | None = None
    keep_model: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: done, refused (wrong input), failed or killed; and why."""

    status: str
    reason: str = ""


def perform(job: Job) -> Outcome:
    """Do a job in this process; every error becomes an outcome, and its traceback goes to the log."""
    with _printing_to(job.log) as log:
        try:
            _on_shared_disk(job)
            import torch

            torch.set_num_threads(job.threads)
            {"questions": _questions, "score": _score, "train": _train}[job.kind](job)
            return Outcome(DONE)
        except BaseException as error:
            traceback.print_exc(file=log)
            reason = str(error) if isinstance(error, ForgetlessError) else f"{type(error).__name__}: {error}"
            return Outcome(REFUSED if isinstance(error, InputError) else FAILED, " ".join(reason.split()))


@contextmanager
def _printing_to(path: Path) -> Iterator[TextIO]:
    """Let all that this process prints, by whatever library, go to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    own = sys.stdout, sys.stderr
    kept = [os.dup(1), os.dup(2)]
    with open(path, "a", encoding="utf-8", buffering=1) as log:
        for stream in own:
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        sys.stdout = sys.stderr = log
        try:
            yield log
        finally:
            sys.stdout, sys.stderr = own
            for number, handle in zip((1, 2), kept, strict=True):
                os.dup2(handle, number)
                os.close(handle)


def begin(job: Job, gpu: str | None, connection: Connection) -> None:
    """The life of a worker process: do the job, send its outcome, end. It ends at once where its parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    outcome = perform(job)
    connection.send((outcome.status, outcome.reason))
    connection.close()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _on_shared_disk(job: Job) -> None:
    if job.plan is None:
        return
    file, text = job.plan
    if not file.is_file() or file.read_text("utf-8") != text:
        mend = "Every machine of the cluster must see --out, the question files and the model at the same paths"
        raise InputError("this machine does not see the folder of the comparison", where=str(file.parent), mend=mend)


def _questions(job: Job) -> None:
    from forgetless.demo.plan import FULL, make_questions

    make_questions(FULL, job.out, show=False)


def _score(job: Job) -> None:
    from forgetless.data.model import load_model
    from forgetless.data.placement import place
    from forgetless.methods import METHODS
    from forgetless.train.evaluate import evaluate
    from forgetless.train.settings import build_method
    from forgetless.train.splits import read_splits

    assert job.settings is not None
    splits = read_splits(job.settings, build_method(("none",), {}, METHODS))
    language = load_model(job.settings.model)
    place(language, job.settings.device, job.settings.dtype)
    write_json(job.out, evaluate(language, splits, job.settings, "scoring before training", show=False))


def _train(job: Job) -> None:
    from forgetless.methods import METHODS
    from forgetless.train.loop import train
    from forgetless.train.settings import build_method

    assert job.settings is not None and job.before is not None
    method = build_method(job.settings.method, job.settings.method_args, METHODS)
    before = json.loads(job.before.read_text("utf-8"))
    train(job.settings, method, job.out, resume=True, show=False, keep_checkpoint=False, before=before)
    write_json(job.out / MACHINE, _machine())
    tidy(job.out, keep_model=job.keep_model)


def tidy(folder: Path, *, keep_model: bool) -> None:
    """Remove from the folder of a finished cell what only its training needed."""
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    if not keep_model:
        shutil.rmtree(folder / "model", ignore_errors=True)


def _machine() -> dict[str, Any]:
    import platform

    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count(), "gpu": gpu}
