"""Arrays of zarr's format 2, from a stranger: their metadata, and their chunks decoded within bounds.

https://zarr-specs.readthedocs.io/en/latest/v2/v2.0.html. zarr's own reader makes a codec of any name that is
registered, pickle among them, and a chunk may unpack to any size. Here codecs are a short list, and each is given
room for exactly the bytes that the metadata promise.
"""

from __future__ import annotations

import bz2
import functools
import json
import lzma
import math
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vla_data.errors import DataError, UsageError
from vla_data.installed import missing
from vla_data.safety import strict_json
from vla_data.safety.text import show

MAX_CHUNK: Final = 512 << 20  # bytes, unpacked
MAX_AXES: Final = 8
MAX_SIDE: Final = 1 << 40
_DTYPE: Final = re.compile(r"[<>|](?:b1|[iu][1248]|f[248])")
_BLOSC: Final = struct.Struct("<4BIII")  # versions, flags, type size; bytes unpacked, of a block, packed
_SOC: Final = b"\xff\x4f\xff\x51"  # JPEG 2000, annex A.5.1: how a codestream begins, and its sizes
_SIZ: Final = struct.Struct(">HHIIIIIIIIH")  # Lsiz, Rsiz, X, Y, XO, YO, XT, YT, XTO, YTO, components
_BOX: Final = struct.Struct(">I4s")  # of a JP2 file, annex I.4: length, type
_NUMBERS: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, kw_only=True)
class ArrayMeta:
    """What ``.zarray`` says.

    Attributes:
        name: of the array, below its store.
        shape: of the array.
        chunks: shape of a chunk.
        dtype: of a number.
        order: of the numbers of a chunk, "C" or "F".
        fill: what a chunk holds that is not there; None: nothing is known.
        separator: between the numbers of a chunk's name.
        codec: name of the compressor; None: there is none.
    """

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: np.dtype[Any]
    order: str
    fill: Any
    separator: str
    codec: str | None

    @property
    def nbytes(self) -> int:
        """Of a chunk, unpacked."""
        return math.prod(self.chunks) * self.dtype.itemsize

    def key(self, at: tuple[int, ...]) -> str:
        """Name of the chunk at a place of the grid, below the store."""
        return f"{self.name}/{self.separator.join(map(str, at))}"


def parse(name: str, data: bytes) -> ArrayMeta:
    """The metadata of an array.

    Raises:
        UsageError: E141 for what format 2 does not have, E208 for types and codecs that are not read, E107 for
            chunks that are too large.
    """
    what = f"{show(name)}/.zarray"
    try:
        told = strict_json.loads(data, name=what)
    except DataError as error:
        raise UsageError("E141", error.message) from None
    if not isinstance(told, dict) or told.get("zarr_format") != 2:
        raise UsageError("E141", f"{what} is not of zarr's format 2")
    shape, chunks = _sides(told.get("shape"), what, least=0), _sides(told.get("chunks"), what, least=1)
    if len(shape) != len(chunks) or not shape:
        raise UsageError("E141", f"{what} has shape {shape} and chunks {chunks}")
    dtype = told.get("dtype")
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        raise UsageError("E208", f"{what} has the type {show(json.dumps(dtype))[:60]}; numbers and flags are read")
    if told.get("filters") not in (None, []):
        raise UsageError("E208", f"{what} has filters, which are not read")
    separator, order = told.get("dimension_separator", "."), told.get("order", "C")
    if separator not in (".", "/") or order not in ("C", "F"):
        raise UsageError("E141", f"{what} has the separator {show(str(separator))} and order {show(str(order))}")
    meta = ArrayMeta(
        name=name,
        shape=shape,
        chunks=chunks,
        dtype=np.dtype(dtype),
        order=order,
        fill=_fill(told.get("fill_value"), np.dtype(dtype), what),
        separator=separator,
        codec=_codec(told.get("compressor"), what),
    )
    if meta.nbytes > MAX_CHUNK:
        raise UsageError("E107", f"a chunk of {show(name)} has {meta.nbytes:,} bytes, more than {MAX_CHUNK:,}")
    return meta


