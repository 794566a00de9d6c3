"""Time of multiple choice: `forgetless eval`, one question at a time, and lm-evaluation-harness, as ratios from one run.

    python benchmarks/eval_speed.py QUESTIONS.jsonl [--questions 1000] [--model smollm2-135m] [--threads 2] [--batch 32] [--block 250]

The scorer is ``likelihood`` (under the harness the metric ``acc``, whose sum of log-probabilities is another score: only its time is
compared). All see the same prompts. They take turns on blocks of questions, so that what else the machine does hits them alike; the
ratios are of total times, with the median, smallest and largest of a block, by the clock and by processor time (which a busy machine
does not stretch). Verdicts of ours must be identical with those of one
question at a time, or the program fails.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from forgetless import load_model, read_questions, score
from forgetless.data.question import Question
from forgetless.evaluation.suite import Part
from forgetless.integrations.lm_eval import load_tasks, run_harness

Time = tuple[float, float]
TASK = {
    "task": "speed",
    "dataset_path": "json",
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "Question: {{question}}\nAnswer:",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "answer",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--questions", dest="count", type=int, default=1000)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--block", type=int, default=250)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    language = load_model(arguments.model)
    questions = [question for question in read_questions(arguments.questions) if question.kind == "choice"][: arguments.count]
    times: dict[str, list[Time]] = {"ours": [], "one question at a time": [], "one option at a time": [], "lm-evaluation-harness": []}
    different = 0
    for start in range(0, len(questions), arguments.block):
        block = questions[start : start + arguments.block]
        ours = timed(times["ours"], lambda block=block: score(language, block, scorer="likelihood", batch_size=arguments.batch))
        alone = timed(times["one question at a time"], lambda block=block: [score(language, [q], scorer="likelihood")[0] for q in block])
        timed(times["one option at a time"], lambda block=block: [score(language, [q], scorer="likelihood", batch_size=1) for q in block])
        harness(times["lm-evaluation-harness"], language, block, arguments.batch)
        different += sum((one.right, one.said) != (other.right, other.said) for one, other in zip(ours, alone, strict=True))
        print(f"{start + len(block)} of {len(questions)}", file=sys.stderr, flush=True)
    print(f"n = {len(questions)} questions, {arguments.threads} threads, blocks of {arguments.block}; verdicts that differ: {different}")
    for name, own in times.items():
        if name == "ours":
            continue
        for kind, unit in (("clock", 0), ("processor", 1)):
            ratios = [value[unit] / base[unit] for value, base in zip(own, times["ours"], strict=True)]
            whole = sum(value[unit] for value in own) / sum(base[unit] for base in times["ours"])
            spread = f"blocks: median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{name}, {kind} time: {whole:.2f} times ours ({spread})")
    if different:
        sys.exit(1)


def now() -> Time:
    """Clock and processor time."""
    return time.perf_counter(), time.process_time()


def timed(times: list[Time], run: Callable[[], Any]) -> Any:
    """What ``run`` gives; its time is added to ``times``."""
    began = now()
    result = run()
    ended = now()
    times.append((ended[0] - began[0], ended[1] - began[1]))
    return result


def harness(times: list[Time], language: Any, block: Sequence[Question], batch: int) -> None:
    """Add the time of the harness on the same questions, without that of loading its task."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"question": q.prompt, "choices": list(q.choices), "answer": q.label} for q in block]
        (Path(folder) / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        task = TASK | {"dataset_kwargs": {"data_files": {"test": "rows.jsonl"}}}
        (Path(folder) / "task.json").write_text(json.dumps(task), "utf-8")
        part = Part("speed", lm_eval=(str(Path(folder) / "task.json"),))
        load_tasks(part.lm_eval)  # prepares the data set once
        loading: list[Time] = []
        timed(loading, lambda: load_tasks(part.lm_eval))
        timed(times, lambda: run_harness(part, language, None, batch, False))
        times[-1] = (times[-1][0] - loading[0][0], times[-1][1] - loading[0][1])


if __name__ == "__main__":
    main()
