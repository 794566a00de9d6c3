"""Where a run comes from: its settings, its files, the versions of what takes part."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from hashlib import file_digest
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from forgetless.data.question import Question
from forgetless.train.settings import Settings

PACKAGES = ("forgetless", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def run_config(settings: Settings, splits: dict[str, list[Question]]) -> dict[str, Any]:
    """The content of ``config.yaml``: all resolved settings, the files with their hashes, versions, git commit."""
    files = {name: {"path": file, "items": len(splits[name]), "sha256": fingerprint(file)} for name, file in settings.files.items()}
    plain = asdict(settings) | {"method": ",".join(settings.method), "files": files}
    return plain | provenance()


def provenance() -> dict[str, Any]:
    """Versions of what takes part, and the git commit of the working folder where there is one."""
    versions = {"python": sys.version.split()[0]}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # run from a source tree that is not installed
            versions[name] = "not installed"
    try:
        found = subprocess.run(["git", "rev-parse", "--verify", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
        commit = found.stdout.strip() if found.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):  # no git on this machine
        commit = None
    return {"versions": versions, "git": commit}


def fingerprint(source: str) -> str | None:
    """SHA-256 of a local file, None for a hub data set."""
    path = Path(source).expanduser()
    if not path.is_file():
        return None
    with open(path, "rb") as handle:
        return file_digest(handle, "sha256").hexdigest()


def peak_memory() -> int:
    """Peak bytes so far: of the GPU where there is one in use, else of the process; 0 where the system does not tell."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
