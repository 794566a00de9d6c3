"""Does a comparison that is killed again and again give the results of one that is left alone, to the byte?

    python benchmarks/compare_kills.py [--kills 5] [--out folder] [--no-ray]

Six methods × two rates × three seeds on a tiny model: left alone; killed by SIGKILL, the whole process group, at random moments, and
begun again; with --jobs 2; and on a local Ray cluster. Prints a verdict for each, and fails where one differs.
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

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from comparison.world import PLAN, TEACH, write_questions
from tiny import make_tiny_model

METHODS = "[none, replay, cpl, ewc, l2sp, {method: 'replay,cpl', options: {cpl.refresh: 2}}]"
FORGETLESS = [sys.executable, "-m", "forgetless"]


def main() -> None:
    """Run all of it and print the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--out", type=Path, help="Left out: a temporary folder.")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="Of the moments.")
    parser.add_argument("--no-ray", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        place = arguments.out or Path(made)
        place.mkdir(parents=True, exist_ok=True)
        sys.exit(compare(place, arguments.kills, arguments.seed, ray=not arguments.no_ray))


def compare(place: Path, kills: int, seed: int, *, ray: bool) -> int:
    """Run the comparison in every way; the exit code."""
    if not (place / "model").is_dir():
        write_questions(place)
        make_tiny_model(place / "raw")
        subprocess.run([*FORGETLESS, *TEACH], cwd=place, check=True, stdout=subprocess.DEVNULL)
        (place / "taught" / "model").rename(place / "model")
    plan = PLAN.replace("[none, replay]", METHODS).replace("seeds: [0]", "seeds: 3").replace("checkpoint-every: 2", "checkpoint-every: 1")
    (place / "plan.yaml").write_text(plan, "utf-8")
    began = time.monotonic()
    assert start(place, "alone").wait() == 0
    whole, expected = time.monotonic() - began, results(place / "alone")
    print(f"left alone: {len(expected.splitlines())} cells in {whole:.0f} s", flush=True)
    draw, landed = random.Random(seed), []
    while True:
        process = start(place, "killed")
        if len(landed) == kills:
            assert process.wait() == 0
            break
        try:
            code = process.wait(draw.uniform(0, whole / 2))
            assert code == 0
            print(f"ended before kill {len(landed) + 1}; begun anew")
            (place / "killed").rename(place / f"killed-{len(landed)}-{time.time():.0f}")
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done = len(results(place / "killed").splitlines())
            landed.append(done)
            print(f"kill {len(landed)}: {done} cells had ended", flush=True)
    ways = {f"killed {kills} times (seed {seed})": results(place / "killed")}
    assert start(place, "two", "--jobs", "2").wait() == 0
    ways["--jobs 2"] = results(place / "two")
    if ray:
        assert start(place, "ray", "--ray").wait() == 0
        ways["--ray"] = results(place / "ray")
    for way, found in ways.items():
        print(f"{way}: {'the same bytes' if found == expected else 'DIFFERENT'}")
    return 0 if all(found == expected for found in ways.values()) else 1


def start(place: Path, out: str, *more: str) -> subprocess.Popen[bytes]:
    """Begin the comparison in a process group of its own."""
    command = [*FORGETLESS, "compare", "--config", "plan.yaml", "--out", out, "--json", *more]
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, start_new_session=True)


def results(folder: Path) -> bytes:
    """``results.jsonl`` as it stands."""
    file = folder / "results.jsonl"
    return file.read_bytes() if file.is_file() else b""


if __name__ == "__main__":
    main()
