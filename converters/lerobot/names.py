"""Names of a feature's elements, in the forms in which ``info.json`` of different writers has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def flat_names(names: Any) -> tuple[str, ...] | None:
    """The names in order, or None where there are none or what stands there names no order.

    They are a list; a list in a list (unitree_lerobot); lists under headings, such as ``{"motors": [...]}``, one
    after the other; or positions by name, ``{"x": 0, "y": 1}``.
    """
    if isinstance(names, dict):
        return _by_position(names) or _under_headings(list(names.values()))
    if isinstance(names, list):
        if all(isinstance(name, str) for name in names):
            return tuple(names)
        return _under_headings(names)
    return None


def _by_position(names: dict[Any, Any]) -> tuple[str, ...] | None:
    if not all(isinstance(name, str) and type(at) is int for name, at in names.items()):
        return None
    in_order = sorted(names, key=lambda name: int(names[name]))
    return tuple(in_order) if [names[name] for name in in_order] == list(range(len(names))) else None


def _under_headings(lists: list[Any]) -> tuple[str, ...] | None:
    if not lists or not all(isinstance(part, list) and all(isinstance(n, str) for n in part) for part in lists):
        return None
    return tuple(name for part in lists for name in part)


def element_names(names: Any, shape: Sequence[int]) -> tuple[str, ...] | None:
    """The names of a feature of this shape, of its elements or, beyond vectors, of its axes; None where they are
    none or not as many.
    """
    found = flat_names(names)
    wanted = shape[0] if len(shape) == 1 else len(shape)
    return found if found and len(found) == wanted else None
