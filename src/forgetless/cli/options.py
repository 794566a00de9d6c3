"""Options that every verb has, and how its errors and its answers are shown."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from forgetless.errors import ForgetlessError, InputError, out_of_memory
from forgetless.files import NO_ROOM

DEBUG = {"on": False}
_ON = "; the same command goes on where it was"
GOES_ON = dict.fromkeys(("train", "stream"), "; a run goes on with the same command and --resume") | dict.fromkeys(("compare", "demo"), _ON)
"""By verb what to do after an interrupt, where anything is kept."""


def _read_config(ctx: typer.Context, value: Path | None) -> Path | None:
    """Take defaults from a YAML file with the same keys as the flags."""
    if value is None:
        return None
    import yaml

    mend = "Give keys named like the flags, such as lr: 1e-5"
    try:
        given = yaml.safe_load(value.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        where = f"{value}:{error.problem_mark.line + 1}" if error.problem_mark else str(value)
        raise InputError(f"it is not YAML ({error.problem})", where=where, mend=mend) from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError("it is not YAML in UTF-8", where=str(value), mend=mend) from error
    except OSError as error:
        raise InputError(f"it cannot be read ({error.strerror})", where=str(value), mend="Check the path of --config") from error
    if given is not None and not isinstance(given, dict):
        raise InputError("it holds no keys", where=str(value), mend=mend)
    flags = {_flag(parameter): parameter for parameter in ctx.command.params if parameter.name != "config"}
    defaults: dict[str, Any] = {}
    for key, item in (given or {}).items():
        parameter = flags.get(str(key).replace("_", "-"))
        if parameter is None:
            raise InputError(f"unknown key {key!r}", where=str(value), mend=f"The keys are {', '.join(sorted(flags))}")
        if item is not None:
            defaults[parameter.name or ""] = _config_value(ctx, parameter, item, f"{value}, key {key}")
    ctx.default_map = {**(ctx.default_map or {}), **defaults}
    return value


def _verb() -> str:
    return next((argument for argument in sys.argv[1:] if not argument.startswith("-")), "")


def _flag(parameter: Any) -> str:
    """The key of a parameter in a configuration file: its flag without the dashes."""
    long = [option for option in parameter.opts if option.startswith("--")]
    return str(long[0][2:] if long else parameter.name).replace("_", "-")


def _config_value(ctx: typer.Context, parameter: Any, item: Any, where: str) -> Any:
    """``item`` as text, or a list of texts, as the flag would give it; checked."""
    several = parameter.multiple or parameter.nargs == -1
    items = item if several and isinstance(item, list) else [item]
    if not all(isinstance(part, str | int | float | bool) for part in items):
        raise InputError(
            f"{item!r} is not allowed", where=where, mend=f"Give a value{', or a list of values,' if several else ''} as for the flag"
        )
    if getattr(parameter, "is_flag", False) and not isinstance(item, bool):
        raise InputError(f"{item!r} is not allowed", where=where, mend="Give true or false")
    value = [str(part) for part in items] if several else item if isinstance(item, bool) else str(item)
    try:
        parameter.process_value(ctx, value)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        raise InputError(f"{item!r} is not allowed", where=where, mend="Give a value as for the flag") from error
    return value


def _set_debug(value: bool) -> bool:
    DEBUG["on"] = DEBUG["on"] or value
    return value


Config = Annotated[
    Path | None, typer.Option("--config", help="YAML file with the same keys as the flags.", callback=_read_config, is_eager=True)
]
Json = Annotated[bool, typer.Option("--json", help="Print the answer as JSON, and no progress.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", callback=_set_debug)]
Model = Annotated[str, typer.Option("--model", help="A model folder, a hub id, or smollm2-135m (the embedded default).")]
Scorer = Annotated[
    str, typer.Option("--scorer", help="exact, letter, likelihood, generate, free-text, instructions, refuses, complies or perplexity.")
]
Template = Annotated[
    str | None,
    typer.Option("--template", help="plain, qa, chat, letter, letter-lower, letter-late or letter-digit; left out: the one that fits."),
]
Limit = Annotated[int | None, typer.Option("--limit", help="Read only so many rows of a file.")]
Seed = Annotated[int, typer.Option("--seed", help="Of everything random.")]
EvalBatch = Annotated[int, typer.Option("--eval-batch-size", help="Questions scored at a time.")]


def check_batch(size: int) -> None:
    """Raise `InputError` where ``size`` is no size of a batch."""
    if size < 1:
        raise InputError(f"{size} is not allowed", where="--eval-batch-size", mend="Give a whole number of at least 1")


def answer(value: Any, text: str, *, as_json: bool) -> None:
    """Print the answer of a verb: JSON for machines, text for people."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2) if as_json else text)


