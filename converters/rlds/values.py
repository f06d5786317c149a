"""The values of declared features in one record: numbers, texts, images, and the JSON of an episode's own facts.

Rules for what is stored in another form than it is declared (TFDS's ``example_serializer`` and feature classes):

- integers and booleans are 64-bit integers in the file: one that the declared type can't hold is E202
- floats are float32 in the file; float64 is then what TFDS gives, the float32 value; float16 must be exact
- ``encoding`` ``bytes`` and ``zlib``: the memory of the array, little-endian; inflated to its declared size
- lists (Sequence) within a step must have one length in an episode; then they are one more dimension
- text must be UTF-8 without NUL
- images of uint8 with 3 channels stay encoded; all others are decoded (`converters.rlds.images`)
"""

from __future__ import annotations

import math
import shlex
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from converters.rlds import images as rlds_images
from converters.rlds.example import Values
from converters.rlds.features import Leaf, numpy_dtype
from vla_data.core import Array, Json
from vla_data.errors import DataError
from vla_data.media.camera import camera
from vla_data.media.frames import Frames
from vla_data.safety.text import show

MAX_ARRAY: Final = 1 << 31  # bytes of one feature in one episode
MAX_TEXT: Final = 256 << 20  # bytes of the text of one feature in one episode, as NumPy holds it
MAX_FACTS: Final = 100_000  # numbers or texts of one fact of an episode

Record = Mapping[str, Values]


def count_steps(leaf: Leaf, record: Record) -> int | None:
    """How many steps a feature has values for; None where it has none by declaration."""
    if leaf.lists and (rows := record.get(f"{leaf.path}/ragged_row_lengths_0")) is not None:
        return len(rows.integers())
    values = _stored(leaf, record)
    each = math.prod(_known(leaf, leaf.lists))
    if leaf.kind == "text" or not _is_strings(leaf):
        each *= math.prod(_known(leaf, leaf.shape))
    if each == 0:
        return None
    size = len(_raw(leaf, values))
    if size % each:
        raise DataError("E204", f"{show(leaf.path)} has {size:,} values, not a multiple of {each:,}")
    return size // each


def without(leaf: Leaf) -> str:
    """The end of a message on a feature: how to read the dataset without it."""
    return f"; --leave-out {shlex.quote(show(leaf.path))} leaves it out"


def is_file(leaf: Leaf, record: Record) -> bool:
    """Whether a text of each step is a JPEG or PNG file."""
    if leaf.kind != "text" or leaf.shape or leaf.lists or leaf.path not in record:
        return False
    items = record[leaf.path].strings()
    return bool(items) and bytes(items[0][:4]).startswith((b"\xff\xd8\xff", b"\x89PNG"))


def frames(leaf: Leaf, record: Record) -> Frames:
    """A camera's images, encoded as they are, or as pixels where they are stored so."""
    if leaf.pixels:
        pixels = array(leaf, record, count_steps(leaf, record) or 0)
        return Frames(tuple(pixels), *pixels.shape[1:3])
    items = record[leaf.path].strings()
    sizes, found = set(), []
    for item in items:
        if len(item) == 0:
            raise DataError("E109", f"{show(leaf.path)} has an image of 0 bytes{without(leaf)}")
        try:
            image, *size = camera(item, exif="ignore", opacity="drop")
        except DataError as error:
            raise DataError(error.code, f"{show(leaf.path)}: {error.message}{without(leaf)}") from None
        found.append(image)
        sizes.add((size[0], size[1]))
    if len(sizes) != 1:
        raise DataError("E203", f"images of {show(leaf.path)} have {len(sizes)} sizes")
    height, width = sizes.pop()
    if leaf.kind == "image" and any(
        n not in (None, m) for n, m in zip(leaf.shape[:2], (height, width), strict=True)
    ):
        raise DataError("E203", f"{show(leaf.path)} has images of {(height, width)}, not {leaf.shape[:2]}")
    return Frames(tuple(found), height, width)


def array(leaf: Leaf, record: Record, steps: int) -> Array:
    """``(T, ...)`` of the declared dtype; texts as dtype kind U."""
    lists = _list_shape(leaf, record)
    if leaf.kind == "image":
        if leaf.lists:
            raise DataError("E203", f"{show(leaf.path)} has several images a step{without(leaf)}")
        return rlds_images.decode_all(record[leaf.path].strings(), leaf.shape, leaf.dtype, name=leaf.path)
    stored = _stored(leaf, record)
    if leaf.kind == "text":
        values: Array = text_array([text(item, leaf.path) for item in stored.strings()], leaf.path)
    elif leaf.encoding != "none":
        values = _memory(leaf, stored.strings())
        return _shaped(leaf, values, (steps, *lists, *values.shape[1:]))
    else:
        values = _numbers(leaf, _raw(leaf, stored))
    return _shaped(leaf, values, (steps, *lists, *_known(leaf, leaf.shape)))


