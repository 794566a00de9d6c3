"""The public names with their signatures, as ``public_api.txt`` holds them: python tests/docs/public_api.py > tests/docs/public_api.txt"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import forgetless


def lines() -> Iterator[str]:
    """A line for every name; for classes one for each public method of their own too."""
    for name in forgetless.__all__:
        value = getattr(forgetless, name)
        if not callable(value):
            yield f"{name}: {type(value).__name__}"
            continue
        yield f"{name}{_signature(value)}"
        if inspect.isclass(value) and name in ("Method", "Session", "Context", "Task", "Chain"):
            own = [(key, item) for key, item in vars(value).items() if not key.startswith("_") and callable(item)]
            yield from (f"    {name}.{key}{_signature(item)}" for key, item in sorted(own, key=lambda pair: pair[0]))


def _signature(value: object) -> str:
    try:
        parameters = inspect.signature(value).parameters.values()  # type: ignore[arg-type]
    except ValueError:
        return "(...)"
    shown = ", ".join(str(one.replace(annotation=one.empty)) for one in parameters)
    return f"({re.sub(r' at 0x[0-9a-f]+', '', shown)})"


if __name__ == "__main__":
    print("\n".join(lines()))
