"""The mutation score of ``ops`` and ``methods``: how many small faults put into them do their own tests find?

    python benchmarks/mutation.py [--mutants 400] [--seed 0] [--module ops/signs] [--out mutation.jsonl]

cosmic-ray says what can be changed (an operator, a comparison, a number, a condition, a loop, a decorator, an exception) and makes the
change. Each mutant is tried in a process forked from one that has imported torch but nothing of forgetless, so that it costs its tests
and little more: the test file of its module alone (`TESTS` where the names differ), without those of the real model. A mutant of a
method that passes them meets what all methods go through too: the contract, the options, and the agreed signatures. Found: a test fails,
the module cannot be imported, or the tests take more than ``--limit`` seconds of processor time, or memory without end.

Not counted: changes inside annotations, which nothing evaluates (PEP 563), so that no test could find them, and changes that leave no
Python. Where ``--mutants`` is fewer than all, they are drawn at random without regard to the module, and the score has an exact
(Clopper-Pearson) interval of 95%. First all the tests run without a mutant and must pass. A file of results that is there already is
gone on with. Prints every mutant that survived.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import importlib
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "forgetless"
FOUND, SURVIVED = "found", "survived"
PRELOADED = ("torch", "numpy", "scipy.optimize", "scipy.stats", "hypothesis", "pytest", "transformers", "peft")

TESTS = {
    "ops/descent": ("ops/test_fused.py", "ops/test_signs.py"),
    "ops/distillation": ("ops/test_distillation.py", "methods/test_lwf.py", "methods/test_kl.py"),
    "ops/fused": ("ops/test_fused.py", "ops/test_signs.py"),
    "ops/interpolation": ("ops/test_interpolation.py", "methods/test_wise.py"),
    "ops/packing": ("ops/test_signs.py", "ops/test_fused.py"),
    "ops/similarity": ("analysis/test_similarity.py",),
    "ops/subspace": ("ops/test_subspace.py", "methods/test_osf.py"),
    "methods/derpp": ("methods/test_der.py",),
    "methods/online_ewc": ("methods/test_ewc.py",),
}
"""The tests that judge a module, where they are not those of its own name alone."""


SIGNATURES = "tests/docs/test_complete.py::test_the_public_names_and_their_signatures_are_those_that_were_agreed"


def tests_of(module: str) -> list[list[str]]:
    """The tests of a module such as ``ops/signs``: its own, then what pytest is given to run the parts for it of those of all methods."""
    package, name = module.split("/")
    own = [f"tests/{file}" for file in TESTS.get(module, (f"{package}/test_{name}.py",))]
    if package == "ops":
        return [own]
    method = {"plain": "none"}.get(name, name.replace("_", "-"))
    return [own, ["tests/methods/test_bad_options.py", "tests/contract", SIGNATURES, "-k", f"{method} or agreed"]]


def modules() -> list[str]:
    """All modules of the two packages."""
    files = sorted(file for package in ("ops", "methods") for file in (SOURCE / package).glob("*.py"))
    return [f"{file.parent.name}/{file.stem}" for file in files if file.stem != "__init__"]


def mutants_of(module: str) -> Iterator[dict[str, Any]]:
    """Every change that cosmic-ray knows to make in a module, but for those of annotations."""
    from cosmic_ray.commands.init import _all_work_items

    file = SOURCE / f"{module}.py"
    spans = list(_annotations(ast.parse(file.read_text("utf-8"))))
    for item in _all_work_items([file], {}):
        change = item.mutations[0]
        at = (change.start_pos, change.end_pos)
        if not any(start <= at[0] and at[1] <= end for start, end in spans):
            name, occurrence = change.operator_name, change.occurrence
            yield {"module": module, "operator": name, "occurrence": occurrence, "line": at[0][0]}


def _annotations(tree: ast.Module) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            part = getattr(node, name, None)
            if isinstance(part, ast.expr) and part.end_lineno is not None and part.end_col_offset is not None:
                yield (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)


def mutated(mutant: dict[str, Any]) -> str:
    """The source of the module with the change."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    source = (SOURCE / f"{mutant['module']}.py").read_text("utf-8")
    text = mutate_code(source, get_operator(mutant["operator"])(), mutant["occurrence"])
    if text is None:
        raise RuntimeError(f"cosmic-ray lists a change that it cannot make: {mutant}")
    return str(text)


