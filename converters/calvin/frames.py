"""One frame of CALVIN's: an npz file, read without trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from vla_data.core import Array
from vla_data.errors import DataError
from vla_data.media.images import MAX_SIDE, Pixels
from vla_data.safety import npy
from vla_data.safety.archive import Archive
from vla_data.safety.files import read_file
from vla_data.safety.text import show

MAX_FILE: Final = 64 << 20  # bytes of a frame, packed and unpacked
_SUFFIX: Final = ".npy"
_IMAGE: Final = "rgb_"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image of a frame, which is read when somebody looks at it.

    Attributes:
        path: of the frame.
        root: of the dataset.
        key: of the array.
        size: height and width that it must have.
    """

    path: Path
    root: Path
    key: str
    size: tuple[int, int]

    def pixels(self) -> Pixels:
        """``(height, width, 3)`` uint8 RGB.

        Raises:
            DataError: E203, it is of another kind or size than that of the first frame.
        """
        archive, _ = _open(self.path, self.root)
        found = _array(archive, self.key, self.path.name)
        if found.dtype != np.uint8 or found.shape != (*self.size, 3):
            raise DataError(
                "E203", f"{self.key} of {self.path.name} is {found.dtype}{found.shape}, unlike the first"
            )
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is in a frame.

    Attributes:
        sha256: of the file.
        numbers: name -> array.
        pictures: name -> image.
        sizes: height and width of each image.
        left_out: names of arrays that were not wanted.
    """

    sha256: str
    numbers: Mapping[str, Array]
    pictures: Mapping[str, Picture]
    sizes: Mapping[str, tuple[int, int]]
    left_out: tuple[str, ...]


def read_frame(path: Path, *, root: Path, wanted: Callable[[str], bool], first: Frame | None) -> Frame:
    """Read one frame, and hold it against the episode's first.

    Args:
        path: the file.
        root: of the dataset.
        wanted: whether somebody wants an array of this name.
        first: the episode's first frame; None: this is it.

    Raises:
        DataError: E133 and others as `vla_data.safety.files.read_file` and ``npy``; E203 for a frame that has
            other arrays than the first one, or of another type or size.
    """
    archive, sha256 = _open(path, root)
    names = sorted(name.removesuffix(_SUFFIX) for name in archive.names if name.endswith(_SUFFIX))
    if odd := [name for name in archive.names if not name.endswith(_SUFFIX)]:
        raise DataError("E102", f"{path.name} has {show(odd[0])[:80]}, which is no array")
    left_out = tuple(name for name in names if not wanted(name))
    numbers: dict[str, Array] = {}
    sizes: dict[str, tuple[int, int]] = {}
    for name in names:
        if name in left_out:
            continue
        if first is not None and name in first.sizes:
            sizes[name] = first.sizes[name]  # its pixels are held against the first's when somebody looks
            continue
        array = _array(archive, name, path.name)
        if name.startswith(_IMAGE) and array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
            if max(array.shape) > MAX_SIDE:
                raise DataError("E107", f"{name} of {path.name} has {array.shape[1]:,}x{array.shape[0]:,} pixels")
            sizes[name] = (array.shape[0], array.shape[1])
        elif array.dtype.kind not in "biuf":
            raise DataError(
                "E203", f"{name} of {path.name} is {array.dtype}, no numbers; leave_out does without it"
            )
        else:
            numbers[name] = array
    if first is not None:
        _compare(path.name, numbers, sizes, first)
    pictures = {name: Picture(path, root, name, size) for name, size in sizes.items()}
    return Frame(sha256=sha256, numbers=numbers, pictures=pictures, sizes=sizes, left_out=left_out)


def _open(path: Path, root: Path) -> tuple[Archive, str]:
    try:
        data, sha256 = read_file(path, root=root, max_bytes=MAX_FILE)
    except DataError as error:  # of thousands of files the name is what helps
        raise DataError(error.code, f"{path.name}: {error.message}") from None
    return Archive(data, name=path.name, max_bytes=MAX_FILE), sha256


def _array(archive: Archive, name: str, file: str) -> Array:
    found = npy.loads(archive.read(f"{name}{_SUFFIX}"), name=f"{show(name)} of {file}")
    if not isinstance(found, np.ndarray):
        raise DataError("E203", f"{show(name)} of {file} is no array")
    return found


def _compare(file: str, numbers: Mapping[str, Array], sizes: Mapping[str, object], first: Frame) -> None:
    for what, mine, theirs in (("arrays", numbers, first.numbers), ("images", sizes, first.sizes)):
        if mine.keys() != theirs.keys():
            odd = sorted(mine.keys() ^ theirs.keys())[0]
            raise DataError("E203", f"{file} has other {what} than the first frame: {show(odd)}")
    for name, array in numbers.items():
        want = first.numbers[name]
        if (array.dtype, array.shape) != (want.dtype, want.shape):
            text = f"{show(name)} of {file} is {array.dtype}{array.shape}, not {want.dtype}{want.shape}"
            raise DataError("E203", text)
