"""What it takes until work begins, and what of an evaluation is not the network: start-up, loading, tokenizing.

    python benchmarks/startup.py [--runs 7] [--questions QUESTIONS.jsonl ...]

Each start is a new process, by the clock, medians with range; loading is that of the embedded default, which has been used before. With
question files also what tokenizing takes of an evaluation of the first 200 questions of each: with a call for every text, with all texts in
one call (which fast tokenizers share out among the cores), and the second time, when they are remembered.
"""

from __future__ import annotations

import argparse
import copy
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


def tokenizing(file: Path, runs: int) -> str:
    """What the tokenizer takes of an evaluation, with a call for every text, with all in one call, and the second time."""
    from forgetless import load_model, read_questions, score
    from forgetless.data.encoding import encode_all
    from forgetless.data.templates import target, wording

    language, questions = load_model("smollm2-135m"), list(read_questions(file))[:200]
    answers = [(question, answer) for question in questions for answer in question.choices or (target(question, None),)]
    takes: dict[str, list[float]] = {"each": [], "together": [], "again": []}
    for _ in range(runs):
        words = [(wording(question, language.tokenizer), answer) for question, answer in answers]
        texts = [text for one, answer in words for text in (one.before, one.before + one.gap + answer)]
        fresh = copy.deepcopy(language.tokenizer)  # remembers nothing
        for kind, seconds in takes.items():
            began = time.perf_counter()
            if kind == "each":
                for text in texts:
                    fresh(text)
            else:
                encode_all(answers, fresh)
            seconds.append(time.perf_counter() - began)
    began = time.perf_counter()
    score(language, questions)
    whole = time.perf_counter() - began
    middles = {kind: statistics.median(seconds) for kind, seconds in takes.items()}
    parts = [f"{kind} {1000 * value:.1f} ms ({value / whole:.2%} of an evaluation)" for kind, value in middles.items()]
    return f"{file.name}, {len(questions)} questions, {len(answers)} answers: {', '.join(parts)}"


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
        print(f"tokenizing {tokenizing(file, arguments.runs)}")


if __name__ == "__main__":
    main()
