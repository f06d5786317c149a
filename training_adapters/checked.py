"""Checks of the fields of a program's options, many at once; each raises ValueError with what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from vla_data import options as checks

LEAST: Final = 1e-9
MOST: Final = 1e3


def wholes(options: Any, low: int, *names: str, high: int | None = None) -> None:
    """Whole numbers from ``low`` to ``high``; a field that may be None and is, is left."""
    for name in names:
        if getattr(options, name) is not None or not _may_be_none(options, name):
            checks.whole(name, getattr(options, name), low=low, high=high)


def numbers(options: Any, low: float, high: float, *names: str) -> None:
    """Numbers from ``low`` to ``high``, which become floats; a field that may be None and is, is left."""
    for name in names:
        if getattr(options, name) is not None or not _may_be_none(options, name):
            object.__setattr__(options, name, checks.number(name, getattr(options, name), low=low, high=high))


def texts(options: Any, *names: str, filled: bool = False) -> None:
    """Texts; ``filled``: not empty."""
    for name in names:
        value = getattr(options, name)
        if not isinstance(value, str) or (filled and not value):
            raise ValueError(f"{name} is {value!r}, not a text")


def words(options: Any, choices: Mapping[str, Sequence[str]]) -> None:
    """Each one of a few words."""
    for name, known in choices.items():
        checks.one_of(name, getattr(options, name), tuple(known))


def shared(options: Any, accumulate: str, batch: str, of: str) -> None:
    """That a batch has something for each of the parts that it is computed in."""
    parts, size = getattr(options, accumulate), getattr(options, batch)
    if parts > size:
        raise ValueError(f"{accumulate} is {parts}, and a batch has {size} {of}")


def _may_be_none(options: Any, name: str) -> bool:
    return "None" in str(type(options).__dataclass_fields__[name].type)
