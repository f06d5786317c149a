"""Facts of a whole episode, such as ``seed`` and ``policy_version``, as JSON has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from vla_data.core import Json
from vla_data.errors import RecordError
from vla_data.safety.text import show

MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 16


def as_facts(facts: Mapping[str, Any] | None) -> dict[str, Json]:
    """A copy of facts as plain JSON values; numbers of NumPy's become Python's, tuples lists.

    Raises:
        RecordError: E203 for a value that JSON has not, E201 for a number that is not finite, E107 for over 1 MiB.
    """
    if facts is None:
        return {}
    if not isinstance(facts, Mapping):
        raise RecordError("E203", f"facts is a {type(facts).__name__}, not a dictionary of names and values")
    plain = _plain("facts", facts, 0)
    size = len(json.dumps(plain))
    if size > MAX_BYTES:
        raise RecordError(
            "E107", f"the facts take {size:,} bytes, more than {MAX_BYTES:,}; record arrays as features"
        )
    return dict(plain)


def _plain(where: str, value: Any, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise RecordError("E106", f"{where} is nested more than {MAX_DEPTH} deep")
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        if any("\ud800" <= c <= "\udfff" for c in value):
            raise RecordError("E212", f"{where} has a lone surrogate (half a character), which a file can't hold")
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise RecordError("E201", f"{where} is {value}, which JSON can't hold")
        return float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise RecordError("E203", f"{where} has the key {show(repr(key))[:40]}, which is not a text")
        return {
            _plain(where, key, depth): _plain(f"{where}[{show(repr(key))[:60]}]", item, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_plain(f"{where}[{i}]", item, depth + 1) for i, item in enumerate(value)]
    hint = "; give .tolist(), or record it as a feature" if isinstance(value, np.ndarray) else ""
    raise RecordError("E203", f"{where} is a {type(value).__name__}, which JSON can't hold{hint}")