def _sides(value: Any, what: str, *, least: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) > MAX_AXES:
        raise UsageError("E141", f"{what} has no shape or no chunks of at most {MAX_AXES} sides")
    if any(type(side) is not int or not least <= side <= MAX_SIDE for side in value):
        raise UsageError("E141", f"{what} has a side that is no number of at least {least}")
    return tuple(value)


def _fill(value: Any, dtype: np.dtype[Any], what: str) -> Any:
    if value is None:
        return None
    value = _NUMBERS.get(value, value) if isinstance(value, str) else value
    fill = None
    if isinstance(value, bool | int | float) and (dtype.kind == "f" or math.isfinite(value)):
        try:
            with np.errstate(over="ignore"):
                fill = np.array(value).astype(dtype)
        except (OverflowError, ValueError):
            fill = None
    if fill is None:
        raise UsageError("E141", f"{what} has a fill_value that is no {dtype}")
    return fill[()]


def _codec(told: Any, what: str) -> str | None:
    if told is None:
        return None
    name = told.get("id") if isinstance(told, dict) else None
    if not isinstance(name, str) or name not in CODECS:
        raise UsageError(
            "E208",
            f"{what} has the compressor {show(str(name))[:60]}; read are {', '.join(sorted(CODECS))}",
        )
    return name


