"""Real ``forgetless`` processes without the seconds that importing torch takes: forked from a process that has imported it.

Each command is a process of its own, with its own arguments, folder, standard streams and exit code, and can be killed.
Run as a script this is the process that forks; `Warm` talks to it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()


@dataclass
class Done:
    """How a command ended: its exit code (minus the signal, where one ended it) and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


class Warm:
    """Starts commands through the forking process."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self.count = scratch, 0
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
        self.server = subprocess.Popen(
            [sys.executable, str(HERE)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._ask({}) == {"ready": True}

    def start(
        self,
        *arguments: object,
        cwd: Path,
        fsize: int | None = None,
        die_at: int | None = None,
        count: Path | None = None,
        clock_back: bool = False,
    ) -> int:
        """Start ``forgetless ARGUMENTS`` in ``cwd``; gives the process id.

        Args:
            fsize: no file may grow beyond so many bytes.
            die_at: kill the process (SIGKILL, by itself) at its so many-th file operation that makes something durable.
            count: a file to write the names of such operations to at the end.
            clock_back: the wall clock goes back by an hour whenever it is read.
        """
        self.count += 1
        streams = [str(self.scratch / f"{self.count}.{name}") for name in ("out", "err")]
        request = {"argv": [str(a) for a in arguments], "cwd": str(cwd), "streams": streams}
        request |= {"fsize": fsize, "die_at": die_at, "count": str(count) if count else None, "clock_back": clock_back}
        pid: int = self._ask(request)["pid"]
        return pid

    def wait_for_main(self) -> None:
        """Wait until the command that was started last has come as far as its own code."""
        while not (self.scratch / f"{self.count}.out.began").exists():
            time.sleep(0.001)

    def wait(self, pid: int) -> Done:
        found = self._ask({"wait": pid})
        files = [Path(name) for name in found["streams"]]
        out, err = (file.read_text("utf-8") if file.exists() else "" for file in files)  # killed before it had opened them
        return Done(found["code"], out, err)

    def run(self, *arguments: object, cwd: Path, **options: Any) -> Done:
        return self.wait(self.start(*arguments, cwd=cwd, **options))

    def kill_after(self, seconds: float, *arguments: object, cwd: Path) -> Done:
        pid = self.start(*arguments, cwd=cwd)
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)  # a child that has ended is still there until it is waited for
        return self.wait(pid)

    def close(self) -> None:
        self.server.stdin.close()
        self.server.wait(timeout=180)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self.server.stdin.write(json.dumps(request) + "\n")
        self.server.stdin.flush()
        answer: dict[str, Any] = json.loads(self.server.stdout.readline())
        return answer


def _serve() -> None:
    import torch  # noqa: F401  # what makes a cold start slow
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM  # noqa: F401

    with contextlib.suppress(ImportError):  # likewise; transformers 4 has no such conversion
        import peft.utils.transformers_weight_conversion  # noqa: F401

    import forgetless.evaluation.examine
    import forgetless.evaluation.split
    import forgetless.methods
    import forgetless.report.page
    import forgetless.train.loop  # noqa: F401

    streams: dict[int, list[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            status = os.waitpid(request["wait"], 0)[1]
            answer: dict[str, Any] = {"code": os.waitstatus_to_exitcode(status), "streams": streams.pop(request["wait"])}
        elif "argv" in request:
            pid = os.fork()
            if pid == 0:
                _child(request)
            streams[pid] = request["streams"]
            answer = {"pid": pid}
        else:
            answer = {"ready": True}
        print(json.dumps(answer), flush=True)


def _child(request: dict[str, Any]) -> None:
    code = 1
    try:
        os.setsid()
        for descriptor, name in zip((0, 1, 2), ("/dev/null", *request["streams"]), strict=True):
            handle = os.open(name, os.O_RDONLY if descriptor == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(handle, descriptor)
            os.close(handle)
        sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(request["cwd"])
        if request["fsize"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["fsize"], request["fsize"]))
        if request["clock_back"]:
            _turn_back_the_clock()
        operations = _watch(request["die_at"])
        sys.argv = ["forgetless", *request["argv"]]
        from forgetless.cli import main as command

        app = command.app

        def begin(**options: Any) -> Any:  # inside what main() guards: whoever waits for the file may interrupt at once
            Path(f"{request['streams'][0]}.began").touch()
            return app(**options)

        command.app = begin
        try:
            command.main()
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if request["count"]:
            Path(request["count"]).write_text(json.dumps(operations))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _turn_back_the_clock() -> None:
    hours = iter(range(500_000, 0, -1))
    time.time = lambda: next(hours) * 3600.0
    time.time_ns = lambda: next(hours) * 3600 * 10**9


def _watch(die_at: int | None) -> list[str]:
    """Count the calls that make something durable, before and after each; at call ``die_at`` the process kills itself."""
    import safetensors.torch

    seen: list[str] = []

    def mark(name: str) -> None:
        seen.append(name)
        if len(seen) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def watched(module: Any, name: str) -> None:
        original = getattr(module, name)

        def call(*arguments: Any, **options: Any) -> Any:
            what = f"{name} {Path(arguments[-1]).name}" if isinstance(arguments[-1], str | Path) else name
            mark(f"before {what}")
            result = original(*arguments, **options)
            mark(f"after {what}")
            return result

        setattr(module, name, call)

    for name in ("fsync", "replace", "truncate"):
        watched(os, name)
    original = safetensors.torch.serialize_file

    def half_written(tensors: Any, filename: Any, **options: Any) -> Any:
        """Writing a state takes a while: a kill in the middle leaves half a file, under safetensors' name and under ours."""
        seen.append(f"half of {Path(filename).name.split('.safetensors')[0]}")
        if len(seen) == die_at:
            original(tensors, filename, **options)
            os.truncate(filename, os.stat(filename).st_size // 2)
            Path(filename).with_name(".tmpHaLfWr").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return original(tensors, filename, **options)

    safetensors.torch.serialize_file = half_written
    return seen


if __name__ == "__main__":
    _serve()
