"""Types of HDF5 datasets and attributes: which are read, and what the others are called."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from h5py import h5t

_CLASSES: Final = {
    h5t.TIME: "time",
    h5t.BITFIELD: "bit field",
    h5t.OPAQUE: "opaque",
    h5t.COMPOUND: "compound",
    h5t.REFERENCE: "reference",
    h5t.ENUM: "enumeration",
    h5t.VLEN: "variable-length",
    h5t.ARRAY: "array",
}
MAX_TEXT: Final = 64 << 20


def odd_type(kind: Any) -> str:
    """What is wrong with a type, or nothing."""
    code = kind.get_class()
    if code in (h5t.INTEGER, h5t.FLOAT):
        return "" if kind.get_size() <= 8 else f"{8 * kind.get_size()}-bit"
    if code == h5t.STRING:
        return "" if kind.get_size() <= MAX_TEXT else "long text"
    if code == h5t.ENUM and kind.dtype == np.bool_:
        return ""
    if code == h5t.VLEN:
        base = kind.get_super()
        return "" if base.get_class() == h5t.INTEGER and base.get_size() == 1 else "variable-length"
    return _CLASSES.get(code, "unknown")


def kind_of(item: Any) -> tuple[str, np.dtype[Any]]:
    """What a dataset holds, "number", "text" or "bytes" (rows of unequal length), and the dtype of numbers."""
    code = item.id.get_type().get_class()
    if code == h5t.STRING:
        return "text", np.dtype(object)
    if code == h5t.VLEN:
        return "bytes", np.dtype(object)
    return "number", np.dtype(item.dtype).newbyteorder("=")
