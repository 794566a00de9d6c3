"""General ability through lm-evaluation-harness (Gao et al. 2024): its tasks on a model in this process, paired before and after.

A task is a name that the harness knows, or a YAML or JSON file in its format; data files named in such a file are found relative to
it, so that all of it can run offline. As in the harness, a task's file may name Python functions beside it: run only tasks you trust.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forgetless.data.model import Language, quiet
from forgetless.errors import ForgetlessError, InputError
from forgetless.evaluation.forward import evaluating
from forgetless.evaluation.paired import compare, mean_interval
from forgetless.evaluation.run_suite import level
from forgetless.evaluation.suite import Part

FILES = (".yaml", ".yml", ".json")
_GET = "Run: pip install 'forgetless[lm-eval]'"


def check_tasks(parts: Sequence[Part]) -> None:
    """Load the tasks of every part that has some, so that a wrong one is told before a model is loaded.

    Raises:
        InputError: the harness is not installed, or a task is unknown or cannot be loaded.
    """
    for part in parts:
        if part.lm_eval:
            load_tasks(part.lm_eval, part.include)


def load_tasks(names: Sequence[str], include: str | None = None) -> dict[str, Any]:
    """The harness's tasks of these names or files, by their names.

    Args:
        names: names of tasks, groups or tags, or files.
        include: a folder with further task files.

    Raises:
        InputError: the harness is not installed, or a task is unknown or cannot be loaded.
    """
    try:
        import lm_eval  # noqa: F401
    except ImportError as error:
        raise InputError(f"the package {error.name} is missing", where="lm-eval", mend=_GET) from error
    if include is not None and not Path(include).is_dir():
        raise InputError("there is no such folder", where=f"include {include}", mend="Name the folder that holds the task files")
    manager = _manager(include, all(name.endswith(FILES) for name in names))
    found: dict[str, Any] = {}
    for name in names:
        where = f"lm-eval {name}"
        if not name.endswith(FILES) and not manager.match_tasks([name]):
            mend = "Name a task of lm-evaluation-harness (lm_eval ls tasks lists them), or a task's YAML file"
            raise InputError("there is no such task", where=where, mend=mend)
        try:
            with quiet(), _silent(True):
                loaded = manager.load([_config(name) if name.endswith(FILES) else name])["tasks"]
        except InputError:
            raise
        except Exception as error:  # the harness and datasets raise what they will for a wrong task, a missing file, no network
            first = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise InputError(
                f"it cannot be loaded ({type(error).__name__}: {first[:200]})", where=where, mend="Check the task, its data, the network"
            ) from error
        for task in loaded.values():
            if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
                raise InputError(
                    "it runs code that a model writes, or needs images", where=where, mend="Leave it out: neither is supported"
                )
        if twice := [task for task in loaded if task in found]:
            raise InputError(f"the task {twice[0]} is named twice", where=where, mend="Name each task once")
        found.update(loaded)
    return found


@functools.lru_cache(maxsize=4)
def _manager(include: str | None, files_only: bool) -> Any:
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=include, include_defaults=not files_only)


def _config(name: str) -> dict[str, Any]:
    """A task's file, with the paths of its data made absolute."""
    path = Path(name).expanduser()
    where = f"lm-eval {name}"
    if not path.is_file():
        raise InputError("no such file", where=where, mend="Check the path")
    if path.suffix == ".json":
        given = json.loads(path.read_text("utf-8"))
    else:
        from lm_eval.tasks._yaml_loader import load_yaml

        given = load_yaml(path.resolve(), resolve_func=True)
    if not isinstance(given, dict) or not isinstance(given.get("task"), str):
        raise InputError("it names no task", where=where, mend="Write task: and a name, as the harness wants it")
    options = dict(given.get("dataset_kwargs") or {})
    if "data_files" in options:
        options["data_files"] = _absolute(options["data_files"], path.resolve().parent, where)
        given["dataset_kwargs"] = options
    return given


def _absolute(files: Any, folder: Path, where: str) -> Any:
    if isinstance(files, dict):
        return {key: _absolute(value, folder, where) for key, value in files.items()}
    if isinstance(files, list):
        return [_absolute(value, folder, where) for value in files]
    if not isinstance(files, str) or "://" in files:
        return files
    whole = folder / files
    if not any(mark in files for mark in "*?[") and not whole.is_file():
        raise InputError(f"its data file {whole} does not exist", where=where, mend="Give the path relative to the task's file")
    return str(whole)


