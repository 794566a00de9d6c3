"""What may not grow unseen, counted, never timed: operations of a step, calls of the network, modules that --help imports."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
KNOWN = json.loads((FOLDER / "baseline.json").read_text("utf-8"))["counts"]


@pytest.fixture(scope="module")
def found():
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location("counts", FOLDER / "counts.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.counts()
    finally:
        sys.path.remove(str(FOLDER))


def test_no_step_asks_for_more_operations_or_passes_than_in_the_last_release(found):
    """Where it must: python benchmarks/counts.py --record, and say why."""
    grown = {name: (KNOWN[name], number) for name, number in found.items() if number > KNOWN[name]}
    assert not grown
    assert {name for name in KNOWN if name.startswith("cpl's step") and name.endswith("torch")} <= found.keys()


def test_only_replay_and_distillation_run_the_network_more_than_once_in_a_step(found):
    more = {name.split(",")[0] for name, number in found.items() if name.endswith(", forward") and number > 1}
    assert more == {"lwf", "kl", "replay", "der", "derpp", "gem", "agem"}


def test_help_imports_neither_torch_nor_transformers_and_few_modules_in_all():
    command = [sys.executable, "-X", "importtime", "-m", "forgetless", "--help"]
    unwatched = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it imports modules of its own
    done = subprocess.run(command, env=unwatched, capture_output=True, text=True, timeout=300, check=True)
    names = [line.split("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:") and line.count("|") == 2]
    assert "forgetless.cli.main" in names
    assert not {"torch", "transformers", "numpy", "scipy"} & {name.split(".")[0] for name in names}
    assert len(names) < 250
