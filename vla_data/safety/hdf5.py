"""HDF5 files from strangers: what may be opened, and how much of it is read.

HDF5 reads whatever a file asks for: other files (external storage, external links, virtual datasets), libraries
(filter plugins), terabytes that are not there. Here a path is walked link by link, within the file alone;
a dataset is looked at before its shape is believed; and no plugin can be loaded. What the HDF5 library itself
gets wrong about a damaged file costs the process, so callers do this in a worker.

Soft links are followed by `led_to`, which goes from group to group as HDF5 would and leaves the file nowhere.

`h5py` is imported by this file and by ``converters/hdf5_*`` alone.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from h5py import h5d, h5l, h5pl, h5t, h5z
from numpy.typing import NDArray

from vla_data.errors import DataError
from vla_data.names import natural
from vla_data.safety.files import facts_of, no_data, open_regular
from vla_data.safety.hdf5_places import is_signed, led_to
from vla_data.safety.hdf5_types import kind_of, odd_type
from vla_data.safety.text import show

Array = NDArray[Any]

FILTERS: Final = {h5z.FILTER_DEFLATE, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32, h5z.FILTER_SZIP, h5z.FILTER_LZF}
_LAYOUTS: Final = (h5d.COMPACT, h5d.CONTIGUOUS, h5d.CHUNKED)
_PICTURES: Final = 4  # dimensions of a dataset of such
MAX_LINKS: Final = 1_000_000
MAX_RANK: Final = 8
MAX_ROWS: Final = 10_000_000
MAX_CHUNK: Final = 256 << 20
MAX_VARYING: Final = 1 << 30
"""Bytes that are read at once of values of no fixed size."""
MAX_ACROSS: Final = 64  # such values in a row
_FEW: Final = 8
MAX_ATTRIBUTE: Final = 16 << 20
MAX_ATTRIBUTES: Final = 256
# DEFLATE makes at most 1,032 bytes of one; the other filters less.
MAX_RATIO: Final = 1_100
_SMALL: Final = 1 << 20


def plugins_off() -> None:
    """Take every folder from HDF5's search path of plugins, for the rest of this process.

    A filter of a stranger's choice would otherwise be looked for in ``HDF5_PLUGIN_PATH`` and run, and not only
    for datasets: a group's own heap may be filtered too.
    """
    while h5pl.size():
        h5pl.remove(0)


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into a `DataError` E105 that names ``what``."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:  # OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeDecodeError, ...
        raise DataError("E105", f"{what} is damaged or cut ({type(error).__name__})") from None


class File:
    """An open HDF5 file. It stays open as long as one of its groups or tables is in use."""

    def __init__(self, path: Path, *, root: Path) -> None:
        plugins_off()
        handle, self.facts = open_regular(path, root=root)
        try:
            head = os.pread(handle, 64, 0)
            if told := no_data(head) or ("" if head else "the file is empty, of 0 bytes"):
                raise DataError("E105", told)
            if not is_signed(handle, self.facts[2]):
                raise DataError("E105", "not an HDF5 file: it has no signature of one; fetch or write it again")
            with reading("the file"):
                # Through the descriptor: what was checked above is what is read.
                self._file = _open(f"/dev/fd/{handle}")
        finally:
            os.close(handle)
        self.size = self.facts[2]
        self.hidden: Callable[[str, str], str] | None = None
        self.left_out: set[str] = set()

    def hide(self, name_of: Callable[[str, str], str]) -> None:
        """From now on, groups have no links of paths for which ``name_of`` has a name; names of those that would
        have been seen are in `left_out`. It is told also what lies there: "group", "numbers" for a dataset that
        can't be pictures, "dataset" for any other, or nothing for what is neither.
        """
        self.hidden = name_of

    @property
    def top(self) -> Group:
        """The root group."""
        with reading("the file"):
            return Group(self, self._file["/"], "")

    def check_unchanged(self) -> None:
        """Raise E105 if the file was written to since it was opened."""
        if facts_of(self._file.id.get_vfd_handle()) != self.facts:
            raise DataError("E105", "the file changed while it was read")

    def close(self) -> None:
        """Close the file and everything in it."""
        self._file.close()


def _open(name: str) -> h5py.File:
    try:
        return h5py.File(name, "r")
    except OSError as error:
        if "h5clear" not in str(error):
            raise
    raise DataError(
        "E105",
        "the file is still marked as open for writing; if its recorder no longer runs: h5clear -s FILE",
    )


class Node:
    """What groups and tables share: a place in the file, and attributes."""

    def __init__(self, file: File, item: Any, path: str) -> None:
        self.file, self._item, self.path = file, item, path

    @property
    def key(self) -> tuple[int, int]:
        """The same for two names of one object."""
        with reading(self._shown):
            info = h5py.h5o.get_info(self._item.id)
            return int(info.fileno), int(info.addr)

    @property
    def _shown(self) -> str:
        return show(self.path) or "the file"

    def attributes(self) -> dict[str, Any]:
        """Attribute name -> text, number or array; ``{"left_out": type}`` for one of another type.

        Raises:
            DataError: E107 for more than 256, or one of more than 16 MiB.
        """
        out: dict[str, Any] = {}
        with reading(f"an attribute of {self._shown}"):
            if len(self._item.attrs) > MAX_ATTRIBUTES:
                raise DataError("E107", f"{self._shown} has {len(self._item.attrs):,} attributes")
            for name in self._item.attrs:
                found = self._item.attrs.get_id(name)
                if odd := odd_type(found.get_type()):
                    out[name] = {"left_out": odd}
                    continue
                size = _size(found.shape or (), found.get_type().get_size())
                if size > MAX_ATTRIBUTE:
                    raise DataError("E107", f"attribute {show(name)} of {self._shown} has {size:,} bytes")
                value = self._item.attrs[name]
                out[name] = None if isinstance(value, h5py.Empty) else value
        return out


class Group(Node):
    """A group, in which hard and soft links are followed, and none that leads out of the file."""

    def __len__(self) -> int:
        with reading(self._shown):
            return len(self._item)

    def names(self) -> list[str]:
        """Names of all links, in the file's order.

        Raises:
            DataError: E107 for more than a million.
        """
        if len(self) > MAX_LINKS:
            raise DataError("E107", f"{self._shown} has {len(self):,} entries")
        with reading(self._shown):
            found = list(itertools.islice(self._item, MAX_LINKS))
        return [name for name in found if not self._is_hidden(name)] if self.file.hidden else found

    def __contains__(self, name: str) -> bool:
        with reading(self._shown):
            return (
                _is_plain(name)
                and bool(self._item.id.links.exists(self._item._e(name)))
                and not self._is_hidden(name)
            )

    def _is_hidden(self, name: str) -> bool:
        hidden = ""
        if self.file.hidden is not None:
            hidden = self.file.hidden(self._below(name), self._what(name))
        if hidden:
            self.file.left_out.add(hidden)
        return bool(hidden)

    def _what(self, name: str) -> str:
        """What a hard link leads to; see `File.hide`."""
        with reading(self._shown):
            link, links = self._item._e(name), self._item.id.links
            if not links.exists(link) or links.get_info(link).type != h5l.TYPE_HARD:
                return ""
            item = self._item[name]
            if not isinstance(item, h5py.Dataset):
                return "group" if isinstance(item, h5py.Group) else ""
            kind = item.id.get_type()
            plain = kind.get_class() == h5t.FLOAT or (kind.get_class() == h5t.INTEGER and kind.get_size() > 1)
            return "numbers" if plain and item.id.rank != _PICTURES else "dataset"

    def _below(self, name: str) -> str:
        return f"{self.path}/{name}" if self.path else name

    def __getitem__(self, name: str) -> Group | Table:
        """What a link leads to.

        Raises:
            DataError: E111 for a link that leads out of the file or in a circle, E206 when there is none, and all
                of `Table`.
        """
        path = self._below(name)
        if not _is_plain(name):
            raise DataError("E111", f"{show(path)} is not a plain path in the file")
        if name not in self:
            raise DataError("E206", f"{show(path)} is missing; {self._listed()}")
        with reading(show(path)):
            item = led_to(self._item, name, show(path))
        if isinstance(item, h5py.Group):
            return Group(self.file, item, path)
        if isinstance(item, h5py.Dataset):
            return Table(self.file, item, path)
        raise DataError("E232", f"{show(path)} is neither a group nor a dataset")

    def _listed(self) -> str:
        names = sorted(self.names(), key=natural)
        more = f" and {len(names) - _FEW:,} more" if names[_FEW:] else ""
        return f"{self._shown} has {', '.join(map(show, names[:_FEW])) or 'nothing in it'}{more}"

    def group(self, name: str) -> Group:
        """A group by its name; E206 when it is none."""
        found = self[name]
        if not isinstance(found, Group):
            raise DataError("E206", f"{found._shown} is a dataset, not a group")
        return found

    def table(self, name: str) -> Table:
        """A dataset by its name; E206 when it is none."""
        found = self[name]
        if not isinstance(found, Table):
            raise DataError("E206", f"{found._shown} is a group, not a dataset")
        return found


class Table(Node):
    """A dataset that may be read.

    Attributes:
        shape: of the whole.
        kind: "number" (also booleans), "text", or "bytes" (rows of unequal length).
        dtype: of numbers, in native byte order.

    Raises:
        DataError: E111 for data outside of the file, E112 for a filter that is not built in, E232 for a type
            that is no number and no text, E107 for a size that the stored bytes cannot hold.
    """

    def __init__(self, file: File, item: Any, path: str) -> None:
        super().__init__(file, item, path)
        with reading(self._shown):
            self._check_place()  # before any question that could open another file
            form = item.id.get_type()
            if odd := odd_type(form):
                raise DataError("E232", f"{self._shown} is of {odd} type")
            if item.shape is None:
                raise DataError("E203", f"{self._shown} has no shape")
            self.shape: tuple[int, ...] = tuple(map(int, item.shape))
            self.kind, self.dtype = kind_of(item)
            self._row = _size(self.shape[1:], form.get_size())
            self._varies = self.kind == "bytes" or (self.kind == "text" and form.is_variable_str())
            self._check_size()

    @property
    def nbytes(self) -> int:
        """Bytes of the whole in memory."""
        return _size(self.shape[:1], self._row)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row in memory."""
        return self._row

    @property
    def chunk_rows(self) -> int:
        """Rows that are stored together; 1 where they are not."""
        return int(self._item.chunks[0]) if self._item.chunks else 1

    def __len__(self) -> int:
        return self.shape[0] if self.shape else 1

    def read(self, start: int = 0, stop: int | None = None) -> Array:
        """Rows ``start`` to ``stop``: numbers in native byte order, ``bytes`` of texts, or arrays of bytes."""
        with reading(self._shown):
            if not self.shape:
                return np.asarray([self._item[()]])
            stop = len(self) if stop is None else stop
            if self._varies:
                return self._read_varying(start, min(stop, len(self)))
            rows = np.asarray(self._item[start:stop])
            return rows if self.kind != "number" else rows.astype(self.dtype, copy=False)

    def _read_varying(self, start: int, stop: int) -> Array:
        """Some rows at a time: all may be one value that is stored once. None is larger than the file."""
        some = max(_FEW, MAX_VARYING // max(self.file.size, 1) // max(math.prod(self.shape[1:]), 1))
        pieces, taken = [self._item[start:start]], 0
        for at in range(start, stop, some):
            pieces.append(np.asarray(self._item[at : min(at + some, stop)]))
            taken += sum(map(len, pieces[-1].flat))
            if taken > MAX_VARYING:
                raise DataError("E107", f"{self._shown} has rows of more than {MAX_VARYING:,} bytes")
        return np.concatenate(pieces)

    def texts(self, start: int = 0, stop: int | None = None) -> list[str]:
        """Rows of a one-dimensional table as text.

        Raises:
            DataError: E203 for more dimensions, E212 for bytes that are no UTF-8.
        """
        if self.kind != "text" or len(self.shape) > 1:
            raise DataError("E203", f"{self._shown} is not a list of texts")
        return [decode(row, self._shown) for row in self.read(start, stop)]

    def _check_place(self) -> None:
        plan = self._item.id.get_create_plist()
        if plan.get_layout() not in _LAYOUTS:
            raise DataError(
                "E111", f"{self._shown} is virtual: its data are in other datasets; copy them into this one"
            )
        if plan.get_external_count():
            raise DataError("E111", f"{self._shown} has its data in another file; copy them into this one")
        for i in range(plan.get_nfilters()):
            code = plan.get_filter(i)[0]
            if code not in FILTERS:
                raise DataError(
                    "E112",
                    f"{self._shown} needs filter {code}, and gzip, lzf, szip and shuffle are read; re-save it "
                    "where that filter works (h5repack -f GZIP=1 OLD NEW)",
                )
        if plan.get_layout() == h5d.CHUNKED:
            chunk = _size(plan.get_chunk(), self._item.id.get_type().get_size())
            if chunk > MAX_CHUNK:
                raise DataError("E107", f"{self._shown} has chunks of {chunk:,} bytes")

    def _check_size(self) -> None:
        across = math.prod(self.shape[1:]) if self._varies else 0
        if len(self.shape) > MAX_RANK or len(self) > MAX_ROWS or across > MAX_ACROSS:
            raise DataError("E107", f"{self._shown} has the shape {self.shape}")
        stored = int(self._item.id.get_storage_size())
        if stored > self.file.size:
            raise DataError("E105", f"{self._shown} claims {stored:,} bytes of a file of {self.file.size:,}")
        if self.nbytes > max(_SMALL, MAX_RATIO * stored):
            raise DataError("E107", f"{self._shown} declares {self.nbytes:,} bytes and stores {stored:,}")


def decode(value: Any, what: str) -> str:
    """A text of an HDF5 file, which h5py gives as ``str`` or ``bytes``.

    Raises:
        DataError: E212 when it is no UTF-8.
    """
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
    elif isinstance(value, bytes):
        data = value
    else:
        raise DataError("E212", f"{what} is not a text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("E212", f"{what} is not UTF-8") from None


def _is_plain(name: str) -> bool:
    """Whether a name is of one link: HDF5 itself would follow ``a/b`` through links of any kind."""
    return name not in ("", ".") and "/" not in name and "\0" not in name


def _size(shape: tuple[int, ...], item: int) -> int:
    return math.prod(map(int, shape)) * int(item)
