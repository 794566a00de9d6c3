"""Time of multiple choice: `forgetless eval`, one question at a time, and lm-evaluation-harness, as ratios from one run.

    python benchmarks/eval_speed.py QUESTIONS.jsonl [--questions 1000] [--model smollm2-135m] [--threads 2] [--batch 32] [--block 100]

The scorer is ``likelihood`` (under the harness the metric ``acc``, whose sum of log-probabilities is another score: only its time is
compared). All three see the same prompts. They take turns on blocks of questions, so that what else the machine does hits them alike;
the ratios are of total times, with the smallest and the largest of a block. Verdicts of ours must be identical with those of one
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
    parser.add_argument("--block", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.disable(logging.WARNING)
    language = load_model(arguments.model)
    questions = [question for question in read_questions(arguments.questions) if question.kind == "choice"][: arguments.count]
    times: dict[str, list[float]] = {"ours": [], "one question at a time": [], "one option at a time": [], "lm-evaluation-harness": []}
    different = 0
    for start in range(0, len(questions), arguments.block):
        block = questions[start : start + arguments.block]
        ours = timed(times["ours"], lambda block=block: score(language, block, scorer="likelihood", batch_size=arguments.batch))
        alone = timed(times["one question at a time"], lambda block=block: [score(language, [q], scorer="likelihood")[0] for q in block])
        timed(times["one option at a time"], lambda block=block: [score(language, [q], scorer="likelihood", batch_size=1) for q in block])
        times["lm-evaluation-harness"].append(harness(language, block, arguments.batch))
        different += sum((one.right, one.said) != (other.right, other.said) for one, other in zip(ours, alone, strict=True))
        print(f"{start + len(block)} of {len(questions)}", file=sys.stderr, flush=True)
    print(f"n = {len(questions)} questions, {arguments.threads} threads, blocks of {arguments.block}; verdicts that differ: {different}")
    for name, own in times.items():
        if name != "ours":
            ratios = [value / base for value, base in zip(own, times["ours"], strict=True)]
            told = f"{sum(own) / sum(times['ours']):.2f} times our time (blocks: {min(ratios):.2f} to {max(ratios):.2f}"
            print(f"{name}: {told}, median {statistics.median(ratios):.2f})")
    if different:
        sys.exit(1)


def timed(times: list[float], run: Callable[[], Any]) -> Any:
    """What ``run`` gives; its time is added to ``times``."""
    began = time.perf_counter()
    result = run()
    times.append(time.perf_counter() - began)
    return result


def harness(language: Any, block: Sequence[Question], batch: int) -> float:
    """The time of the harness on the same questions, without that of loading its task."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [{"question": q.prompt, "choices": list(q.choices), "answer": q.label} for q in block]
        (Path(folder) / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        task = TASK | {"dataset_kwargs": {"data_files": {"test": "rows.jsonl"}}}
        (Path(folder) / "task.json").write_text(json.dumps(task), "utf-8")
        part = Part("speed", lm_eval=(str(Path(folder) / "task.json"),))
        load_tasks(part.lm_eval)  # prepares the data set once
        began = time.perf_counter()
        load_tasks(part.lm_eval)
        loading = time.perf_counter() - began
        began = time.perf_counter()
        run_harness(part, language, None, batch, False)
        return time.perf_counter() - began - loading


if __name__ == "__main__":
    main()
