"""Does a verb that is killed at random moments give in the end what it gives when left alone, to the byte?

    python benchmarks/kills.py --verb train [--kills 50] [--seed 0]

On a tiny model. The moments are drawn evenly from the time that the verb takes when left alone; each kill is SIGKILL to the verb and all
its workers, and the same command is given again (``train`` with --resume) until it ends. Then the results are compared, without the times
in them, and the next one is begun until all kills have landed. Prints a line for each result and a verdict; exit code 1 where one differs.
``compare_kills.py`` compares a larger comparison under kills with --jobs 2 and on a Ray cluster.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import comparison.world
from cli.test_kills_of_verbs import VERBS, content
from cli.warm import Warm
from cli.world import result, train_arguments, write_questions
from tiny import make_tiny_model

TEACH = [*comparison.world.TEACH]
FORGETLESS = [sys.executable, "-m", "forgetless"]


class Cold:
    """Starts ``compare`` as a process group of its own, since its workers must die with it."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __call__(self, arguments: list[str], seconds: float | None) -> int:
        with open(self.place / "said.log", "ab") as log:
            command = [*FORGETLESS, *arguments]
            process = subprocess.Popen(command, cwd=self.place, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True)
            try:
                return process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                return process.wait()


class Forked:
    """Starts the other verbs from a process that has imported torch."""

    def __init__(self, place: Path) -> None:
        (place / "streams").mkdir()
        self.place, self.warm = place, Warm(place / "streams")

    def __call__(self, arguments: list[str], seconds: float | None) -> int:
        if seconds is None:
            return self.warm.run(*arguments, cwd=self.place).code
        return self.warm.kill_after(seconds, *arguments, cwd=self.place).code


def arguments_of(verb: str, out: str) -> list[str]:
    """The command that is given again and again."""
    if verb == "train":
        return train_arguments(out, "--resume")
    if verb == "compare":
        return ["compare", "--config", "plan.yaml", "--out", out, "--json"]
    return [verb, *VERBS[verb], "--out", out, "--json"]


def result_of(verb: str, folder: Path) -> Any:
    """What must be the same."""
    if verb == "train":
        return result(folder)
    return (folder / "results.jsonl").read_bytes() if verb == "compare" else content(folder)


def make(place: Path, verb: str) -> None:
    """The questions, the model that knows some of them, and the plan."""
    (comparison.world.write_questions if verb == "compare" else write_questions)(place)
    make_tiny_model(place / "raw")
    subprocess.run([*FORGETLESS, *TEACH], cwd=place, check=True, stdout=subprocess.DEVNULL)
    (place / "taught" / "model").rename(place / "model")
    (place / "plan.yaml").write_text(comparison.world.PLAN, "utf-8")


def killed(verb: str, kills: int, seed: int, place: Path) -> int:
    """Kill and compare; the exit code."""
    make(place, verb)
    start = Cold(place) if verb == "compare" else Forked(place)
    began = time.monotonic()
    if start(arguments_of(verb, "alone"), None):
        sys.exit(f"{verb} fails when left alone")
    whole, expected = time.monotonic() - began, result_of(verb, place / "alone")
    draw, landed, ended, different = random.Random(seed), 0, 0, 0
    while landed < kills:
        out, before = f"run-{ended + 1}", landed
        while True:
            began = time.monotonic()
            code = start(arguments_of(verb, out), draw.uniform(0, whole) if landed < kills else None)
            if code == 0:
                if landed == before:  # a whole run; the first of all had found nothing in the system's cache
                    whole = min(whole, time.monotonic() - began)
                break
            if code != -signal.SIGKILL:
                sys.exit(f"{verb} ended with code {code} after kill {landed}, which no kill makes")
            landed += 1
        ended += 1
        same = result_of(verb, place / out) == expected
        different += not same
        print(f"{out}: {landed - before} kills, {'the same bytes' if same else 'DIFFERENT'}", flush=True)
    print(f"{verb}: {landed} kills (seed {seed}), {ended} results, {different} different from the one left alone")
    return int(different > 0)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verb", choices=["train", "compare", *VERBS], required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0, help="Of the moments.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        sys.exit(killed(arguments.verb, arguments.kills, arguments.seed, Path(place)))


if __name__ == "__main__":
    main()
