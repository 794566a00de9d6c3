"""The question files of a run, read and checked."""

from __future__ import annotations

from forgetless.core.method import Method
from forgetless.core.strength import automatic, nothing_to_measure
from forgetless.data.question import Question
from forgetless.data.reading import check_disjoint, check_text, check_unique, read_questions
from forgetless.errors import InputError
from forgetless.train.settings import INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT, Settings

NAMED = (INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT)
"""The splits that have a flag of their own; whatever else is a probe."""


def read_splits(settings: Settings, method: Method) -> dict[str, list[Question]]:
    """Read and check the question files of a run."""
    splits = {name: read_questions(file, limit=settings.limit) for name, file in settings.files.items()}
    if INJECT not in splits:
        raise InputError("no file is given", where="--inject", mend="Name the questions to learn")
    for name, questions in splits.items():
        check_unique(questions, settings.files[name])
        check_text(questions, settings.files[name])
    check_retain(settings, method, shown=bool(settings.shown(splits)))
    probes = [name for name in splits if name not in NAMED]
    pairs = [(RETAIN, INJECT), (RETAIN, RETAIN_HELDOUT), (INJECT, INJECT_HELDOUT), (INJECT, RETAIN_HELDOUT)]
    pairs += [(trained, probe) for probe in probes for trained in (INJECT, RETAIN)]  # what is trained or replayed measures nothing
    for one, other in pairs:
        if one in splits and other in splits:
            flag = f"--probe {other}" if other in probes else f"--{other}"
            check_disjoint(splits[one], splits[other], names=(settings.files[one], settings.files[other]), where=f"--{one}, {flag}")
    return splits


def check_retain(settings: Settings, method: Method, *, shown: bool) -> None:
    """Refuse a method that needs a retain set where it is ``shown`` none."""
    if method.needs_retain and not shown:
        raise InputError(f"{','.join(settings.method)} needs a retain set", where="--retain", mend="Name a file of questions to keep")
    if automatic(method) and not shown:
        raise nothing_to_measure(automatic(method)[0].label, INJECT)