NO_MEMORY = "the memory does not suffice. Free some, or give smaller batches; train goes on with the same command and --resume"

INTERRUPTED = 130
"""The code with which the command line library ends where Ctrl-C reaches itself, before a verb is at work."""


class Interrupted(Exception):
    """Ctrl-C, in a form that the command line library leaves alone."""


class Verbs(TyperGroup):
    """The verbs; an interrupt in one is told like any other error."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error


def run(app: Callable[..., Any]) -> int:
    """Run the command line and give its exit code: 0 ok, 1 failed, 2 wrong input. An error is one line on standard error."""
    DEBUG["on"] = "--debug" in sys.argv[1:]  # before the options are read, since that may fail as well
    try:
        code = _code(app)
        if code == INTERRUPTED:
            raise Interrupted
        return code
    except (Interrupted, KeyboardInterrupt, typer.Abort) as error:
        return _fail(f"interrupted{GOES_ON.get(_verb(), '')}", 1, error)
    except InputError as error:
        return _fail(str(error), 2, error)
    except ForgetlessError as error:
        return _fail(str(error), 1, error)
    except Exception as error:
        if out_of_memory(error):
            return _fail(NO_MEMORY, 1, error)
        if isinstance(error, OSError):
            return _fail(*_system(error), error)
        if hasattr(error, "format_message"):
            return _usage(error)
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1, error)


def _code(app: Callable[..., Any]) -> int:
    try:
        result = app(standalone_mode=False)
    except typer.Exit as error:
        return int(error.exit_code)
    return result if isinstance(result, int) else 0


def _usage(error: Any) -> int:
    """Tell what is wrong with the command line; without any verb, show the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.ctx.get_help(), err=True)
        return 2
    context, verb = getattr(error, "ctx", None), sys.argv[1:2]
    path = context.command_path if context else " ".join(["forgetless", *(word for word in verb if not word.startswith("-"))])
    return _fail(f"{error.format_message().rstrip('.')}. See {path} --help", 2, error)


def _system(error: OSError) -> tuple[str, int]:
    """What the file system refused, and the exit code: 2 where the user can mend it."""
    place = "" if error.filename is None else f"{error.filename}: "
    if error.errno in NO_ROOM:
        mend = "Free some space and give the same command again; train goes on with --resume"
        return f"{place}no space is left ({error.strerror}). {mend}", 2
    if error.filename is not None and error.errno != errno.EIO:
        return f"{place}{error.strerror}. Name a place that can be read and written", 2
    return f"{type(error).__name__}: {error} (--debug shows where)", 1


def _fail(message: str, code: int, error: BaseException) -> int:
    if DEBUG["on"]:
        import traceback

        traceback.print_exception(error)
    typer.echo(f"forgetless: {' '.join(message.split())}", err=True)
    return code


def named_files(pairs: Sequence[str], taken: Collection[str] = ()) -> dict[str, str]:
    """The files of ``--probe NAME=FILE``, by their names.

    Raises:
        InputError: one has no name or no file, or its name stands for another or is ``taken``.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, file = pair.partition("=")
        if not (equals and name and file) or name in found or name in taken:
            raise InputError(f"{pair!r} is not NAME=FILE with a new name", where="--probe", mend="Write for example other=other.jsonl")
        found[name] = file
    return found
