"""Real processes on this machine, that talk by gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_together(script: Path, *arguments: object, processes: int = 2, module: bool = False, code: int = 0) -> str:
    """Run a script (or with ``module`` the named module) in several processes; gives what they print."""
    paths = [str(HERE), str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths), "CI": "1"}
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--rdzv-backend=c10d"]
    launch += ["--rdzv-endpoint=localhost:0", *(["-m"] if module else []), str(script), *map(str, arguments)]
    found = subprocess.run(launch, capture_output=True, text=True, timeout=900, env=environment, check=False)
    assert found.returncode == code, found.stdout[-3000:] + found.stderr[-6000:]
    return found.stdout + found.stderr


@pytest.fixture(scope="session")
def together():
    return run_together