def is_python(text: str) -> bool:
    """Whether ``text`` can be compiled."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(text, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def draw(everything: Sequence[dict[str, Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """``count`` of the changes, at random; 0: all, in a random order."""
    drawn: list[dict[str, Any]] = []
    for mutant in random.Random(seed).sample(everything, len(everything)):
        if is_python(mutated(mutant)):
            drawn.append(mutant)
            if len(drawn) == count:
                break
    return drawn


class Swap(importlib.abc.MetaPathFinder):
    """Gives one module another source."""

    def __init__(self, module: str, text: str) -> None:
        self.name, self.file, self.text = f"forgetless.{module.replace('/', '.')}", str(SOURCE / f"{module}.py"), text
        self.loaded = False

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        finder = self

        class Loader(SourceFileLoader):
            def get_code(self, fullname: str) -> Any:
                finder.loaded = True
                return compile(finder.text, finder.file, "exec", dont_inherit=True)

        return importlib.util.spec_from_file_location(fullname, self.file, loader=Loader(fullname, self.file))


MEMORY, WAITING = 12 << 30, 20
"""Bytes that a mutant may take, and the seconds that it may wait for something, as a multiple of ``--limit``."""

NOT_LOADED = 90
"""The exit code of a process whose tests never imported the changed module: an error of `TESTS`."""


def judged(module: str, text: str | None, tests: Sequence[str], limit: int) -> int:
    """The exit code of pytest (of a killed process: minus the signal) on ``tests``, in a process where ``module`` has another source."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(WAITING * limit)
        import hypothesis
        import pytest

        hypothesis.settings.register_profile("mutation", derandomize=True, deadline=None, database=None)
        hypothesis.settings.load_profile("mutation")
        swap = Swap(module, text) if text is not None else None
        if swap is not None:
            sys.meta_path.insert(0, swap)
        code = int(pytest.main([*tests, "-x", "-q", "-m", "not real", "-p", "no:cacheprovider", "-p", "no:xdist"]))
        if swap is not None and not swap.loaded:
            code = NOT_LOADED
    finally:
        os._exit(code)


def status(code: int) -> str:
    """What an exit code says of a mutant."""
    if code in (NOT_LOADED, 4, 5):  # its tests do not import the module, or there are none
        raise RuntimeError(f"no tests were run (exit code {code}); mend TESTS")
    return SURVIVED if code == 0 else FOUND


def tried(mutant: dict[str, Any], limit: int) -> str:
    """`FOUND` by the first tests that find it, else `SURVIVED`."""
    module, text = mutant["module"], mutated(mutant)
    return FOUND if any(status(judged(module, text, tests, limit)) == FOUND for tests in tests_of(module)) else SURVIVED


def difference(mutant: dict[str, Any]) -> str:
    """The changed lines."""
    old = (SOURCE / f"{mutant['module']}.py").read_text("utf-8").splitlines()
    lines = list(difflib.unified_diff(old, mutated(mutant).splitlines(), n=0, lineterm=""))[3:]
    return "\n".join(f"    {line}" for line in lines)


def summary(rows: Sequence[dict[str, Any]], total: int, *, all_of_them: bool) -> str:
    """The score with its interval; ``total`` counts the changes, those that leave no Python too."""
    from scipy.stats import binomtest

    found = sum(row["status"] == FOUND for row in rows)
    told = f"{found} of {len(rows)} mutants found: {found / len(rows):.1%}"
    if all_of_them:
        return f"{told}; these are all there are"
    interval = binomtest(found, len(rows)).proportion_ci(0.95)
    return f"{told} (95%: {interval.low:.1%} to {interval.high:.1%}); drawn from {total} changes"


def main() -> None:
    """Draw the mutants, try them, print the score."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=400, help="How many to draw; 0 takes all.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", action="append", help="Such as ops/signs. Repeatable. Left out: all.")
    parser.add_argument("--limit", type=int, default=120, help="Seconds of processor time for the tests of a mutant.")
    parser.add_argument("--out", type=Path, default=Path("mutation.jsonl"))
    arguments = parser.parse_args()
    arguments.out = arguments.out.absolute()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    os.chdir(ROOT)
    wanted = arguments.module or modules()
    everything = [mutant for module in wanted for mutant in mutants_of(module)]
    drawn = draw(everything, arguments.mutants, arguments.seed)
    rows = [json.loads(line) for line in arguments.out.read_text("utf-8").splitlines()] if arguments.out.exists() else []
    done = {(row["module"], row["operator"], row["occurrence"]): row for row in rows}
    for name in PRELOADED:
        importlib.import_module(name)
    if any(name.split(".")[0] == "forgetless" for name in sys.modules):
        sys.exit("forgetless is imported already, so no mutant would be")
    files = sorted({file for module in {mutant["module"] for mutant in drawn} for file in tests_of(module)[0]})
    files += ["tests/methods/test_bad_options.py", "tests/contract", SIGNATURES]
    code = judged("", None, files, 20 * arguments.limit)
    if code:
        sys.exit(f"the tests do not pass without a mutant (pytest's exit code {code}): {' '.join(files)}")
    found = []
    with open(arguments.out, "a", encoding="utf-8", buffering=1) as log:
        for number, mutant in enumerate(drawn, 1):
            key = (mutant["module"], mutant["operator"], mutant["occurrence"])
            row = done.get(key)
            if row is None:
                row = mutant | {"status": tried(mutant, arguments.limit)}
                log.write(json.dumps(row) + "\n")
            found.append(row)
            if row["status"] == SURVIVED:
                print(f"survived: {row['module']}.py:{row['line']}\n{difference(mutant)}", flush=True)
            if number % 20 == 0:
                print(f"{number} of {len(drawn)}", flush=True)
    for module in wanted:
        own = [row for row in found if row["module"] == module]
        if own:
            print(f"{module}: {sum(row['status'] == FOUND for row in own)} of {len(own)}")
    print(summary(found, len(everything), all_of_them=len(drawn) != arguments.mutants))


if __name__ == "__main__":
    main()
