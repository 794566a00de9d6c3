"""Seeds of one method through one stream: run, kept seed by seed, summed up."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from forgetless.core.method import Method
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.matrix import Matrix, mean_and_error
from forgetless.files import check_writable, clear_left_overs, write_json, write_jsonl, write_text
from forgetless.progress import bar
from forgetless.streams.builders import make_stream
from forgetless.streams.classify import run_classes
from forgetless.streams.probes import forgotten, probe_rows, read_probes
from forgetless.streams.record import SeedRecord, check_task_identity
from forgetless.streams.settings import StreamSettings
from forgetless.streams.stream import ClassStream, ClassTask, LanguageTask, Stream, check_setting, fingerprint
from forgetless.train.folder import lock_file
from forgetless.train.provenance import provenance
from forgetless.train.settings import Settings, default_rate

MAY_DIFFER = {"versions", "git", "seeds", "device"}
"""Keys of ``config.yaml`` that a resumed run need not share: more seeds may be added to a run, and it may go on elsewhere."""
STREAM_RATE = 3e-5
"""The learning rate of a language model, where none is given and the method asks for no other."""


def run_stream(
    settings: StreamSettings, build: Callable[[], Method], out: Path, *, resume: bool = False, show: bool = True
) -> dict[str, Any]:
    """Run a method through a stream with every seed; leave a folder at ``out``.

    The folder holds ``config.yaml``, ``seeds/seed-N.json`` (each written whole when its seed is done; ``resume`` leaves these
    out), ``matrix.json``, ``items.jsonl``, with probes ``probes.jsonl``, and ``report.html``.

    Args:
        settings: what to do.
        build: makes the method anew for each seed.
        out: the folder.
        resume: go on with the run in ``out``.
        show: show a progress bar.

    Returns:
        The content of ``matrix.json``.

    Raises:
        InputError: a setting, the stream's data or the folder is wrong; nothing is written then.
    """
    names = [name.strip() for name in settings.stream.split(",")]
    stream = make_stream(names if len(names) > 1 else names[0], settings.stream_args)
    setting = check_setting(stream, settings.setting)
    if isinstance(stream, ClassStream) and (settings.device not in ("auto", "cpu") or settings.dtype != "float32"):
        where, mend = "--device, --dtype", "Leave them out, or take a stream of questions"
        raise InputError("streams of classifications are trained on the processor in float32", where=where, mend=mend)
    check_task_identity(build(), ",".join(settings.method), setting)
    probes = read_probes(settings.probes, stream)
    config = json.loads(json.dumps(asdict(settings))) | {"data": fingerprint(stream, probes)} | provenance()
    _check_folder(out, config, resume=resume)
    check_writable(out, folder=True)
    out.mkdir(parents=True, exist_ok=True)
    handle = lock_file(out)
    try:
        clear_left_overs(out, out / "seeds")
        write_text(out / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        each = settings.steps if isinstance(stream, ClassStream) else settings.epochs
        done = [seed for seed in range(settings.seeds) if _seed_file(out, seed).is_file()]
        total = (settings.seeds - len(done)) * len(stream.tasks) * each
        with bar(f"{','.join(settings.method)} on {stream.name}", total, show=show) as advance:
            for seed in sorted(set(range(settings.seeds)) - set(done)):
                record = one_seed(stream, settings, build(), seed, advance, probes)
                write_json(_seed_file(out, seed), asdict(record))
                gc.collect()  # a session and its model hold each other: without it two models stand in memory
        records = [SeedRecord(**json.loads(_seed_file(out, seed).read_text("utf-8"))) for seed in range(settings.seeds)]
        return _finish(out, settings, stream, records)
    finally:
        if handle is not None:
            os.close(handle)


def one_seed(
    stream: Stream,
    settings: StreamSettings,
    method: Method,
    seed: int,
    advance: Callable[..., None],
    probes: Mapping[str, Sequence[Question]] | None = None,
) -> SeedRecord:
    """One run through the whole stream."""
    if isinstance(stream, ClassStream):
        return run_classes(
            stream,
            check_setting(stream, settings.setting),
            method,
            seed=seed,
            steps=settings.steps,
            batch_size=settings.batch_size or 128,
            lr=settings.lr or 1e-3,
            optimizer=settings.optimizer or "adam",
            memory=settings.memory,
            advance=advance,
        )
    from forgetless.data.model import load_model
    from forgetless.data.placement import place
    from forgetless.streams.language import EVAL_BATCH, run_language

    training = Settings(
        model=settings.model,
        files={},
        optimizer=settings.optimizer or "adamw",
        lr=language_rate(settings),
        epochs=settings.epochs,
        batch_size=settings.batch_size or 8,
        eval_batch_size=EVAL_BATCH,
        until_learned=settings.until_learned,
        seed=seed,
    )
    language = place(load_model(settings.model), settings.device, settings.dtype)
    return run_language(stream, language, method, seed=seed, settings=training, memory=settings.memory, probes=probes, advance=advance)


def language_rate(settings: StreamSettings) -> float:
    """The learning rate of a stream for a language model."""
    return settings.lr or default_rate(settings.method, STREAM_RATE)


def summarise(settings: StreamSettings, stream: Stream, records: list[SeedRecord]) -> dict[str, Any]:
    """The content of ``matrix.json``: means over seeds with standard errors, and every seed."""
    count = range(len(stream.tasks))
    matrices = [Matrix(record.accuracy, record.baseline) for record in records]
    figures = {}
    for name in ("acc", "bwt", "fwt", "forgetting"):
        figures[name] = dict(zip(("mean", "se"), mean_and_error([matrix.figures()[name] for matrix in matrices]), strict=True))
    cells = [[mean_and_error([matrix.accuracy[i][j] for matrix in matrices]) for j in count] for i in count]
    return {
        "stream": stream.name,
        "source": stream.source,
        "setting": settings.setting,
        "tasks": list(stream.task_names),
        "method": ",".join(settings.method),
        "method_args": settings.method_args,
        "n_seeds": len(records),
        "figures": figures,
        "mean": [[cell[0] for cell in row] for row in cells],
        "se": [[cell[1] for cell in row] for row in cells],
        "heldout": [[mean_and_error([record.heldout[i][j] for record in records])[0] for j in count] for i in count if records[0].heldout],
        "probes": {name: forgotten([record.probes[name] for record in records]) for name in settings.probes},
        "baseline": [mean_and_error([record.baseline[j] for record in records])[0] for j in count],
        "seconds": dict(zip(("mean", "se"), mean_and_error([sum(record.seconds) for record in records]), strict=True)),
        "state_bytes": max(max(record.state_bytes) for record in records),
        "model_bytes": max(record.model_bytes[-1] for record in records),
        "seeds": [{key: value for key, value in asdict(record).items() if key != "items"} for record in records],
    }


def _finish(out: Path, settings: StreamSettings, stream: Stream, records: list[SeedRecord]) -> dict[str, Any]:
    from forgetless.report.stream_page import write_stream_report

    summary = summarise(settings, stream, records)
    write_jsonl(out / "items.jsonl", _items(stream, records))
    if settings.probes:
        write_jsonl(out / "probes.jsonl", probe_rows(records))
    write_json(out / "matrix.json", summary)
    write_stream_report([out], out / "report.html")
    return summary


def _items(stream: Stream, records: list[SeedRecord]) -> list[dict[str, Any]]:
    rows = []
    for record in records:
        tasks: Sequence[ClassTask | LanguageTask] = stream.tasks
        for task, known in zip(tasks, record.items, strict=True):
            names = _names(task)
            for number, right in enumerate(known):
                item = names[number] if names else f"test example {number}"
                rows.append({"seed": record.seed, "task": task.name, "item": item, "right": right})
    return rows


def _names(task: ClassTask | LanguageTask) -> Sequence[str] | None:
    return [item.prompt for item in task.train] if isinstance(task, LanguageTask) else task.items


def _seed_file(out: Path, seed: int) -> Path:
    return out / "seeds" / f"seed-{seed}.json"


def _check_folder(out: Path, config: dict[str, Any], *, resume: bool) -> None:
    file = out / "config.yaml"
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        if not (file.is_file() and resume):
            what = "the folder holds another run" if file.is_file() else "the folder is not empty and holds no run"
            raise InputError(what, where=str(out), mend="Go on with a run by --resume, or name a new folder for --out")
        try:
            old = yaml.safe_load(file.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise InputError("its config.yaml cannot be read", where=str(out), mend="Name a new folder for --out") from error
        for name in sorted(set(config) - MAY_DIFFER, key=lambda name: (name == "data", name)):  # settings say more
            was = old.get(name) if isinstance(old, dict) else None
            if was != config[name] and (was or config[name]):  # what an older version did not know of is unset
                if name == "data":
                    what = "its run was on other data: a question file, or what the stream is built from, has changed"
                    raise InputError(what, where=str(out), mend="Put the old data back, or name a new folder for --out")
                what = f"its run has {name.replace('_', '-')} = {was!r}, this command {config[name]!r}"
                raise InputError(what, where=str(out), mend="Resume with the same settings, or name a new folder for --out")
