"""Layers import downward only; importing has no side effects."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import forgetless

ROOT = Path(forgetless.__file__).parent
BASE = {"errors", "files", "progress"}
MAY_IMPORT = {
    "ops": set(),
    "core": {"ops"},
    "memory": {"ops", "core"},
    "modules": {"ops"},
    "methods": {"ops", "core", "memory", "modules"},
    "streams": {"core", "memory", "methods", "data", "evaluation", "train", "report"},
    "data": set(),
    "evaluation": {"ops", "data"},
    "analysis": {"core", "ops", "data", "evaluation"},
    "guard": {"ops", "core", "data", "evaluation", "methods"},
    "integrations": {"core", "ops", "evaluation", "data", "guard", "methods"},
    "train": {"core", "data", "evaluation", "analysis", "guard", "report"},
    "report": {"evaluation", "analysis"},
    "demo": {"core", "data", "evaluation", "train", "report", "methods"},
    "advice": {"core", "methods"},
    "comparison": {"core", "data", "evaluation", "train", "methods", "demo"},
    "cli": {
        "advice",
        "analysis",
        "comparison",
        "streams",
        "core",
        "data",
        "evaluation",
        "train",
        "report",
        "integrations",
        "methods",
        "demo",
    },
}


def imported_layers(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
        found |= {name.split(".")[1] for name in names if name.startswith("forgetless.")}
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", [file for file in FILES if file.parent != ROOT], ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_downward(file):
    layer = file.relative_to(ROOT).parts[0]
    assert imported_layers(file) <= MAY_IMPORT[layer] | {layer} | BASE


def test_methods_do_not_import_each_other():
    names = {file.stem for file in (ROOT / "methods").glob("*.py")} - {"__init__"}
    for file in (ROOT / "methods").glob("*.py"):
        if file.stem not in ("__init__", "auto"):  # the recipe is a chain of others
            text = file.read_text("utf-8")
            assert not [name for name in names if f"forgetless.methods.{name}" in text]


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_stay_small(file):
    assert len(file.read_text("utf-8").splitlines()) <= 300


def test_importing_the_package_and_the_command_line_loads_no_torch():
    code = "import sys, forgetless, forgetless.cli.main; print([m for m in ('torch', 'transformers', 'scipy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_public_name_loads():
    for name in forgetless.__all__:
        assert getattr(forgetless, name) is not None
