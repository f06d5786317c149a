"""``mask/<key>`` in an HDF5 file of robomimic's or LIBERO's layout: lists of demos, which training is told to use.

The file is never written to: a copy beside it is changed, compared with it, synced, and renamed. Where the file
system can, the copy shares the data with the original and costs nothing.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from vla_data.core import Json
from vla_data.errors import DataError, TargetExistsError, UsageError, VerifyError
from vla_data.files.write import NEW_FILE, check_space, machine_errors, step, sync_folder, unforeseen
from vla_data.names import natural
from vla_data.safety import hdf5
from vla_data.safety.files import open_binary
from vla_data.safety.text import show

_FICLONE: Final = 0x40049409  # linux/fs.h
_PIECE: Final = 16 << 20


def write_masks(
    file: Path, masks: Mapping[str, Sequence[str]], target: Path, *, replace: bool = False
) -> dict[str, Json]:
    """Write a file like ``file`` that has these masks too.

    Args:
        file: an HDF5 file with ``data/<demo>``.
        masks: key -> names of demos. They are written in natural order; an empty list is, too.
        target: what is written; ``file`` itself to replace it by the new one in one step.
        replace: write over masks of the same key, and over a ``target`` that exists and is not ``file``.

    Returns:
        ``masks`` (key -> number of demos), ``shared`` (whether the copy shares the original's data), ``compared``
        (bytes of data that were read and compared).

    Raises:
        UsageError: E001 for a demo that is not there or named twice, or a key that can't be one; E002 for a file
            that is not of such a layout.
        TargetExistsError: E411 for a target or a mask that exists.
        VerifyError: E601, the copy is not the original with these masks.
        MachineError: the machine failed; the original is as it was.
    """
    wanted = _plan(file, masks, target, replace=replace)
    real = target.resolve()  # a link to the file stays one
    beside = unforeseen(real)
    with machine_errors("cannot write the masks"):
        try:
            step("open", beside)
            shared = _copy(file, beside)
            step("write", beside)
            _change(beside, wanted)
            compared = _compare(file, beside, wanted)
            with beside.open("rb") as handle:
                step("fsync", beside)
                os.fsync(handle.fileno())
            shutil.copymode(file, beside)
            step("rename", real)
            os.replace(beside, real)
            sync_folder(real.parent)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise
    return {
        "masks": {key: len(names) for key, names in wanted.items()},
        "shared": shared,
        "compared": compared,
    }


def check_masks(
    file: Path, masks: Mapping[str, Sequence[str]], target: Path, *, replace: bool = False
) -> dict[str, Json]:
    """What `write_masks` would write, ``masks`` (key -> number of demos), after every check that needs no copy.

    Raises:
        UsageError, TargetExistsError: as `write_masks`.
    """
    return {"masks": {key: len(names) for key, names in _plan(file, masks, target, replace=replace).items()}}


def _plan(file: Path, masks: Mapping[str, Sequence[str]], target: Path, *, replace: bool) -> dict[str, list[str]]:
    """The masks in order, after every check that needs no copy."""
    same = target.exists() and file.exists() and target.samefile(file)
    if target.exists() and not same and not (replace and target.is_file()):
        raise TargetExistsError("E411", f"{show(target)} exists; --replace replaces it")
    if not file.is_file():
        raise UsageError("E003", f"{show(file)} is not a file")
    try:
        opened = hdf5.File(file, root=file.parent.resolve())
        try:
            top = opened.top
            demos = set(top.group("data").names())
            there = set(top.group("mask").names()) if "mask" in top else set()
            if "mask" in top and replace:
                for key in there & masks.keys():
                    top.group("mask").table(key)  # no link to elsewhere
        finally:
            opened.close()
    except DataError as error:
        raise UsageError("E002", f"{show(file)} is not a robomimic or LIBERO file: {error.message}") from None
    out = {}
    for key, names in sorted(masks.items()):
        if not key or "/" in key or "\0" in key or key == ".":
            raise UsageError("E001", f"{show(key)!r} can't be the name of a mask")
        if len(set(names)) != len(names):
            raise UsageError("E001", f"mask {show(key)} names a demo twice")
        if missing := [name for name in names if name not in demos]:
            raise UsageError(
                "E001", f"mask {show(key)} names {show(missing[0])}, which {show(file)} does not have"
            )
        if key in there and not replace:
            raise TargetExistsError("E411", f"{show(file)} has a mask {show(key)}; --replace replaces it")
        out[key] = sorted(names, key=natural)
    return out


def _copy(file: Path, beside: Path) -> bool:
    """Copy a file's bytes; whether the copy shares them with the original."""
    with open_binary(file, root=file.parent) as source, os.fdopen(os.open(beside, NEW_FILE, 0o600), "wb") as copy:
        with suppress(OSError):
            fcntl.ioctl(copy.fileno(), _FICLONE, source.fileno())
            return True
        size = os.fstat(source.fileno()).st_size
        check_space(beside.parent, size)
        shutil.copyfileobj(source, copy, _PIECE)
        if copy.tell() != size:
            raise VerifyError("E601", f"{show(file)} changed while it was copied")
    return False


def _change(path: Path, masks: Mapping[str, Sequence[str]]) -> None:
    hdf5.plugins_off()
    try:
        with h5py.File(path, "r+", locking=False) as file:
            group = file.require_group("mask")
            for key, names in masks.items():
                if key in group:
                    del group[key]
                # robomimic's own form: an array of bytes
                group.create_dataset(key, data=np.asarray(names, dtype="S"), track_times=False)
    except OSError as error:
        if error.errno is not None:
            raise
        raise UsageError("E002", f"HDF5 can't change the file ({show(error, escaped=True)})") from None
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UsageError("E002", f"HDF5 can't change the file ({show(error, escaped=True)})") from None


def _compare(file: Path, copy: Path, masks: Mapping[str, Sequence[str]]) -> int:
    """Compare the copy with the original, both read anew; returns how many bytes of data that were."""
    try:
        with (
            # As a stream: by its name HDF5 would not open it beside somebody's File of it with other settings.
            open_binary(file, root=file.parent) as stream,
            h5py.File(stream, "r") as a,
            h5py.File(copy, "r", locking=False) as b,
        ):
            found = {key: [name.decode() for name in b["mask"][key][:]] for key in masks}
            if found != {key: list(names) for key, names in masks.items()}:
                raise VerifyError("E601", "the masks that were written are not those that were read back")
            skip = {f"mask/{key}" for key in masks}
            before, after = dict(_objects(a, skip)), dict(_objects(b, skip))
            before.setdefault("mask", ("group", (), b""))
            if before != after:
                odd = next((p for p in before if after.get(p) != before[p]), "an object")
                raise VerifyError("E601", f"{show(odd)} of the copy is not that of the original")
            with open_binary(file, root=file.parent) as x, copy.open("rb") as y:
                return sum(_same_bytes(x, y, at, size) for at, size in _extents(a, skip))
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise VerifyError("E601", f"the copy can't be read back ({type(error).__name__})") from None


def _objects(file: h5py.File, skip: set[str]) -> Iterator[tuple[str, Any]]:
    """Path -> what describes an object: attributes, and of a dataset its type, shape, filters, place and size."""
    yield "", ("group", _attributes(file), b"")
    found: list[tuple[str, Any]] = []

    def visit(path: str, item: Any) -> None:
        if path in skip:
            return
        if isinstance(item, h5py.Dataset):
            plan = item.id.get_create_plist()
            if plan.get_layout() == h5py.h5d.VIRTUAL or plan.get_external_count():
                raise UsageError("E111", f"{show(path)} has its data in other files, which are not read")
            facts = (item.dtype.str, item.shape, item.id.get_storage_size(), tuple(_places(item)), _values(item))
            found.append((path, ("dataset", _attributes(item), facts)))
        else:
            found.append((path, ("group", _attributes(item), b"")))

    file.visititems(visit)
    yield from found


def _attributes(item: Any) -> tuple[Any, ...]:
    return tuple(sorted((name, repr(np.asarray(item.attrs[name]).tolist())) for name in item.attrs))


def _places(item: h5py.Dataset) -> list[tuple[int, int]]:
    """(offset, bytes) of a dataset's data in the file."""
    if item.chunks is None:
        at = item.id.get_offset()
        return [] if at is None else [(int(at), int(item.id.get_storage_size()))]
    out: list[tuple[int, int]] = []
    item.id.chunk_iter(lambda chunk: out.append((int(chunk.byte_offset), int(chunk.size))))
    return out


def _values(item: h5py.Dataset) -> Any:
    """Values that lie elsewhere than `_places` says: of no fixed size, or in the dataset's own header."""
    elsewhere = item.dtype.hasobject or item.id.get_create_plist().get_layout() == h5py.h5d.COMPACT
    return repr(np.asarray(item[()]).tolist()) if elsewhere and item.shape is not None else ""


def _extents(file: h5py.File, skip: set[str]) -> list[tuple[int, int]]:
    out: set[tuple[int, int]] = set()

    def visit(path: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and path not in skip:
            out.update(_places(item))

    file.visititems(visit)
    return sorted(out)


def _same_bytes(x: Any, y: Any, at: int, size: int) -> int:
    for start in range(at, at + size, _PIECE):
        x.seek(start)
        y.seek(start)
        piece = min(_PIECE, at + size - start)
        if x.read(piece) != y.read(piece):
            raise VerifyError(
                "E601", f"bytes {start:,} to {start + piece:,} of the copy are not those of the original"
            )
    return size
