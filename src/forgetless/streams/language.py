"""One method through one stream of question sets, with a language model."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from forgetless.core.activation import activated
from forgetless.core.context import Context
from forgetless.core.method import Method
from forgetless.core.session import attach
from forgetless.core.strength import automatic
from forgetless.core.task import Task
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import ProtectionError
from forgetless.evaluation.score import score
from forgetless.progress import Advance, silent
from forgetless.streams.record import PROBE, PROBE_SEED, SeedRecord, for_first_task, model_bytes, share, tensor_bytes
from forgetless.streams.stream import LanguageStream
from forgetless.train.batches import Batches, answer_loss
from forgetless.train.optimizer import make_optimizer
from forgetless.train.settings import Settings

EVAL_BATCH = 64


def run_language(
    stream: LanguageStream,
    language: Language,
    method: Method,
    *,
    seed: int,
    settings: Settings,
    memory: int = 2000,
    probes: Mapping[str, Sequence[Question]] | None = None,
    advance: Advance = silent,
) -> SeedRecord:
    """Teach a language model one set of questions after another; after each, ask all of them.

    A question counts as right under the scorer ``exact``. The matrix is of what is taught, in the words in which it is taught;
    ``heldout`` of the record is of the tasks' test questions.

    Args:
        stream: the question sets.
        language: fresh; the model is trained in place.
        method: fresh; it goes through the whole stream.
        seed: of the order of the questions.
        settings: optimizer, lr, epochs, until_learned, batch sizes and template of each task.
        memory: questions of earlier tasks in all that a method in need of old data is given, alike from each task.
        probes: by name, further questions; those that the untrained model has right are asked again after every task.
        advance: told of every epoch.
    """
    torch.manual_seed(seed)
    count = len(stream.tasks)
    tasks = [_task(stream, index, language, settings, seed, known=not automatic(method)) for index in range(count)]
    record = SeedRecord(seed, [], [], [], [], [], [], [[] for _ in range(count)])
    record.baseline = [share(_ask(language, task.train, settings)) for task in stream.tasks]
    known = {name: _right(language, questions, settings) for name, questions in (probes or {}).items()}
    record.probes = {name: {question.id: [] for question in questions} for name, questions in known.items()}
    rights: list[list[list[bool]]] = []
    for index, plain in enumerate(tasks):
        began, asked = time.perf_counter(), 0.0
        task, acting = plain, method
        if method.needs_retain:
            acting = method if index else for_first_task(method)
            old = _stored(stream, index, memory, seed)
            retain = Batches(old, language, settings.template, settings.retain_batch_size) if index else None
            task = replace(plain, retain=retain)
        if index and automatic(method):
            looked_at = _stored(stream, index, PROBE * index, seed + PROBE_SEED)
            task = replace(task, probe=Batches(looked_at, language, settings.template, settings.eval_batch_size))
        torch.manual_seed(seed * 1_000_003 + index)
        language.model = acting.prepare(language.model, task)
        ctx, asked = _teach(acting, language, task, stream.tasks[index].train, settings, advance)
        record.seconds.append(time.perf_counter() - began - asked)
        record.steps.append(ctx.step)
        row: list[list[bool]] = []
        unseen: list[float | None] = []
        for later, other in enumerate(tasks):
            if method.needs_task_id and later > index:
                row.append([])
                unseen.append(None)
                continue
            with activated(method, ctx, other):
                row.append(_ask(language, stream.tasks[later].train, settings))
                test = stream.tasks[later].test
                unseen.append(share(_ask(language, test, settings)) if test else None)
        with activated(method, ctx, task):
            for name, questions in known.items():
                for question, right in zip(questions, _ask(language, questions, settings), strict=True):
                    record.probes[name][question.id].append(right)
        rights.append(row)
        record.heldout.append(unseen)
        record.state_bytes.append(tensor_bytes(method.state_dict()))
        record.model_bytes.append(model_bytes(language.model))
    record.accuracy = [[share(found) if found else None for found in row] for row in rights]
    for index in range(count):
        items = range(len(rights[index][index]))
        record.items[index] = [[rights[later][index][item] for later in range(index, count)] for item in items]
    return record


def _task(stream: LanguageStream, index: int, language: Language, settings: Settings, seed: int, *, known: bool) -> Task:
    """``known``: what the model knew before the first task is to be kept; a search for a strength has nothing to look at then."""
    batches = Batches(stream.tasks[index].train, language, settings.template, settings.batch_size, seed)
    last = index == len(stream.tasks) - 1
    heads = None if index or known else ()
    return Task(stream.tasks[index].name, batches, index=index, earlier_heads=heads, last=last, steps=settings.epochs * len(batches))


def _teach(
    method: Method, language: Language, task: Task, questions: Sequence[Question], settings: Settings, advance: Advance
) -> tuple[Context, float]:
    """Train until enough is learned; gives the context, and the seconds spent on asking."""
    asked = 0.0
    optimizer = make_optimizer(settings, language.model)
    batches = task.train
    assert isinstance(batches, Batches)
    with attach(method, language.model, optimizer, task, answer_loss) as session:
        for epoch in range(settings.epochs):
            session.begin_epoch(epoch)
            batches.epoch = epoch
            language.model.train()
            for batch in batches:
                outputs = language.model(**batch)
                loss = session.total(outputs.loss, batch, outputs)
                if not torch.isfinite(loss.detach()):
                    raise ProtectionError(f"the loss is {float(loss.detach())} in task {task.name!r}; lower --lr")
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
                optimizer.step()
                optimizer.zero_grad()
            began = time.perf_counter()
            learned = share(_ask(language, questions, settings)) if settings.until_learned is not None else 0.0
            asked += time.perf_counter() - began
            advance(1, f"{task.name}: {learned:.0%} learned")
            if settings.until_learned is not None and learned >= settings.until_learned:
                advance(settings.epochs - epoch - 1)
                break
    return session.ctx, asked


def _ask(language: Language, questions: Sequence[Question], settings: Settings) -> list[bool]:
    return [bool(v.right) for v in score(language, questions, template=settings.template, batch_size=settings.eval_batch_size)]


def _right(language: Language, questions: Sequence[Question], settings: Settings) -> list[Question]:
    return [question for question, right in zip(questions, _ask(language, questions, settings), strict=True) if right]


def _stored(stream: LanguageStream, index: int, memory: int, seed: int) -> list[Question]:
    """Questions of the earlier tasks: the same number of each, drawn by the seed."""
    found: list[Question] = []
    for known in range(index):
        questions = list(stream.tasks[known].train)
        random.Random(seed * 1_000_003 + known).shuffle(questions)
        found += questions[: max(1, memory // index)]
    return found
