"""Tensors of PyTorch inside of a pickle, as NumPy arrays, without PyTorch.

``pickle.dumps`` of a tensor calls ``torch._utils._rebuild_tensor_v2`` with a storage, an offset, a size and
strides. The storage is bytes in PyTorch's older file format: a few pickles that are always the same but for a
type, a key and a length, then the numbers. They are compared with what PyTorch writes, byte by byte, and never
interpreted.
"""

from __future__ import annotations

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.safety.stand_ins import Global, checked_shape, plain_array

REBUILD: Final = Global("torch._utils._rebuild_tensor_v2")
LOAD: Final = Global("torch.storage._load_from_bytes")
ORDERED: Final = Global("collections.OrderedDict")

NAMES: Final[dict[tuple[str, str], Global]] = {
    ("collections", "OrderedDict"): ORDERED,
    ("torch._utils", "_rebuild_tensor_v2"): REBUILD,
    ("torch.storage", "_load_from_bytes"): LOAD,
}
"""What a pickle with tensors names."""

_DTYPES: Final = {
    "BFloat16": "<u2",
    "Bool": "?",
    "Byte": "u1",
    "Char": "i1",
    "Double": "<f8",
    "Float": "<f4",
    "Half": "<f2",
    "Int": "<i4",
    "Long": "<i8",
    "Short": "<i2",
}
_HEAD: Final = re.compile(
    rb"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19\.\x80\x02M\xe9\x03\."
    rb"\x80\x02}q\x00\(X\x10\x00\x00\x00protocol_versionq\x01M\xe9\x03X\x0d\x00\x00\x00little_endianq\x02\x88"
    rb"X\x0a\x00\x00\x00type_sizesq\x03}q\x04\(X\x05\x00\x00\x00shortq\x05K\x02X\x03\x00\x00\x00intq\x06K\x04"
    rb"X\x04\x00\x00\x00longq\x07K\x04uu\."
    rb"\x80\x02\(X\x07\x00\x00\x00storageq\x00ctorch\n(?P<kind>[A-Za-z0-9]{1,16})Storage\nq\x01"
    rb"X(?P<size>[\x01-\x20])\x00\x00\x00(?P<key>[0-9]{1,32})q\x02X.\x00\x00\x00(?:cpu|cuda:[0-9]{1,3})q\x03"
    rb"(?:K(?P<n1>.)|M(?P<n2>..)|J(?P<n4>....))Ntq\x04Q\."
    rb"\x80\x02\]q\x00X(?P=size)\x00\x00\x00(?P=key)q\x01a\.(?P<length>.{8})",
    re.DOTALL,
)
_LONGEST: Final = 512  # bytes that the pickles before the numbers may take


def storage(data: Any) -> NDArray[Any]:
    """The numbers of a storage, ``(n,)``; bfloat16 as float32.

    Raises:
        DataError: E104, it is not what PyTorch writes.
    """
    if not isinstance(data, bytes | memoryview):
        raise DataError("E104", "the storage of a tensor is not bytes")
    head = _HEAD.match(bytes(data[:_LONGEST]))
    if head is None or head["kind"].decode() not in _DTYPES or head["size"][0] != len(head["key"]):
        raise DataError("E104", "the storage of a tensor is not as PyTorch writes it")
    dtype = np.dtype(_DTYPES[head["kind"].decode()])
    told = int.from_bytes(head["n1"] or head["n2"] or head["n4"], "little", signed=head["n4"] is not None)
    count = int.from_bytes(head["length"], "little", signed=True)
    numbers = memoryview(data)[head.end() :]
    if count != told or count < 0 or len(numbers) != count * dtype.itemsize:
        raise DataError("E104", f"the storage of a tensor has {len(numbers):,} bytes for {count:,} x {dtype}")
    flat = plain_array(numbers, dtype, count)
    if head["kind"] == b"BFloat16":
        return (flat.astype(np.uint32) << 16).view(np.float32)
    if dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
        raise DataError("E104", "a tensor has a flag that is neither 0 nor 1")
    return flat


def tensor(args: tuple[Any, ...]) -> NDArray[Any]:
    """The array of a tensor, from what it is rebuilt from: a storage, an offset, a size and strides.

    Raises:
        DataError: E104, these do not fit each other, or the tensor has more elements than its storage.
    """
    if not 6 <= len(args) <= 7 or not isinstance(args[0], np.ndarray) or type(args[1]) is not int:
        raise DataError("E104", "a tensor is malformed")
    flat, offset, size, strides = args[0], args[1], checked_shape(args[2]), checked_shape(args[3])
    if len(size) != len(strides) or offset < 0:
        raise DataError("E104", "a tensor is malformed")
    count = int(np.prod(size, dtype=object)) if size else 1
    last = offset + sum((n - 1) * step for n, step in zip(size, strides, strict=True))
    if count > len(flat) or (count and last >= len(flat)):
        raise DataError("E104", "a tensor is larger than its storage")
    if not count:
        try:
            return np.empty(0, dtype=flat.dtype).reshape(size)
        except (ValueError, OverflowError):  # other sides beyond NumPy's limit
            raise DataError("E104", "the shape of a tensor is malformed") from None
    places = np.full(size, offset, dtype=np.int64)
    for axis, (n, step) in enumerate(zip(size, strides, strict=True)):
        places += (np.arange(n) * step).reshape([-1 if at == axis else 1 for at in range(len(size))])
    out: NDArray[Any] = flat[places]
    return out