def run_harness(part: Part, before: Language, after: Language | None, batch_size: int, show: bool) -> dict[str, Any]:
    """The tasks of ``part`` on one model or two.

    Returns:
        ``lm_eval``: the harness's version; ``n``: documents; ``tasks``: for each task, metric and filter ``n``, ``models`` and, of two
        models, from the harness's log of single samples, ``paired`` where every value is 0 or 1, else ``change``: the mean difference
        and its bootstrap interval (of perplexities: of the loss in nats per unit). Where a sample has no single number (as for BLEU),
        only what the harness itself tells stands there, and ``unpaired`` says so.
    """
    from importlib.metadata import version

    models = [before] if after is None else [before, after]
    with _own_random_state():
        tasks = load_tasks(part.lm_eval, part.include)
        results = [_run(language, tasks, batch_size, part.limit, part.template == "chat", show) for language in models]
    rows = [row for task in tasks for row in _rows(task, results, models)]
    return {"lm_eval": version("lm_eval"), "n": sum({row["task"]: row["n"] for row in rows}.values()), "tasks": rows}


def _run(language: Language, tasks: dict[str, Any], batch_size: int, limit: int | None, chat: bool, show: bool) -> dict[str, Any]:
    import numpy
    import torch
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    with evaluating(language.model), quiet(), _silent(not show):
        random.seed(DEFAULT_RANDOM_SEED)  # what the harness's own entry point does, without its survey of the machine
        numpy.random.seed(DEFAULT_OTHER_SEED)
        torch.manual_seed(DEFAULT_OTHER_SEED)
        for task in tasks.values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)
        harnessed = HFLM(pretrained=language.model, tokenizer=language.tokenizer, batch_size=batch_size)
        found = evaluate(harnessed, {"tasks": tasks}, limit=limit, log_samples=True, bootstrap_iters=0, apply_chat_template=chat)
    if found is None:
        raise ForgetlessError("lm-evaluation-harness gave no results")
    result: dict[str, Any] = found
    return result


def _rows(task: str, results: Sequence[dict[str, Any]], models: Sequence[Language]) -> Iterator[dict[str, Any]]:
    logs = [result["samples"][task] for result in results]
    kinds = dict.fromkeys((metric, sample["filter"]) for sample in logs[0] for metric in sample["metrics"])
    for metric, chosen in kinds:
        values = [{(s["doc_id"], s["doc_hash"]): s[metric] for s in log if s["filter"] == chosen} for log in logs]
        keys = list(values[0])
        if any(set(own) != set(keys) for own in values):
            raise ForgetlessError(f"lm-evaluation-harness scored other documents of {task} before than after")
        row: dict[str, Any] = {"task": task, "metric": metric, "filter": chosen, "n": len(keys)}
        row["higher_is_better"] = results[0].get("higher_is_better", {}).get(task, {}).get(metric)
        own = [[_number(one[key]) for key in keys] for one in values]
        told = [
            {"model": m.name, "harness": _number(result["results"][task].get(f"{metric},{chosen}"))}
            for m, result in zip(models, results, strict=True)
        ]
        if any(value is None for one in own for value in one):
            yield row | {"models": told, "unpaired": "a sample has no single number under this metric"}
            continue
        numbers = [[float(value) for value in one if value is not None] for one in own]
        if all(value in (0.0, 1.0) for one in numbers for value in one):
            rights = [[value == 1.0 for value in one] for one in numbers]
            row["models"] = [more | level(one) for more, one in zip(told, rights, strict=True)]
            if len(rights) == 2:
                row["paired"] = compare(*rights).to_dict()
        else:
            row["models"] = [more | _mean(one) for more, one in zip(told, numbers, strict=True)]
            if len(numbers) == 2:
                row["change"] = _mean([new - old for old, new in zip(*numbers, strict=True)])
        yield row


def _number(value: Any) -> float | None:
    """A sample's value as one number: of ``(log-likelihood, units)``, the loss per unit in nats."""
    if isinstance(value, bool | int | float):
        return float(value)
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(one, int | float) for one in value) and value[1]:
        return -float(value[0]) / float(value[1])
    try:
        return float(value.item())  # numpy's and torch's
    except (AttributeError, TypeError, ValueError):
        return None


def _mean(values: Sequence[float]) -> dict[str, float]:
    mean, low, high = mean_interval(values)
    return {"mean": mean, "low": low, "high": high}


@contextlib.contextmanager
def _own_random_state() -> Iterator[None]:
    """Give random, numpy and torch back the state they had: the harness seeds all three."""
    import numpy
    import torch

    python, array = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            numpy.random.set_state(array)


@contextlib.contextmanager
def _silent(wanted: bool) -> Iterator[None]:
    """Keep the harness's progress bars from standard error; errors are raised as ever."""
    if not wanted:
        yield
        return
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        yield
