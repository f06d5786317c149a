"""Whether what somebody gave as a source, as steps or as a sink is one, told before any work is done."""

from __future__ import annotations

import types
from collections.abc import Iterable
from pathlib import PurePath
from typing import Any, Final

from vla_data.core.curate import Step
from vla_data.errors import UsageError
from vla_data.safety.text import show

_SOURCE: Final = ("episodes", "fingerprint", "read", "schema")
_SINK: Final = ("target", "encode", "assemble", "check", "holds_empty", "one_schema", "sidecar")
_FUNCTIONS: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType)


def check_source(source: Any) -> None:
    """Refuse what is no source.

    Raises:
        UsageError: E001 with what it is, and what a source has.
    """
    _check("source", source, _SOURCE, "open_source", "vla_data.BaseSource")


def check_sink(sink: Any) -> None:
    """Refuse what is no sink.

    Raises:
        UsageError: E001 with what it is, and what a sink has.
    """
    _check("sink", sink, _SINK, "open_sink", "vla_data.BaseSink")


def check_steps(steps: Any) -> tuple[Step, ...]:
    """Steps as a tuple.

    Raises:
        UsageError: E001 for anything but several objects with ``apply`` or ``reject``.
    """
    if _is_step(steps):
        raise UsageError("E001", f"steps are given in a list: [{_written(steps)}], also one alone")
    if isinstance(steps, str) or not isinstance(steps, Iterable):
        raise UsageError("E001", f"steps is {_told(steps)}, not a list of steps")
    found = tuple(steps)
    for step in found:
        if isinstance(step, type):
            raise UsageError(
                "E001", f"step {show(step.__qualname__)} is a class; {show(step.__qualname__)}() is a step"
            )
        if not _is_step(step):
            raise UsageError(
                "E001", f"{_told(step)} is no step: it has neither apply(episode) nor reject(episode)"
            )
    return found


def _is_step(value: Any) -> bool:
    return any(callable(getattr(value, name, None)) for name in ("apply", "reject"))


def _check(what: str, value: Any, wanted: tuple[str, ...], opener: str, base: str) -> None:
    if isinstance(value, str | PurePath):
        raise UsageError(
            "E001", f"{what} is {str(value)!r}, an address; vla_data.{opener}({str(value)!r}) opens it"
        )
    if isinstance(value, type):
        raise UsageError("E001", f"{what} is the class {show(value.__qualname__)}, not an object of it")
    lacking = [name for name in wanted if not hasattr(value, name)]
    if lacking:
        raise UsageError(
            "E001",
            f"{_told(value)} is no {what}: it has no {', '.join(lacking)}; {base} has what can have a default",
        )


def _written(step: Any) -> str:
    return show(step.__qualname__) + "()" if isinstance(step, type) else show(type(step).__qualname__) + "(...)"


def _told(value: Any) -> str:
    if isinstance(value, _FUNCTIONS):
        return f"function {show(value.__qualname__)}"
    return "None" if value is None else f"an object of {show(type(value).__qualname__)}"
