"""Long fuzzing of every reader, guided by the branches that an input reaches (atheris). `make fuzz` runs it; CI runs test_readers.py.

    PYTHONPATH=tests python tests/fuzz/long.py [--seconds 60] [--only NAME ...]

Every reader gets a process and so many seconds. Prints how many inputs it was tried on; ends with exit code 1 where one of them was
neither taken nor told, and leaves that input in crash-*. Linux only, as atheris is.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def child(name: str, corpus: Path, seconds: int) -> None:
    """Fuzz one reader."""
    import atheris

    with atheris.instrument_imports(include=["forgetless"]):
        from fuzz.readers import readers, seeds
    (corpus / "seed").write_bytes(seeds()[name])
    read = readers()[name]

    def once(data: bytes) -> None:
        read(data)

    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            f"-max_total_time={seconds}",
            "-rss_limit_mb=6000",
            "-timeout=20",
            "-verbosity=0",
            "-print_final_stats=1",
        ],
        once,
    )
    atheris.Fuzz()


def main() -> None:
    """Every reader in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]), arguments.seconds)
        return
    from fuzz.readers import readers

    failed = []
    for name in arguments.only or readers():
        with tempfile.TemporaryDirectory() as corpus:
            done = subprocess.run(
                [sys.executable, __file__, "--seconds", str(arguments.seconds), "--child", name, corpus],
                capture_output=True,
                text=True,
                check=False,
            )
        tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        print(
            f"{name:<16}{tried.group(1) if tried else '?':>10} inputs, {'FAILED' if done.returncode else 'all taken or told'}", flush=True
        )
        if done.returncode:
            failed.append(name)
            print(done.stderr[-3000:], file=sys.stderr)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