def strings(leaf: Leaf, record: Record) -> Sequence[memoryview]:
    """The texts of a feature, one after the other; of lists within a step, which must be of one length."""
    if leaf.in_steps and leaf.lists:
        _list_shape(leaf, record)
    return _stored(leaf, record).strings()


def fact(leaf: Leaf, record: Record) -> Json:
    """The value of a feature outside of ``steps``, as JSON; None where an optional one is missing."""
    if leaf.path not in record and leaf.optional:
        return None
    if leaf.kind == "image" or (leaf.encoding != "none" and None in leaf.shape) or len(leaf.lists) > 1:
        raise DataError("E203", f"{show(leaf.path)} is not a number, a text or a list of these{without(leaf)}")
    stored = _stored(leaf, record)
    raw = _raw(leaf, stored)
    if len(raw) > MAX_FACTS:
        raise DataError("E107", f"{show(leaf.path)} has {len(raw):,} values for one episode")
    if leaf.kind == "text":
        values: Array = np.asarray([bytes(item).decode("utf-8", "backslashreplace") for item in raw], dtype=object)
    elif leaf.encoding != "none":
        memory = _memory(leaf, raw)
        values = memory.reshape(-1)
    else:
        values = _numbers(leaf, raw)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DataError("E201", f"{show(leaf.path)} is not finite{without(leaf)}")
    shape = tuple(-1 if n is None else n for n in (*leaf.lists, *leaf.shape))
    if shape.count(-1) > 1:
        raise DataError("E203", f"{show(leaf.path)} has several sizes that are not declared")
    return _shaped(leaf, values, shape).tolist()


def text(data: memoryview, name: str) -> str:
    """UTF-8 text that NumPy can hold: a NUL at its end would be lost.

    Raises:
        DataError: E212.
    """
    try:
        value = bytes(data).decode()
    except UnicodeDecodeError as error:
        raise DataError("E212", f"{show(name)} is not UTF-8 at byte {error.start:,}") from None
    if "\0" in value:
        raise DataError("E212", f"{show(name)} has a NUL character")
    return value


def text_array(items: Sequence[str], name: str) -> Array:
    """Texts as one array, which has the memory of the longest for each."""
    longest = max(map(len, items), default=1)
    if 4 * longest * len(items) > MAX_TEXT:
        raise DataError("E107", f"{show(name)} has texts of {longest:,} characters in {len(items):,} steps")
    return np.asarray(items, dtype=f"U{max(longest, 1)}")


def _stored(leaf: Leaf, record: Record) -> Values:
    """Where the values of a feature are; those of lists may be under a name of their own."""
    name = leaf.path if leaf.path in record else f"{leaf.path}/ragged_flat_values"
    if name not in record or (name != leaf.path and not leaf.lists):
        raise DataError("E206", f"the record lacks {show(leaf.path)}")
    return record[name]


def _is_strings(leaf: Leaf) -> bool:
    return leaf.kind != "tensor" or leaf.encoding != "none"


def _raw(leaf: Leaf, values: Values) -> Any:
    if _is_strings(leaf):
        return values.strings()
    return values.floats() if numpy_dtype(leaf).kind == "f" else values.integers()


def _known(leaf: Leaf, shape: Sequence[int | None]) -> tuple[int, ...]:
    """A shape whose sizes are all declared."""
    if None in shape:
        raise DataError("E203", f"{show(leaf.path)} has no fixed size{without(leaf)}")
    return tuple(n or 0 for n in shape)


def _list_shape(leaf: Leaf, record: Record) -> tuple[int, ...]:
    """Lengths of the lists within a step."""
    if not leaf.lists:
        return ()
    rows = record.get(f"{leaf.path}/ragged_row_lengths_0")
    if rows is None:
        return _known(leaf, leaf.lists)
    if len(leaf.lists) > 1:
        raise DataError("E203", f"{show(leaf.path)} has lists of lists{without(leaf)}")
    lengths = {int(n) for n in np.unique(rows.integers())}
    if len(lengths) != 1 or leaf.lists[0] not in (None, *lengths) or min(lengths) < 0:
        raise DataError("E203", f"lists of {show(leaf.path)} differ in length{without(leaf)}")
    return (lengths.pop(),)