def decode(meta: ArrayMeta, data: bytes | None) -> NDArray[Any]:
    """A chunk, of the shape ``meta.chunks``.

    Args:
        meta: of its array.
        data: its bytes; None: it is not there.

    Raises:
        DataError: E105, it is damaged or of another size, or is not there and nothing says what it would hold.
        UsageError: E006, its codec is not installed.
    """
    if data is None:
        if meta.fill is None:
            raise DataError("E105", f"a chunk of {show(meta.name)} is not there, and there is no fill_value")
        fill: NDArray[Any] = np.broadcast_to(np.array(meta.fill, dtype=meta.dtype), meta.chunks)  # of no memory
        return fill
    if meta.codec is None:
        raw: Any = data
    else:
        try:
            raw = CODECS[meta.codec](data, meta)
        except (ValueError, RuntimeError, MemoryError, OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            why = show(str(error))[:120]
            raise DataError("E105", f"a chunk of {show(meta.name)} is damaged ({why})") from None
    if len(raw) != meta.nbytes:
        raise DataError("E105", f"a chunk of {show(meta.name)} has {len(raw):,} bytes, not {meta.nbytes:,}")
    flat = np.frombuffer(raw, dtype=meta.dtype)
    if meta.dtype.kind == "b" and (flat.view(np.uint8) > 1).any():
        raise DataError("E105", f"a chunk of {show(meta.name)} has a flag that is neither 0 nor 1")
    order: Any = meta.order
    return flat.reshape(meta.chunks, order=order)


def _package(name: str) -> Any:
    """Numcodecs or imagecodecs."""
    try:
        if name == "numcodecs":
            import numcodecs

            return numcodecs
        import imagecodecs

        return imagecodecs
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise missing(name, "zarr") from None


def _blosc(data: bytes, meta: ArrayMeta) -> bytes:
    from_header = _BLOSC.unpack_from(data) if len(data) >= _BLOSC.size else (0,) * 7
    if (from_header[4], from_header[6]) != (meta.nbytes, len(data)):
        raise ValueError(f"its header says {from_header[4]:,} bytes unpacked and {from_header[6]:,} packed")
    return _into("blosc", data, meta)


def _lz4(data: bytes, meta: ArrayMeta) -> bytes:
    if len(data) < 4 or struct.unpack_from("<I", data)[0] != meta.nbytes:
        raise ValueError("its header says another size")
    return _into("lz4", data, meta)


def _into(codec: str, data: bytes, meta: ArrayMeta) -> bytes:
    """What numcodecs unpacks into exactly the room that there should be."""
    room = np.zeros(meta.nbytes, dtype=np.uint8)
    _codec_of(codec)(data, room)
    return room.tobytes()


@functools.cache
def _codec_of(name: str) -> Callable[[bytes, NDArray[np.uint8]], Any]:
    package = _package("numcodecs")
    found: Callable[[bytes, NDArray[np.uint8]], Any] = {
        "blosc": package.blosc,
        "lz4": package.lz4,
        "zstd": package.zstd,
    }[name].decompress
    return found


def _stream(make: Callable[[], Any]) -> Callable[[bytes, ArrayMeta], bytes]:
    def unpack(data: bytes, meta: ArrayMeta) -> bytes:
        machine = make()
        out: bytes = machine.decompress(data, meta.nbytes + 1)  # more than that is never made
        if not machine.eof:
            raise ValueError("it does not end where it should")
        return out

    return unpack


def _jpeg_xl(data: bytes, meta: ArrayMeta) -> bytes:
    room = np.zeros(_picture(meta), dtype=np.uint8)
    _package("imagecodecs").jpegxl_decode(
        data, numthreads=1, out=room
    )  # another size is refused before pixels are
    return room.tobytes()


def _jpeg_2000(data: bytes, meta: ArrayMeta) -> bytes:
    shape = _picture(meta)
    at = _codestream(data)
    if data[at : at + len(_SOC)] != _SOC or len(data) < at + len(_SOC) + _SIZ.size:
        raise ValueError("it has no header")
    _, _, right, bottom, left, top, *_, components = _SIZ.unpack_from(data, at + len(_SOC))
    if (bottom - top, right - left, components) != shape:
        raise ValueError("its header says another size")
    found = _package("imagecodecs").jpeg2k_decode(data, numthreads=1)
    if found.dtype != np.uint8 or found.shape != shape:
        raise ValueError(f"it is {found.dtype} of {found.shape}")
    out: bytes = found.tobytes()
    return out


def _codestream(data: bytes) -> int:
    """Where the codestream begins that openjpeg decodes: before it a JP2 file has other boxes, of any content."""
    at = 0
    while not data.startswith(_SOC) and len(data) >= at + _BOX.size:
        size, kind = _BOX.unpack_from(data, at)
        if kind == b"jp2c":
            return at + (2 * _BOX.size if size == 1 else _BOX.size)
        if size < _BOX.size or (kind == b"jp2h" and b"pclr" in data[at : at + size]):
            raise ValueError("it has a palette, or a box of an odd size")  # a palette makes many sides of one
        at += size
    return at


def _picture(meta: ArrayMeta) -> tuple[int, ...]:
    """The shape of the one picture in a chunk."""
    sides = tuple(side for side in meta.chunks[:-3] if side != 1)
    if sides or len(meta.chunks) < 3 or meta.dtype != np.uint8 or meta.order != "C":
        raise ValueError(f"a picture can't be a chunk {meta.chunks} of {meta.dtype}")
    return meta.chunks[-3:]


CODECS: Final[Mapping[str, Callable[[bytes, ArrayMeta], bytes]]] = {
    "blosc": _blosc,
    "bz2": _stream(bz2.BZ2Decompressor),
    "gzip": _stream(lambda: _Zlib(31)),
    "imagecodecs_jpeg2k": _jpeg_2000,
    "imagecodecs_jpegxl": _jpeg_xl,
    "lz4": _lz4,
    "lzma": _stream(lambda: lzma.LZMADecompressor(memlimit=1 << 30)),
    "zlib": _stream(lambda: _Zlib(15)),
    "zstd": lambda data, meta: _into("zstd", data, meta),
}
"""Compressors that are read, by the names that zarr stores."""


class _Zlib:
    """zlib's machine with the interface of the others."""

    def __init__(self, window: int) -> None:
        self._machine = zlib.decompressobj(window)

    def decompress(self, data: bytes, most: int) -> bytes:
        return self._machine.decompress(data, most)

    @property
    def eof(self) -> bool:
        return self._machine.eof
