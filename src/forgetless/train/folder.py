"""The folder of a run: every file in it is whole, or not there."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml

from forgetless.core.state import load_state, save_state
from forgetless.data.model import quiet
from forgetless.errors import InputError
from forgetless.files import clear_left_overs, left_overs, naming, sync_file, sync_folder, write_json, write_jsonl, write_text

METRICS, BUDGET_LOG = "metrics.jsonl", "budget.jsonl"
"""The files that grow line by line while a run goes on."""

MAY_DIFFER = {"versions", "git", "checkpoint_every", "tensorboard"}
"""Keys of ``config.yaml`` that a resumed run need not share."""

ANOTHER = "name a new folder for --out"


class RunFolder:
    """``config.yaml``, ``metrics.jsonl``, ``before.json``, ``checkpoint/``, ``model/``, ``items.jsonl``, ``summary.json``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoint_file = path / "checkpoint" / "state.safetensors"
        self._lock: int | None = None

    @property
    def finished(self) -> dict[str, Any] | None:
        """The summary of a finished run, else None."""
        return self._read("summary.json")

    def check(self, config: dict[str, Any], *, resume: bool) -> None:
        """Check, without writing, that the folder is new or, under ``resume``, holds the same run.

        Raises:
            InputError: it holds something else, or a run with other settings.
        """
        file = self.path / "config.yaml"
        if file.is_file() and resume:
            self._same(config)
        elif self.path.exists() and not self.path.is_dir():
            raise InputError("it is a file", where=str(self.path), mend="Name a folder for --out")
        elif self.path.is_dir() and set(self.path.iterdir()) - set(left_overs(self.path)):
            if file.is_file():
                raise InputError("the folder holds another run", where=str(self.path), mend=f"Go on with it by --resume, or {ANOTHER}")
            raise InputError("the folder is not empty and holds no run", where=str(self.path), mend=ANOTHER.capitalize())

    def open(self, config: dict[str, Any], *, resume: bool) -> None:
        """Make the folder, or take up the run in it: lock it and clear away what a killed process left half-written."""
        self.check(config, resume=resume)
        file = self.path / "config.yaml"
        if not file.is_file():
            write_text(file, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        self._lock = lock_file(file)
        clear_left_overs(self.path, self.checkpoint_file.parent)

    def close(self) -> None:
        """Let other processes have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _same(self, new: dict[str, Any]) -> None:
        where = str(self.path)
        try:
            old = yaml.safe_load((self.path / "config.yaml").read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
            raise InputError("its config.yaml cannot be read", where=where, mend=ANOTHER.capitalize()) from error
        if not isinstance(old, dict) or not isinstance(old.get("files"), dict):
            raise InputError("its config.yaml is not of a run", where=where, mend=ANOTHER.capitalize())
        new = json.loads(json.dumps(new))
        for name in sorted((set(old) | set(new)) - MAY_DIFFER - {"files"}):
            if old.get(name) != new.get(name):
                what = f"its run has {name.replace('_', '-')} = {old.get(name)!r}, this command {new.get(name)!r}"
                raise InputError(what, where=where, mend=f"Resume with the same settings, or {ANOTHER}")
        for name in sorted(set(old["files"]) | set(new["files"])):
            was, now = old["files"].get(name), new["files"].get(name)
            if was is None or now is None:
                what = f"its run has {'no ' if was is None else ''}--{name}, this command {'has one' if was is None else 'has none'}"
                raise InputError(what, where=where, mend=f"Resume with the same files, or {ANOTHER}")
            if was["sha256"] != now["sha256"] or (now["sha256"] is None and was["path"] != now["path"]):
                same = was["path"] == now["path"]
                what = "it has changed since the run began" if same else f"it is not what the run began with ({was['path']})"
                raise InputError(what, where=f"--{name} {now['path']}", mend=f"Resume with the same files, or {ANOTHER}")

    def save_before(self, verdicts: dict[str, Any]) -> None:
        """Keep the verdicts on the model as it came."""
        write_json(self.path / "before.json", verdicts)

    def load_before(self) -> dict[str, Any] | None:
        """The verdicts that `save_before` kept."""
        return self._read("before.json")

    def _read(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        try:
            found: dict[str, Any] | None = json.loads(file.read_text("utf-8")) if file.is_file() else None
        except ValueError as error:
            raise InputError("it cannot be read", where=str(file), mend=f"Restore it, or {ANOTHER}") from error
        return found

    def checkpoint(self, state: dict[str, Any]) -> None:
        """Write everything needed to go on from here, in place of the last checkpoint."""
        files = {name: self.path / name for name in (METRICS, BUDGET_LOG)}
        save_state(self.checkpoint_file, state | {"bytes": {name: file.stat().st_size for name, file in files.items() if file.exists()}})

    def last_checkpoint(self) -> dict[str, Any] | None:
        """The state to go on from; cuts ``metrics.jsonl`` and ``budget.jsonl`` back to it. None where there is none."""
        state: dict[str, Any] | None = load_state(self.checkpoint_file) if self.checkpoint_file.is_file() else None
        for name in (METRICS, BUDGET_LOG):
            if (self.path / name).exists():
                os.truncate(self.path / name, state["bytes"].get(name, 0) if state else 0)
        return state

    def drop_checkpoint(self) -> None:
        """Remove the checkpoint of a finished run."""
        shutil.rmtree(self.checkpoint_file.parent, ignore_errors=True)

    def log(self, line: dict[str, Any], name: str = METRICS) -> None:
        """Add a line to ``metrics.jsonl``, or to ``budget.jsonl``, forced to the disk; on an error none of it stays."""
        path = self.path / name
        with naming(path), open(path, "ab", buffering=0) as handle:
            size, data = handle.tell(), json.dumps(line).encode() + b"\n"
            try:
                while data:
                    data = data[handle.write(data) :]
                os.fsync(handle.fileno())
            except BaseException:
                handle.truncate(size)
                raise

    def save_model(self, model: Any, tokenizer: Any) -> None:
        """Write ``model/``, loadable by ``from_pretrained``, whole or not at all."""
        target, temporary, old = self.path / "model", self.path / ".model.tmp", self.path / ".model.old.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            with naming(target), quiet():
                model.save_pretrained(temporary)
                tokenizer.save_pretrained(temporary)
                for file in temporary.iterdir():
                    shutil.copymode(temporary / "config.json", file)  # safetensors' own is for the owner alone
                    sync_file(file)
                sync_folder(temporary)
                if target.exists():
                    os.replace(target, old)
                os.replace(temporary, target)
                sync_folder(self.path)
        finally:
            for folder in (temporary, old):
                shutil.rmtree(folder, ignore_errors=True)

    def finish(self, items: list[dict[str, Any]], summary: dict[str, Any]) -> None:
        """Write the model's card and the items, then the summary: its presence says that the run is finished."""
        from forgetless.report.card import write_card

        write_card(self.path / "model", summary, items, yaml.safe_load((self.path / "config.yaml").read_text("utf-8")))
        write_jsonl(self.path / "items.jsonl", items)
        write_json(self.path / "summary.json", summary)

    def check_space(self, weights: int, moments: int) -> None:
        """Raise `InputError` where the disk cannot hold a checkpoint beside the one that it replaces.

        Args:
            weights: bytes of the model's weights, which the final model takes once more.
            moments: bytes that the optimizer keeps.
        """
        checkpoint = (weights + moments) * 9 // 8  # an eighth for the method's state and the headers
        needed = 2 * checkpoint + (2 << 20)
        existing = self.path.absolute()
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        free += sum(_bytes(entry) for entry in left_overs(self.path, self.checkpoint_file.parent))  # `open` clears them away
        present = _bytes(self.checkpoint_file)
        if free < needed - present:
            what = f"the disk has {_size(free)} left, the run needs about {_size(needed - present)}"
            raise InputError(what, where=str(self.path), mend="Free some space or name a folder on another disk")


class ReadFolder(RunFolder):
    """The folder for all processes of a run but the first one, which writes it."""

    def check(self, config: dict[str, Any], *, resume: bool) -> None:
        pass

    def open(self, config: dict[str, Any], *, resume: bool) -> None:
        pass

    def save_before(self, verdicts: dict[str, Any]) -> None:
        pass

    def checkpoint(self, state: dict[str, Any]) -> None:
        pass

    def last_checkpoint(self) -> dict[str, Any] | None:
        return load_state(self.checkpoint_file) if self.checkpoint_file.is_file() else None

    def drop_checkpoint(self) -> None:
        pass

    def log(self, line: dict[str, Any], name: str = METRICS) -> None:
        pass

    def save_model(self, model: Any, tokenizer: Any) -> None:
        pass

    def finish(self, items: list[dict[str, Any]], summary: dict[str, Any]) -> None:
        pass

    def check_space(self, weights: int, moments: int) -> None:
        pass


def lock_file(file: Path) -> int | None:
    """Hold ``file``, or a folder, against other processes until this one ends; None where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(file, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise InputError(
            "another process trains in it", where=str(file if file.is_dir() else file.parent), mend="Wait for its end, or stop it"
        ) from error
    except OSError:  # a network disk without locks
        pass
    return handle


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"
