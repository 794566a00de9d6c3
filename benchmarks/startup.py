"""What it takes until work begins, and what of an evaluation is not the network: start-up, loading, tokenizing.

    python benchmarks/startup.py [--runs 7] [--questions QUESTIONS.jsonl ...]

Each start is a new process, by the clock, medians with range; loading is that of the embedded default, which has been used before. With
question files also the share of tokenizing in an evaluation of the first 200 questions of each, in processor time on one thread.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

STARTS = {
    "python": "pass",
    "import torch": "import torch",
    "import torch, forgetless": "import torch, forgetless",
    "forgetless --help": "import sys; sys.argv = ['forgetless', '--help']; from forgetless.cli.main import main; main()",
}
LOAD = """
import time, torch
from forgetless import load_model
{before}
began = time.perf_counter()
{load}
print(time.perf_counter() - began)
"""
OURS = 'load_model("smollm2-135m")'
BARE = """
from transformers import AutoModelForCausalLM, AutoTokenizer
folder = cache_folder() / "smollm2-135m"
AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
"""
LOADS = {
    "load_model": ("", OURS),
    "load_model, import transformers before it": ("import transformers", OURS),
    "load_model, the second time in a process": (OURS, OURS),
    "transformers alone, the same model": ("from forgetless.files import cache_folder", BARE),
}


def spread(seconds: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(seconds):6.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def started(code: str) -> tuple[float, str]:
    """The seconds that a process takes, and what it prints."""
    began = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return time.perf_counter() - began, said


def tokenizing(file: Path) -> str:
    """The share of an evaluation that the tokenizer takes."""
    import torch

    from forgetless import load_model, read_questions, score
    from forgetless.data.encoding import encode
    from forgetless.data.templates import target

    torch.set_num_threads(1)
    language, questions = load_model("smollm2-135m"), list(read_questions(file))[:200]
    answers = [(question, answer) for question in questions for answer in question.choices or (target(question, None),)]
    encode(*answers[0], language.tokenizer)
    began = time.process_time()
    for question, answer in answers:
        encode(question, answer, language.tokenizer)
    middle = time.process_time()
    score(language, questions)
    of_it = (middle - began) / (time.process_time() - middle)
    return f"{file.name}: {of_it:.1%} of an evaluation ({len(questions)} questions, {len(answers)} answers)"


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--questions", nargs="*", type=Path, default=[])
    arguments = parser.parse_args()
    print(f"n = {arguments.runs} processes each, by the clock")
    times: dict[str, list[float]] = {name: [] for name in (*STARTS, *LOADS)}
    for run in range(arguments.runs + 1):  # the first of each fills the system's cache of files
        for name, code in STARTS.items():
            times[name].append(started(code)[0])
        for name, (before, load) in LOADS.items():
            times[name].append(float(started(LOAD.format(before=before, load=load))[1]))
        if not run:
            times = {name: [] for name in times}
    for name, seconds in times.items():
        print(f"{name:<46}{spread(seconds)}")
    beyond = [both - torch for both, torch in zip(times["import torch, forgetless"], times["import torch"], strict=True)]
    print(f"{'import forgetless, beyond torch':<46}{spread(beyond)}")
    for file in arguments.questions:
        print(f"tokenizing {tokenizing(file)}")


if __name__ == "__main__":
    main()
