"""JSON from strangers: no repeated keys, bounded size and depth; NaN is refused or kept as text."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from vla_data.errors import DataError
from vla_data.safety.files import read_file
from vla_data.safety.text import show

MAX_BYTES: Final = 256 << 20
MAX_DEPTH: Final = 64
MAX_LISTS: Final = 2_000_000
"""Lists and objects of one text: an empty one takes 2 bytes of it and up to 100 of memory."""
MAX_DIGITS: Final = 40
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
# Possessive, and with an end that may be missing, so that no text takes more than one pass.
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)
# Nothing without one of these can be a number of more digits, or beyond what a float holds.
_LARGE: Final = re.compile(rb"[0-9][eE]\+?[0-9]{2}|[0-9]{%d}" % (MAX_DIGITS + 1))


class NotFinite(str):
    """``NaN``, ``Infinity`` or ``-Infinity`` in a JSON text, which Python writes and JSON does not have, or a
    number such as ``1e999``, which no float holds.

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
    _check_brackets(data, name)
    special = NotFinite if not_finite else _refuse
    large: dict[str, Any] = {}
    if _LARGE.search(data):
        large = {"parse_int": _whole, "parse_float": lambda token: _finite(token, special)}
    try:
        return json.loads(data, object_pairs_hook=_unique, parse_constant=special, **large)
    except (ValueError, RecursionError) as error:
        raise DataError("E141", f"{name} is not valid JSON ({str(error)[:80]})") from None


def read(path: Path, *, root: Path | None, name: str = "", max_bytes: int = MAX_BYTES) -> Any:
    """The value of a JSON file below ``root``, called ``name`` in messages.

    Raises:
        DataError: as `loads` and `vla_data.safety.files.read_file`.
    """
    return loads(read_file(path, root=root, max_bytes=max_bytes)[0], name=name or show(path.name))


def _check_brackets(data: bytes, name: str) -> None:
    """Refuse too many lists and objects, and those that are nested too deep."""
    count = data.count(b"[") + data.count(b"{")
    if count <= MAX_DEPTH:
        return
    brackets = _STRING.sub(b"", data).translate(None, _NO_BRACKETS)
    if brackets.count(b"[") + brackets.count(b"{") > MAX_LISTS:
        raise DataError("E141", f"{name} has more than {MAX_LISTS:,} lists and objects")
    depth = 0
    for byte in brackets:
        depth += 1 if byte in b"[{" else -1
        if depth > MAX_DEPTH:
            raise DataError("E141", f"{name} is nested more than {MAX_DEPTH} deep")


def _whole(token: str) -> int:
    if len(token.lstrip("-")) > MAX_DIGITS:
        raise ValueError(f"a number of {len(token):,} digits")
    return int(token)


def _finite(token: str, special: Callable[[str], Any]) -> Any:
    value = float(token)
    return value if math.isfinite(value) else special(token)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key is there twice")
    return out


def _refuse(token: str) -> Any:
    raise ValueError(f"{token[:40]} is not a number that a float holds")