def _shaped(leaf: Leaf, values: Array, shape: Sequence[int]) -> Array:
    try:
        return values.reshape(shape)
    except ValueError:
        raise DataError("E203", f"{show(leaf.path)} has {values.size:,} values, not {tuple(shape)}") from None


def _numbers(leaf: Leaf, raw: Array) -> Array:
    """Stored numbers in their declared type, if it can hold them."""
    want = numpy_dtype(leaf)
    if len(raw) * want.itemsize > MAX_ARRAY:
        raise DataError("E107", f"{show(leaf.path)} has {len(raw):,} values in one episode")
    if want == np.uint64:
        return raw.view(np.uint64)  # that is how TFDS stores it
    if want.kind in "biu" and len(raw):
        low, high = (0, 1) if want.kind == "b" else (np.iinfo(want).min, np.iinfo(want).max)
        least, most = int(raw.min()), int(raw.max())
        if least < low or most > high:
            worst = least if least < low else most
            raise DataError("E202", f"{show(leaf.path)} has {worst}, which {want.name} can't hold")
    with np.errstate(over="ignore"):
        values = raw.astype(want, copy=False)
    if want == np.float16 and not np.array_equal(values.astype(np.float32), raw, equal_nan=True):
        raise DataError("E208", f"{show(leaf.path)} has numbers that float16 can't hold")
    return values


def _memory(leaf: Leaf, items: Sequence[memoryview]) -> Array:
    """Arrays that were stored as their memory; ``(N, ...)``."""
    if leaf.dtype == "bfloat16" or leaf.shape.count(None) > 1:
        raise DataError("E203", f"{show(leaf.path)} is stored in a form that is not read{without(leaf)}")
    dtype = numpy_dtype(leaf).newbyteorder("<")
    fixed = math.prod(n for n in leaf.shape if n is not None) * dtype.itemsize
    limit = fixed if None not in leaf.shape else MAX_ARRAY // max(len(items), 1)
    if fixed == 0:
        raise DataError("E203", f"{show(leaf.path)} has no values")
    if limit * len(items) > MAX_ARRAY:
        raise DataError("E107", f"{show(leaf.path)} has {limit * len(items):,} bytes in one episode")
    if leaf.encoding == "zlib":
        data = [_inflate(item, limit, leaf.path) for item in items]
    else:
        data = [bytes(item) for item in items]
    sizes = {len(item) for item in data}
    if len(sizes) > 1 or (sizes and (size := sizes.pop()) != limit and (None not in leaf.shape or size % fixed)):
        raise DataError("E203", f"{show(leaf.path)} is not of the size that is declared")
    values = np.frombuffer(b"".join(data), dtype=dtype)
    if dtype.kind == "b" and bool((values.view(np.uint8) > 1).any()):
        raise DataError("E202", f"{show(leaf.path)} has a boolean that is neither 0 nor 1")
    shape = tuple(-1 if n is None else n for n in leaf.shape)
    return _shaped(leaf, values.astype(dtype.newbyteorder("="), copy=False), (len(items), *shape))


def _inflate(data: memoryview, limit: int, name: str) -> bytes:
    """At most ``limit`` bytes, however many the stream promises."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, limit + 1)
    except zlib.error as error:
        raise DataError("E105", f"{show(name)} is damaged ({error})") from None
    if len(out) > limit:
        raise DataError("E107", f"{show(name)} inflates to more than the {limit:,} bytes that are declared")
    if not stream.eof:
        raise DataError("E105", f"{show(name)} ends early")
    return out


def positions(arrays: dict[str, Array], steps: int) -> dict[str, list[int]]:
    """Take out ``is_first`` and ``is_last``, which say where a step is, and conclude ``next.truncated``.

    Returns:
        Those of the two that contradict the positions -> the steps that they mark.
    """
    last = arrays.get("is_last")
    recorded: dict[str, list[int]] = {}
    for name, place in (("is_first", 0), ("is_last", steps - 1)):
        found = arrays.pop(name, None)
        if found is not None and not np.array_equal(found, np.arange(steps) == place):
            recorded[name] = np.flatnonzero(found).tolist()
    terminated = arrays.get("next.terminated")
    if last is None or terminated is None or "next.truncated" in arrays or terminated.shape != (steps,):
        return recorded
    truncated = np.zeros(steps, dtype=np.bool_)
    truncated[-1] = bool(last[-1]) and not bool(terminated[-1])
    arrays["next.truncated"] = truncated
    return recorded
