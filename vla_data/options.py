"""Checks of options: each returns its value in one form or says what is wrong with it, in a sentence."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    """One of a few words."""
    if value not in choices or not isinstance(value, str):
        close = difflib.get_close_matches(str(value), choices, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{name} is {value!r}, not one of {', '.join(choices)}{hint}")
    return value


def number(name: str, value: Any, *, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``, both included."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} is {value!r}, not a number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}, not {_between(low, high)}")
    return float(value)


def whole(name: str, value: Any, *, low: int, high: int | None = None) -> int:
    """A whole number from ``low`` to ``high``, both included."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is {value!r}, not a whole number")
    if value < low or (high is not None and value > high):
        raise ValueError(f"{name} is {value!r}, not {_between(low, math.inf if high is None else high)}")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, not true or false")
    return value


def some_text(name: str, value: Any) -> str | None:
    """A text that is not empty, or None; raises ValueError."""
    if value is not None and (not isinstance(value, str) or not value):
        raise ValueError(f"{name} is {value!r}, not a text")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Several texts; one alone is no list of letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{name} is {value!r}, not a list of texts")
    found = tuple(value)
    if not all(isinstance(text, str) and text for text in found):
        raise ValueError(f"{name} is {found!r}, not a list of texts")
    return found


def pair(name: str, value: Any) -> tuple[float, float]:
    """Two numbers, the first below the second."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{name} is {value!r}, not two numbers")
    low, high = (number(name, item) for item in value)
    if not low < high:
        raise ValueError(f"{name} is {low:g} and {high:g}; the first must be below the second")
    return low, high


def _between(low: float, high: float) -> str:
    return f"{low:g} or more" if high == math.inf else f"from {low:g} to {high:g}"
