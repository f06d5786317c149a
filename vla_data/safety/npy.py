"""The ``.npy`` container (https://numpy.org/neps/nep-0001-npy-format.html), read without trust.

The header is matched against the one form that NumPy writes, and the size it declares is compared with the
bytes that are there before anything is allocated. Object arrays go through `vla_data.safety.unpickle`.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np

from vla_data.errors import DataError
from vla_data.safety import unpickle
from vla_data.safety.stand_ins import plain_array

MAX_HEADER: Final = 10_000
_MAGIC: Final = b"\x93NUMPY"
_HEADER: Final = re.compile(
    r"\{'descr': '(?P<descr>[^'\\]{1,40})', 'fortran_order': (?P<fortran>True|False), "
    r"'shape': \((?P<shape>(?:\d{1,19},|\d{1,19}(?:, \d{1,19}){1,7})?)\), ?\} *\n"
)
_PLAIN: Final = re.compile(r"^[<>|=]?(b1|\?|[iu][1248]|f[248]|[SU]\d{1,6})$")


def loads(data: bytes | memoryview, *, name: str) -> Any:
    """What ``np.load`` would give for these bytes; a 0-d object array gives its one item.

    Plain arrays are read-only views of ``data``.

    Args:
        data: the whole file or archive member.
        name: what to call it in messages.

    Raises:
        DataError: E102 when this is not an npy file, E104 for a structured dtype, E105 when it ends early,
            and whatever the unpickler raises.
    """
    view = memoryview(data)
    if bytes(view[:6]) != _MAGIC:
        raise DataError("E102", f"{name} is not an npy file")
    if len(view) < 12:
        raise DataError("E105", f"{name} ends inside its header")
    major = view[6]
    if major not in (1, 2, 3):
        raise DataError("E102", f"{name} has npy version {major}")
    start = 10 if major == 1 else 12
    length = int.from_bytes(view[8:start], "little")
    if length > MAX_HEADER:
        raise DataError("E102", f"the header of {name} has {length:,} bytes, more than {MAX_HEADER:,}")
    if start + length > len(view):
        raise DataError("E105", f"{name} ends inside its header")
    try:
        text = bytes(view[start : start + length]).decode("latin-1" if major < 3 else "utf-8")
    except UnicodeDecodeError:
        raise DataError("E102", f"the header of {name} is not text") from None
    match = _HEADER.fullmatch(text)
    if match is None:
        if text.lstrip("{ ").startswith("'descr': ["):
            raise DataError("E104", f"{name} has a structured dtype")
        raise DataError("E102", f"the header of {name} is malformed")
    body = view[start + length :]
    shape = tuple(int(n) for n in re.findall(r"\d+", match["shape"]))
    count = 1
    for n in shape:
        count *= n
    if match["descr"] in ("|O", "O", "|O8"):
        return _objects(body, shape, name)
    if not _PLAIN.match(match["descr"]):
        raise DataError("E104", f"{name} has dtype {match['descr']!r}, which is not a plain one")
    dtype = np.dtype(match["descr"])
    need = count * dtype.itemsize
    if need > len(body):
        raise DataError("E105", f"{name} ends after {len(body):,} of {need:,} bytes")
    if need < len(body):
        raise DataError("E102", f"{name} has {len(body) - need:,} bytes after its data")
    try:
        return plain_array(body, dtype, count).reshape(shape, order="F" if match["fortran"] == "True" else "C")
    except (ValueError, OverflowError):
        raise DataError("E102", f"the header of {name} is malformed") from None


def is_plain(data: bytes | memoryview) -> bool:
    """Whether these bytes are an npy file of numbers or text, by its header alone."""
    head = bytes(memoryview(data)[:200])
    return head.startswith(_MAGIC) and re.search(rb"'descr': '[<>|=]?[b?iufSUc]\d", head) is not None


def _objects(body: memoryview, shape: tuple[int, ...], name: str) -> Any:
    value = unpickle.loads(body)
    if not isinstance(value, np.ndarray) or value.dtype != object or value.shape != shape:
        raise DataError("E104", f"{name} does not hold the array its header announces")
    return value.item() if shape == () else value
