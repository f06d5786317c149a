"""JSON from strangers: no repeated keys, bounded size and depth; NaN is refused or kept as text."""

from __future__ import annotations

import json
from typing import Any, Final

from vla_data.errors import DataError

MAX_BYTES: Final = 256 << 20
MAX_DEPTH: Final = 64


class NotFinite(str):
    """``NaN``, ``Infinity`` or ``-Infinity`` in a JSON text, which Python writes and JSON does not have.

    A text by its content and a type of its own, so that nobody takes it for a number or for somebody's text.
    """

    __slots__ = ()


def loads(data: bytes, *, name: str, not_finite: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        data: the text.
        name: of it, for messages.
        not_finite: give `NotFinite` for what is no JSON number, where only some of the values are needed.

    Raises:
        DataError: E141 for anything that two readers could understand differently, or that is too large.
    """
    if len(data) > MAX_BYTES:
        raise DataError("E141", f"{name} has {len(data):,} bytes")
    if _depth(data) > MAX_DEPTH:
        raise DataError("E141", f"{name} is nested more than {MAX_DEPTH} deep")
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=NotFinite if not_finite else _refuse)
    except (ValueError, RecursionError) as error:
        raise DataError("E141", f"{name} is no sound JSON ({str(error)[:80]})") from None


def _depth(data: bytes) -> int:
    """At most how deep brackets are nested; those inside strings count too, which only errs upwards."""
    deepest = depth = 0
    for byte in data:
        if byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key stands twice")
    return out


def _refuse(token: str) -> Any:
    raise ValueError(f"{token} is no JSON number")
