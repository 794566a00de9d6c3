"""What a language model knew before a stream, asked again after every task: probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forgetless.data.identity import with_ids
from forgetless.data.question import Question
from forgetless.data.reading import check_disjoint, check_text, read_questions
from forgetless.errors import InputError
from forgetless.evaluation.matrix import mean_and_error
from forgetless.streams.record import SeedRecord, Verdicts, share
from forgetless.streams.stream import LanguageStream, Stream


def read_probes(files: Mapping[str, str], stream: Stream) -> dict[str, list[Question]]:
    """The questions of every probe, by its name.

    Raises:
        InputError: a file cannot be read, holds no question, one twice, or one that a task trains, or the stream is of classifications.
    """
    if files and not isinstance(stream, LanguageStream):
        raise InputError(
            "only a language model can be asked questions", where="--probe", mend="Leave it out, or take a stream of questions"
        )
    found = {}
    for name, file in files.items():
        found[name] = questions = read_questions(file)
        check_text(questions, file)
        unnamed = with_ids([replace(question, id="") for question in questions])  # a stream names questions anew: compared by content
        for task in stream.tasks if isinstance(stream, LanguageStream) else ():
            check_disjoint(task.train, unnamed, names=(f"the task {task.name}", file), where=f"--probe {name}")
    return found


def forgotten(seeds: Sequence[Mapping[str, Verdicts]]) -> dict[str, Any]:
    """Of what each seed's untrained model had right, the share that is wrong after each task: mean and standard error over seeds."""
    tasks = max((len(kept) for known in seeds for kept in known.values()), default=0)
    after = [mean_and_error([1 - share([kept[index] for kept in known.values()]) for known in seeds if known]) for index in range(tasks)]
    return {
        "known": [len(known) for known in seeds],
        "forgotten": [mean for mean, _ in after],
        "se": [error for _, error in after],
    }


def probe_rows(records: Sequence[SeedRecord]) -> list[dict[str, Any]]:
    """Every question of a probe that was known before, with whether it was right after each task."""
    return [
        {"seed": record.seed, "probe": name, "id": question, "right": right}
        for record in records
        for name, known in record.probes.items()
        for question, right in known.items()
    ]
