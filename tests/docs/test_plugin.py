"""A method from outside: the example package, installed, is found, passes the contract suite, and trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment in which the example package is installed, in a folder of its own."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-build-isolation", "--no-deps"]
    subprocess.run([*pip, "--target", str(place), str(ROOT / "examples" / "plugin")], check=True)
    return os.environ | {"PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"}


def run(environment, *command):
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_it_is_listed_with_its_options(environment):
    done = run(environment, "forgetless", "methods", "--json")
    assert done.returncode == 0, done.stderr
    assert "l1sp" in json.dumps(json.loads(done.stdout))


def test_it_passes_the_contract_suite(environment):
    done = run(environment, "pytest", "-q", "-p", "no:cacheprovider", "tests/contract", "-k", "l1sp")
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def test_a_wrong_option_is_told(environment, tmp_path):
    (tmp_path / "new.jsonl").write_text(json.dumps({"prompt": "p", "answer": "a"}))
    arguments = ["--model", "smollm2-135m", "--inject", str(tmp_path / "new.jsonl"), "--method", "l1sp", "--out", str(tmp_path / "run")]
    done = run(environment, "forgetless", "train", *arguments, "--method-arg", "l1sp.strength=-1")
    assert done.returncode == 2 and "l1sp.strength" in done.stderr and not (tmp_path / "run").exists()
