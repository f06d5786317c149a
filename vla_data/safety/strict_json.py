"""JSON from strangers: no repeated keys, bounded size and depth; NaN is refused or kept as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from vla_data.errors import DataError
from vla_data.safety.files import read_file
from vla_data.safety.text import show

MAX_BYTES: Final = 256 << 20
MAX_DEPTH: Final = 64
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))


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
        raise DataError("E141", f"{name} is not valid JSON ({str(error)[:80]})") from None


def read(path: Path, *, root: Path | None, name: str = "", max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON file below ``root``, called ``name`` in messages.

    Raises:
        DataError: as `loads` and `vla_data.safety.files.read_file`.
    """
    return loads(read_file(path, root=root, max_bytes=max_bytes)[0], name=name or show(path.name))


def _depth(data: bytes) -> int:
    """At most how deep brackets are nested; those inside strings count too, which only errs upwards."""
    deepest = depth = 0
    for byte in data.translate(None, _NO_BRACKETS):
        depth += 1 if byte in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key is there twice")
    return out


def _refuse(token: str) -> Any:
    raise ValueError(f"{token} is not a JSON number")
