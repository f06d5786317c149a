"""Nested dictionaries and lists in which one place has something odd."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in nested dictionaries and lists: the keys and numbers that lead there."""
    yield place
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*place, key))


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    """A copy with something else at one of the `places`."""
    if not place:
        return odd
    out = value.copy()
    out[place[0]] = changed(value[place[0]], place[1:], odd)
    return out
