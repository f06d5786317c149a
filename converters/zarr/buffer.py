"""A replay buffer: ``data/<name>`` with a row a step, ``meta/episode_ends`` with the row after each episode."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from converters.zarr.stores import open_store
from vla_data.errors import DataError, UsageError
from vla_data.media.images import Pixels
from vla_data.safety.text import show
from vla_data.safety.zarr_array import ArrayMeta, decode, parse

ENDS: Final = "meta/episode_ends"
DATA: Final = "data"
ARRAY: Final = ".zarray"
MAX_ARRAYS: Final = 256
MAX_EPISODES: Final = 1_000_000
MAX_EPISODE: Final = 2 << 30  # bytes of numbers in an episode, unpacked
MAX_CHUNKS: Final = 1_000_000  # of an episode
_NO_CHUNK: Final = "absent"
_OTHERWISE: Final = ", so it is no replay buffer; convert it to LeRobot or HDF5 first"


@dataclass(frozen=True, eq=False, slots=True)
class Chunk:
    """A chunk as it is stored; it is unpacked when somebody looks at it."""

    meta: ArrayMeta
    data: bytes | None

    def array(self) -> NDArray[Any]:
        """Its numbers, of the shape of a chunk."""
        return _unpacked(self)


@functools.lru_cache(maxsize=4)
def _unpacked(chunk: Chunk) -> NDArray[Any]:
    return decode(chunk.meta, chunk.data)


@dataclass(frozen=True, slots=True)
class Picture:
    """A row of a chunk that holds whole pictures."""

    chunk: Chunk
    row: int

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB.

        Raises:
            DataError: E105, the chunk is damaged.
        """
        found: Pixels = np.ascontiguousarray(self.chunk.array()[self.row])
        return found


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some rows of an array, as they are stored.

    Attributes:
        meta: of the array.
        start: the first row.
        stop: the row after the last one.
        chunks: place in the grid -> chunk.
        absent: how many chunks are not there, which hold the fill value.
    """

    meta: ArrayMeta
    start: int
    stop: int
    chunks: Mapping[tuple[int, ...], Chunk]
    absent: int

    @property
    def is_of_whole_rows(self) -> bool:
        """Whether no chunk has a part of a row."""
        return self.meta.chunks[1:] == self.meta.shape[1:]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return (self.stop - self.start, *self.meta.shape[1:])

    @property
    def nbytes(self) -> int:
        """Of the array."""
        return math.prod(self.shape) * self.meta.dtype.itemsize

    def array(self) -> NDArray[Any]:
        """``(stop - start, ...)``.

        Raises:
            DataError: E105 for a damaged chunk, E107 for more than 2 GiB.
        """
        meta, shape = self.meta, self.shape
        if self.nbytes > MAX_EPISODE:
            raise DataError(
                "E107", f"{show(meta.name)} has {self.nbytes:,} bytes in the episode, more than {MAX_EPISODE:,}"
            )
        out = np.empty(shape, dtype=meta.dtype)
        for at, chunk in self.chunks.items():
            low = [place * side for place, side in zip(at, meta.chunks, strict=True)]
            high = [min(a + side, whole) for a, side, whole in zip(low, meta.chunks, meta.shape, strict=True)]
            first, last = max(low[0], self.start), min(high[0], self.stop)
            inside = [slice(first - low[0], last - low[0])]
            inside += [slice(0, b - a) for a, b in zip(low[1:], high[1:], strict=True)]
            target = [slice(first - self.start, last - self.start)]
            target += [slice(a, b) for a, b in zip(low[1:], high[1:], strict=True)]
            out[tuple(target)] = chunk.array()[tuple(inside)]
        return out

    def pictures(self) -> tuple[Picture, ...] | None:
        """Each row as a picture that is unpacked when it is looked at; None where chunks have parts of rows."""
        if not self.is_of_whole_rows:
            return None
        side, rest = self.meta.chunks[0], (0,) * (len(self.meta.shape) - 1)
        return tuple(
            Picture(self.chunks[(row // side, *rest)], row % side) for row in range(self.start, self.stop)
        )


class Buffer:
    """A replay buffer in a folder or in a zip archive.

    Args:
        root: the folder or archive.

    Raises:
        UsageError: E002, it is zarr's format 3; E003, it is no replay buffer; E131, E141, E204 and others for one
            that makes no sense.
    """

    def __init__(self, root: Path) -> None:
        self._store = open_store(root)
        self._root = root
        self._told: dict[str, bytes] = {}
        if self._file(".zgroup") is None:
            if self._file("zarr.json") is not None:
                raise UsageError("E002", f"{show(root)} is of zarr's format 3; that of replay buffers, 2, is read")
            raise UsageError("E003", f"{show(root)} is no zarr store: it has no .zgroup")
        self.ends = self._ends()
        self.arrays: dict[str, ArrayMeta] = {}
        self.left_out: list[str] = []
        names = self._store.folders(DATA)
        if len(names) > MAX_ARRAYS:
            raise UsageError("E107", f"{show(root)} has {len(names):,} arrays, more than {MAX_ARRAYS}")
        for name in names:
            told = self._file(f"{DATA}/{name}/{ARRAY}")
            if told is None:
                self.left_out.append(name)
                continue
            meta = parse(f"{DATA}/{name}", told)
            if meta.shape[0] != self.ends[-1]:
                raise UsageError(
                    "E204",
                    f"{show(meta.name)} has {meta.shape[0]:,} rows; the episodes end at {self.ends[-1]:,}",
                )
            self.arrays[name] = meta
        if not self.arrays:
            raise UsageError("E003", f"{show(root)} is a zarr store without arrays below {DATA}{_OTHERWISE}")

    def _file(self, name: str) -> bytes | None:
        try:
            data = self._store.read(name)
        except DataError as error:
            raise UsageError(error.code, f"{show(self._root)}: {error.message}") from None
        if data is not None:
            self._told[name] = data
        return data

    def _ends(self) -> tuple[int, ...]:
        told = self._file(f"{ENDS}/{ARRAY}")
        if told is None:
            raise UsageError("E003", f"{show(self._root)} is a zarr store without {ENDS}{_OTHERWISE}")
        meta = parse(ENDS, told)
        if len(meta.shape) != 1 or meta.dtype.kind not in "iu":
            raise UsageError("E141", f"{ENDS} is {meta.dtype}{meta.shape}, not one whole number an episode")
        if not 0 < meta.shape[0] <= MAX_EPISODES:
            raise UsageError("E003" if not meta.shape[0] else "E107", f"{ENDS} has {meta.shape[0]:,} episodes")
        try:
            found = self.rows(meta, 0, meta.shape[0]).array()
        except DataError as error:
            raise UsageError(error.code, f"{show(self._root)}: {error.message}") from None
        ends = tuple(int(end) for end in found)
        if any(b <= a for a, b in itertools.pairwise((0, *ends))):
            raise UsageError("E204", f"{ENDS} does not rise from episode to episode")
        return ends

    def span(self, number: int) -> tuple[int, int]:
        """The first row of an episode, and the one after its last."""
        return (self.ends[number - 1] if number else 0), self.ends[number]

    def state(self) -> object:
        """What tells its metadata, as they are now, from others."""
        files = (".zgroup", f"{ENDS}/{ARRAY}", f"{ENDS}/0", *(f"{DATA}/{name}/{ARRAY}" for name in self.arrays))
        return (*(self._store.state(name) for name in files), *self._store.folders(DATA))

    def states(self, numbers: Iterable[int]) -> dict[int, object]:
        """Number of an episode -> what tells metadata and the chunks of it, as they are now, from others."""
        state = self.state()
        chunks = [(meta, self._store.chunks(meta.name)) for meta in self.arrays.values()]
        out: dict[int, object] = {}
        for number in numbers:
            start, stop = self.span(number)
            marks = (told(start // meta.chunks[0], -(-stop // meta.chunks[0])) for meta, told in chunks)
            out[number] = (state, *marks)
        return out

    def rows(
        self, meta: ArrayMeta, start: int, stop: int, seen: Callable[[bytes | None], None] | None = None
    ) -> Rows:
        """Some rows of an array; ``seen`` is called with each chunk's bytes, in the order of the grid.

        Raises:
            DataError: E107 for too many chunks, and what reading files raises.
        """
        if _count(meta, start, stop) > MAX_CHUNKS:
            raise DataError("E107", f"{show(meta.name)} has more than {MAX_CHUNKS:,} chunks in the episode")
        chunks, absent = {}, 0
        for at in itertools.product(*_grid(meta, start, stop)):
            data = self._store.read(meta.key(at))
            absent += data is None
            if seen is not None:
                seen(data)
            chunks[at] = Chunk(meta, data)
        return Rows(meta=meta, start=start, stop=stop, chunks=chunks, absent=absent)

    def episode(self, number: int, keep: Callable[[str], bool]) -> tuple[dict[str, Rows], str]:
        """The arrays of an episode that are to be kept, and the SHA-256 over all of it.

        Raises:
            DataError: E107, there are too many chunks; or one can't be read, which of an array that is not kept is
                a part of the digest alone.
        """
        start, stop = self.span(number)
        if (chunks := sum(_count(meta, start, stop) for meta in self.arrays.values())) > MAX_CHUNKS:
            raise DataError("E107", f"the episode has {chunks:,} chunks, more than {MAX_CHUNKS:,}")
        digest = hashlib.sha256(f"{start}\0{stop}\0".encode())
        out = {}
        for name, meta in sorted(self.arrays.items()):
            digest.update(f"{name}\0".encode("utf-8", "surrogatepass"))
            digest.update(hashlib.sha256(self._told[f"{DATA}/{name}/{ARRAY}"]).digest())
            try:
                found = self.rows(meta, start, stop, lambda data: digest.update(_mark(data)))
            except DataError as error:
                if keep(name):
                    raise
                digest.update(error.code.encode())
                continue
            if keep(name):
                out[name] = found
        return out, digest.hexdigest()


def _grid(meta: ArrayMeta, start: int, stop: int) -> list[range]:
    """Places of chunks, along each side, that have some of these rows."""
    sides = zip(meta.shape[1:], meta.chunks[1:], strict=True)
    rows = range(start // meta.chunks[0], -(-stop // meta.chunks[0]))
    return [rows, *(range(-(-whole // side)) for whole, side in sides)]


def _count(meta: ArrayMeta, start: int, stop: int) -> int:
    return math.prod(places.stop - places.start for places in _grid(meta, start, stop))


def _mark(data: bytes | None) -> bytes:
    return _NO_CHUNK.encode() if data is None else hashlib.sha256(data).digest()
